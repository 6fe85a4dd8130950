"""Tokens of dead letters: what is streamed once, in which order, and what was streamed before."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_kinesis_snowflake.engine.reader import gap_letter
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.sinks.snowflake.streaming import letters_after, place_of_letter
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.records import Record
from airflow_kinesis_snowflake.stream.retention import Gap
from airflow_kinesis_snowflake.stream.times import millis

NOON = datetime.fromisoformat("2026-03-04T12:00:00+00:00")


def letter(number: int) -> DeadLetter:
    return DeadLetter(Record(sequence_number=str(number), approximate_arrival=0.0, data=b"?"), "not JSON")


def gap(
    beside: int, *, began: datetime = NOON, minutes: int | None = 1, found: timedelta = timedelta(hours=1)
) -> DeadLetter:
    ended = None if minutes is None else began + timedelta(minutes=minutes)
    return gap_letter(Gap("shard", began, ended), Position(str(beside)), now=millis(NOON + found))


def stream(token: str | None, *letters: DeadLetter) -> str | None:
    """Commit all that is to be committed, each alone; the last token."""
    for each, _ in letters_after(token, letters):
        assert token is None or each > token
        token = each
    return token


def left(token: str | None, *letters: DeadLetter) -> list[DeadLetter]:
    return [each for _, each in letters_after(token, letters)]


def test_dead_letters_are_streamed_in_the_order_of_their_records_and_none_again() -> None:
    letters = [letter(12), gap(11), letter(11), letter(13)]
    assert left(None, *letters) == [letter(11), letter(12), letter(13), gap(11)]
    token = stream(None, *letters[:3])
    assert left(token, *letters) == [letter(13)]


def test_a_gap_before_dead_letters_whose_rows_were_lost_is_streamed_once() -> None:
    token = stream(None, letter(15))
    assert left(token, gap(10), letter(15), letter(16)) == [letter(16), gap(10)]
    token = stream(token, gap(10))
    assert left(token, gap(10), letter(15)) == []
    assert place_of_letter(token) == Position("15")
    assert left(token, letter(16)) == [letter(16)]


def test_of_several_gaps_behind_one_record_each_is_streamed_once() -> None:
    longer, later, open_ended = (
        gap(10, minutes=2),
        gap(10, began=NOON + timedelta(hours=1)),
        gap(10, minutes=None),
    )
    for first, second in ((gap(10), longer), (longer, open_ended), (gap(10), later)):
        token = stream(None, first)
        assert left(token, second) == [second]
        assert left(stream(token, second), first, second) == []


def test_a_gap_before_anything_was_streamed_keeps_no_dead_letter_back() -> None:
    token = stream(None, gap(10))
    assert place_of_letter(token) is None
    assert left(token, letter(11)) == [letter(11)]


def test_a_gap_beside_an_aggregate_keeps_no_dead_letter_of_its_user_records_back() -> None:
    user = DeadLetter(
        Record(sequence_number="10", approximate_arrival=0.0, data=b"?", sub_sequence_number=2), "not JSON"
    )
    assert left(stream(None, gap(10)), gap(10), user) == [user]


def test_what_came_and_went_after_a_gap_without_an_end_is_another_gap() -> None:
    token = stream(None, gap(10, minutes=None))
    assert left(token, gap(10, minutes=None)) == []
    day_after = gap(10, minutes=None, found=timedelta(days=1))
    assert left(token, day_after) == [day_after]
    some_left = gap(10, minutes=23 * 60)
    assert left(token, some_left) == [some_left]
