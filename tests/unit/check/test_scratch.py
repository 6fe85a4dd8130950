"""What a check may remove: what a check made, and long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_kinesis_snowflake.check.scratch import LEFT_AFTER, leftovers, scratch_name

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_name_says_when_it_was_given() -> None:
    assert scratch_name(NOW, "0123ABCD") == "KINESIS_CHECK_20260131T120000Z_0123ABCD"


def test_what_is_older_is_left_and_what_may_be_in_use_is_not() -> None:
    old = scratch_name(NOW - LEFT_AFTER - timedelta(seconds=1), "0123ABCD")
    new = scratch_name(NOW - LEFT_AFTER, "0123ABCD")
    future = scratch_name(NOW + timedelta(days=1), "0123ABCD")
    assert leftovers([old, new, future], now=NOW, after=LEFT_AFTER) == [old]


@pytest.mark.parametrize(
    "name",
    [
        "PUBLIC",
        "KINESIS_CHECK_",
        "KINESIS_CHECK_OF_MINE",
        "KINESIS_CHECK_20000101T000000Z",
        "KINESIS_CHECK_20000101T000000Z_0123ABCD_COPY",
        "MY_KINESIS_CHECK_20000101T000000Z_0123ABCD",
        "kinesis_check_20000101T000000Z_0123ABCD",
        "KINESIS_CHECK_20009901T000000Z_0123ABCD",
    ],
)
def test_what_no_check_made_is_never_taken_for_left(name: str) -> None:
    assert leftovers([name], now=NOW, after=timedelta(0)) == []
