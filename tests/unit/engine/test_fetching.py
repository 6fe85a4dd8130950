"""When pages are asked for: each shard in its turn, one page at a time, and only so much at once."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.engine.fetching import (
    BYTES_UNDER_WAY,
    FETCHERS,
    MAX_SLOW,
    SLOW_SECONDS,
    Call,
    Fetching,
)
from airflow_kinesis_snowflake.engine.reader import EncodedPage, ShardReader
from airflow_kinesis_snowflake.engine.status import Status
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.lineage import Shard

PAUSE_SECONDS = 0.2


class Desk:
    """A coordinator in miniature: asks at given times, and takes what arrives."""

    def __init__(self) -> None:
        self.fetching = Fetching(PAUSE_SECONDS)
        self.calls: list[Call] = []
        self.now = 0.0

    def request(self, now: float) -> None:
        self.now = now
        self.calls += self.fetching.due(now)

    @property
    def asked(self) -> list[str]:
        return [call.reader.shard_id for call in self.calls]

    def arrival(self, shard_id: str = "a") -> bool:
        """Let the page of a shard arrive; whether it is wanted."""
        call = next(call for call in self.calls if call.reader.shard_id == shard_id)
        self.calls.remove(call)
        return self.fetching.ended(call, now=self.now)

    def take(self, reader: ShardReader) -> None:
        """Accept the next page, and plan the one after it."""
        assert self.arrival(reader.shard_id)
        page = EncodedPage(
            encoded=None,
            reached=None,
            cursor=None,
            millis_behind=0,
            finish=None,
            asked_at=self.now,
            pause_seconds=PAUSE_SECONDS,
        )
        reader.accept(page, caught_up_at=0)
        self.fetching.plan(reader)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def a_reader(name: str = "a", *, page_bytes: int = 0) -> ShardReader:
    reader = ShardReader(ShardState(name), committed=None, shard=Shard(name))
    reader.page_bytes = page_bytes
    return reader


def test_a_shard_is_asked_again_no_sooner_than_a_fifth_of_a_second_later(desk: Desk) -> None:
    reader = a_reader()
    desk.fetching.plan(reader)
    desk.request(100.0)
    desk.take(reader)

    desk.request(100.0 + PAUSE_SECONDS - 0.001)
    assert desk.fetching.under_way == 0
    assert desk.fetching.next_due() == 100.0 + PAUSE_SECONDS
    desk.request(100.0 + PAUSE_SECONDS)
    assert desk.fetching.under_way == 1


def test_a_shard_is_asked_for_one_page_at_a_time_however_often_it_is_planned(desk: Desk) -> None:
    reader = a_reader()
    desk.fetching.plan(reader)
    desk.fetching.plan(reader)
    desk.request(100.0)
    assert desk.fetching.under_way == 1


def test_the_shard_that_is_due_first_is_asked_first(desk: Desk) -> None:
    later, sooner = a_reader("later"), a_reader("sooner")
    later.due, sooner.due = 2.0, 1.0
    desk.fetching.plan(later)
    desk.fetching.plan(sooner)
    desk.request(1.5)
    assert desk.asked == ["sooner"]


def test_a_shard_that_was_finished_meanwhile_is_not_asked(desk: Desk) -> None:
    reader = a_reader()
    desk.fetching.plan(reader)
    reader.leave_off(Status.FAILED)
    desk.request(1.0)
    assert desk.fetching.under_way == 0


def test_the_bytes_under_way_are_bounded_by_what_pages_were_like(desk: Desk) -> None:
    for name in "abc":
        desk.fetching.plan(a_reader(name, page_bytes=BYTES_UNDER_WAY // 2))
    desk.request(1.0)
    assert desk.fetching.under_way == 2
    assert desk.fetching.next_due() == float("inf")
    desk.arrival()
    desk.request(1.0)
    assert desk.fetching.under_way == 2


def test_a_page_larger_than_the_bound_is_asked_for_alone(desk: Desk) -> None:
    for name in "ab":
        desk.fetching.plan(a_reader(name, page_bytes=2 * BYTES_UNDER_WAY))
    desk.request(1.0)
    assert desk.fetching.under_way == 1


def test_a_page_that_was_asked_for_before_a_rewind_is_not_taken(desk: Desk) -> None:
    reader = a_reader()
    desk.fetching.plan(reader)
    desk.request(1.0)
    reader.rewind(None)
    assert not desk.arrival()
    assert desk.fetching.under_way == 0


def test_a_rewound_shard_is_asked_again_once_the_call_under_way_has_ended(desk: Desk) -> None:
    reader = a_reader()
    desk.fetching.plan(reader)
    desk.request(1.0)
    reader.rewind(None)
    desk.fetching.plan(reader)
    desk.request(3.0)
    assert desk.fetching.under_way == 1

    desk.arrival()
    assert desk.fetching.next_due() == 3.0 + PAUSE_SECONDS
    desk.request(3.0 + PAUSE_SECONDS)
    desk.take(reader)


def test_a_shard_that_was_left_off_is_not_asked_again_when_its_call_ends(desk: Desk) -> None:
    reader = a_reader()
    desk.fetching.plan(reader)
    desk.request(1.0)
    reader.leave_off(Status.HANDED_OVER)
    desk.arrival()
    desk.request(9.0)
    assert desk.fetching.under_way == 0


# --- shards that don't answer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "page_bytes"),
    [
        pytest.param(FETCHERS, 0, id="all fetchers wait for them"),
        pytest.param(2, BYTES_UNDER_WAY // 2, id="their pages leave no room for others"),
    ],
)
def test_shards_that_hang_hold_up_no_other(desk: Desk, count: int, page_bytes: int) -> None:
    hanging = [f"hangs {number}" for number in range(count)]
    for name in (*hanging, "answers"):
        desk.fetching.plan(a_reader(name, page_bytes=page_bytes))
    desk.request(1.0)

    desk.request(1.0 + SLOW_SECONDS)

    assert desk.asked == [*hanging, "answers"]
    assert desk.fetching.threads > count


def test_so_many_shards_may_hang_and_no_more(desk: Desk) -> None:
    """Their pages are as large as those of others when they come at last."""
    for number in range(MAX_SLOW + 2):
        desk.fetching.plan(a_reader(f"hangs {number}", page_bytes=2 * BYTES_UNDER_WAY))
    for look in range(2 * MAX_SLOW):
        desk.request(1.0 + look * SLOW_SECONDS)
    assert desk.fetching.under_way == MAX_SLOW + 1


def test_a_shard_that_answers_at_last_takes_its_turn_with_the_others_again(desk: Desk) -> None:
    desk.fetching.plan(a_reader("a", page_bytes=BYTES_UNDER_WAY))
    desk.request(1.0)
    desk.request(1.0 + SLOW_SECONDS)
    desk.arrival()

    for name in "bc":
        desk.fetching.plan(a_reader(name, page_bytes=BYTES_UNDER_WAY))
    desk.request(2.0 + SLOW_SECONDS)
    assert desk.fetching.under_way == 1
    assert desk.fetching.threads == FETCHERS
