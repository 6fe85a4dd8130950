"""How many dead letters are too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit


@pytest.mark.parametrize("given_", [None, "", "None", " "])
def test_nothing_given_allows_any_number(given_: str | None) -> None:
    assert DeadLetterLimit.parse(given_).allowed(10, before=10**9) is None


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_number_is_that_of_the_whole_drain(count: int, before: int, records: int) -> None:
    allowed = DeadLetterLimit.parse(count).allowed(records, before=before)
    assert (
        allowed == DeadLetterLimit.parse(str(count)).allowed(records, before=before) == max(0, count - before)
    )


@given(st.integers(0, 100), st.integers(0, 1000))
def test_a_share_is_that_of_each_batch_and_exact(percent: int, records: int) -> None:
    assert DeadLetterLimit.parse(f"{percent}%").allowed(records, before=5) == percent * records // 100


@pytest.mark.parametrize("text", ["0", "7", "5%", "0.5%", "100%", "33.25%"])
def test_it_is_written_as_it_was_given(text: str) -> None:
    assert str(DeadLetterLimit.parse(text)) == text


@pytest.mark.parametrize("text", ["-1", -1, "101%", "5 percent", "1.5", "%", True, "१%x"])
def test_what_is_neither_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="neither a number"):
        DeadLetterLimit.parse(text)
