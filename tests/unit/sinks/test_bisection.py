"""The rows that are refused are found, whichever they are, and not too many tries are made for it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.sinks.snowflake.bisection import find_refused

files = st.integers(1, 300).flatmap(
    lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1, max_size=20))
)


class Service:
    """Refuses what holds a bad row, and counts how often it is asked."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.tries = 0

    def refusal(self, begin: int, end: int) -> str | None:
        self.tries += 1
        first = min((row for row in self.bad if begin <= row < end), default=None)
        return None if first is None else f"row {first}"


@given(files)
def test_exactly_the_bad_rows_are_found_each_with_its_reason(file: tuple[int, set[int]]) -> None:
    count, bad = file
    service = Service(bad)
    assert find_refused(count, service.refusal, most=len(bad)) == {row: f"row {row}" for row in sorted(bad)}


@given(files)
def test_more_than_may_be_are_not_looked_for(file: tuple[int, set[int]]) -> None:
    count, bad = file
    assert find_refused(count, Service(bad).refusal, most=len(bad) - 1) is None


@given(st.integers(1, 10**6), st.data())
def test_one_bad_row_takes_few_tries(count: int, data: st.DataObject) -> None:
    service = Service({data.draw(st.integers(0, count - 1))})
    assert find_refused(count, service.refusal, most=100) is not None
    assert service.tries <= 2 * math.ceil(math.log2(count)) + 1


def test_a_file_of_bad_rows_takes_few_tries_to_give_up() -> None:
    service = Service(set(range(10**4)))
    assert find_refused(10**4, service.refusal, most=100) is None
    assert service.tries <= 400


@given(st.integers(2, 300))
def test_rows_that_are_refused_only_together_are_not_taken_for_bad(count: int) -> None:
    def refusal(begin: int, end: int) -> str | None:
        return "too many" if end - begin > 1 else None

    assert find_refused(count, refusal, most=count) == {}
