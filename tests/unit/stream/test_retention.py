"""Whose checkpoint it is, and whether records behind it may be gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.retention import (
    MARGIN,
    Gap,
    may_have_aged_out,
    read_until,
    why_foreign,
)

CREATED = 1_700_000_000
NOW = datetime.fromtimestamp(CREATED + 100_000, UTC)
DAY = timedelta(days=1)


def number(*, shard: int = 1, created: int = CREATED, written: int = CREATED, count: int = 0) -> str:
    """A sequence number of the layout that Kinesis gives out."""
    digits = f"2{created:09x}{shard & 0xF:x}{count:016x}00{written:09x}{shard:08x}2"
    return str(int(digits, 16))


def shard_with(starting: str | None) -> Shard:
    return Shard("shardId-000000000001", starting_sequence_number=starting)


# --- whose checkpoint --------------------------------------------------------------------------------------


@given(st.integers(0, 90_000), st.integers(0, 2**60))
def test_a_shard_knows_every_number_it_gave_out(seconds: int, count: int) -> None:
    checkpoint = Position(number(written=CREATED + seconds, count=count))
    assert why_foreign(checkpoint, shard_with(number()), now=NOW) is None


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        pytest.param(number(shard=2), "was assigned by shard number 2", id="another shard"),
        pytest.param(number(shard=17), "was assigned by shard number 17", id="one with the same last digit"),
        pytest.param(
            number(created=CREATED - 1), "by a shard created at 2023-11-14 22:13:19", id="an earlier stream"
        ),
        pytest.param(
            number(written=CREATED + 200_000), "written at 2023-11-17 05:46:40", id="a record to come"
        ),
    ],
)
def test_a_number_of_other_origin_is_told_with_the_reason(checkpoint: str, reason: str) -> None:
    assert reason in str(why_foreign(Position(checkpoint), shard_with(number()), now=NOW))


def test_the_number_of_another_shard_of_the_same_age_is_only_a_doubt() -> None:
    """Kinesis refuses a number that it didn't give out, so there is no need to trust an unwritten layout."""
    doubt = why_foreign(Position(number(shard=2)), shard_with(number()), now=NOW)
    assert doubt is not None
    assert not doubt.certain


@pytest.mark.parametrize("checkpoint", [number(created=CREATED - 1), number(written=CREATED + 200_000)])
def test_a_number_of_another_time_is_foreign_for_certain(checkpoint: str) -> None:
    doubt = why_foreign(Position(checkpoint), shard_with(number()), now=NOW)
    assert doubt is not None
    assert doubt.certain


def test_a_layout_that_contradicts_the_name_of_the_shard_says_nothing() -> None:
    """Some emulators give a merged shard the first sequence number of its parent."""
    parents = shard_with(number(shard=0, created=CREATED - 500))
    assert why_foreign(Position(number(shard=1)), parents, now=NOW) is None


def test_a_clock_that_is_a_little_ahead_makes_no_number_foreign() -> None:
    ahead = Position(number(written=int((NOW + MARGIN).timestamp())))
    assert why_foreign(ahead, shard_with(number()), now=NOW) is None


@pytest.mark.parametrize(
    ("checkpoint", "starting"), [("17", number()), (number(shard=2), "1"), (number(shard=2), None)]
)
def test_numbers_that_tell_nothing_speak_against_nothing(checkpoint: str, starting: str | None) -> None:
    assert why_foreign(Position(checkpoint), shard_with(starting), now=NOW) is None


# --- how far a shard was read ------------------------------------------------------------------------------

WRITTEN = datetime.fromtimestamp(CREATED + 500, UTC)


@pytest.mark.parametrize(
    ("checkpoint", "caught_up_at", "until"),
    [
        (None, None, None),
        (None, WRITTEN, WRITTEN),
        (Position("17"), None, None),
        (Position("17"), WRITTEN, WRITTEN),
        (Position(number(written=CREATED + 500)), None, WRITTEN),
        (Position(number(written=CREATED)), WRITTEN, WRITTEN),
        (Position(number(written=CREATED + 500)), WRITTEN - DAY, WRITTEN),
    ],
)
def test_a_shard_was_read_until_the_later_of_its_checkpoint_and_its_last_drain(
    checkpoint: Position | None, caught_up_at: datetime | None, until: datetime | None
) -> None:
    assert read_until(checkpoint, caught_up_at=caught_up_at) == until


@pytest.mark.parametrize(
    ("until", "doubtful"),
    [
        pytest.param(None, True, id="nobody knows"),
        pytest.param(NOW, False, id="just now"),
        pytest.param(NOW - DAY + MARGIN, False, id="well inside"),
        pytest.param(NOW - DAY + MARGIN - timedelta(seconds=1), True, id="close to the limit"),
        pytest.param(NOW - 2 * DAY, True, id="long ago"),
    ],
)
def test_what_was_read_longer_ago_than_records_are_kept_is_in_doubt(
    until: datetime | None, doubtful: bool
) -> None:
    assert may_have_aged_out(until, retention=DAY, now=NOW) is doubtful


# --- what is said of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "text"),
    [
        (
            Gap("s", loaded_until=WRITTEN, oldest_available=NOW),
            "records of s that arrived between 2023-11-14 22:21:40 UTC and 2023-11-16 02:00:00 UTC",
        ),
        (
            Gap("s", loaded_until=None, oldest_available=None),
            "records of s that arrived between an unknown time and now",
        ),
    ],
)
def test_a_gap_says_from_when_to_when(gap: Gap, text: str) -> None:
    assert str(gap) == text


def test_a_gap_becomes_json() -> None:
    assert Gap("s", loaded_until=WRITTEN, oldest_available=None).as_dict() == {
        "shard_id": "s",
        "loaded_until": "2023-11-14T22:21:40+00:00",
        "oldest_available": None,
    }
