"""Numbers in sentences."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.words import ago, counted, duration, named

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("millis", "text"),
    [
        (-5, "0 s"),
        (999, "0 s"),
        (59 * SECOND, "59 s"),
        (MINUTE + 40 * SECOND, "1 min"),
        (2 * HOUR, "2 h"),
        (2 * HOUR + 10 * MINUTE, "2 h 10 min"),
        (2 * HOUR + 40 * SECOND, "2 h"),
        (3 * DAY + 4 * HOUR + 5 * MINUTE, "3 d 4 h"),
        (3 * DAY + 5 * MINUTE, "3 d"),
        (10**30 * DAY, f"{10**30} d"),
    ],
)
def test_a_duration_has_its_two_largest_units(millis: int, text: str) -> None:
    assert duration(millis) == text


def test_a_moment_is_told_from_now() -> None:
    assert (ago(0, 500), ago(0, 4 * MINUTE), ago(2 * HOUR, 0)) == ("just now", "4 min ago", "2 h from now")


def test_of_no_time_nothing_is_said() -> None:
    assert (duration(None), ago(None, 0)) == ("", "")


def test_nouns_follow_their_number() -> None:
    assert (counted(0, "shard"), counted(1, "shard"), counted(2000, "shard")) == (
        "0 shards",
        "1 shard",
        "2,000 shards",
    )


def test_of_many_names_a_few_are_told() -> None:
    assert (named(("a", "b")), named(("a", "b", "c", "d"), most=2)) == ("a, b", "a, b and 2 more")
