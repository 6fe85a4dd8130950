"""What a coordinator wants done after each event: without a thread, a clock or a service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import commands as do
from airflow_kinesis_snowflake.engine import events as on
from airflow_kinesis_snowflake.engine.assignment import Candidate
from airflow_kinesis_snowflake.engine.batch import Batch, BatchLimits
from airflow_kinesis_snowflake.engine.coordinator import (
    LEAVE_GRACE_SECONDS,
    LOAD_GRACE_SECONDS,
    LOOK_AGAIN_SECONDS,
    REVIEW_SECONDS,
    Coordinator,
    Phase,
)
from airflow_kinesis_snowflake.engine.fetching import FETCHERS, SLOW_SECONDS
from airflow_kinesis_snowflake.engine.intake import Acquisition, Settlement
from airflow_kinesis_snowflake.engine.loading import LoadResult
from airflow_kinesis_snowflake.engine.reader import (
    END_SECONDS,
    FAILURES_BEFORE_GIVING_UP,
    EncodedPage,
    ShardReader,
)
from airflow_kinesis_snowflake.engine.report import DrainReport
from airflow_kinesis_snowflake.engine.settings import DrainSettings
from airflow_kinesis_snowflake.engine.status import IllegalTransitionError, Status
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    DataLossError,
    DrainStoppedError,
    ServiceUnavailableError,
    ThrottledError,
    TooManyDeadLettersError,
    UnreadablePageError,
)
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.stream.records import Record
from airflow_kinesis_snowflake.stream.retention import Gap
from airflow_kinesis_snowflake.testing.sink import FakeRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from airflow_kinesis_snowflake.exceptions import TerminalError

STOP_AT = datetime(2026, 11, 26, tzinfo=UTC)
BEGAN = 100.0
PAUSE_SECONDS = 0.2
SOON = PAUSE_SECONDS / 2
LIMITS = BatchLimits(max_batch_bytes=1e9, max_batch_records=10, max_batch_seconds=60.0)


class StubCursor:
    """Nobody reads it."""

    def read(self, *, limit: int) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Desk:
    """Tells a coordinator what happens, in virtual time, and remembers what it wants."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.report = DrainReport("stream", "application", "DB.RAW.RECORDS", "worker")
        self.coordinator = Coordinator(
            DrainSettings(
                stream_name="stream",
                application_name="application",
                initial_position=TRIM_HORIZON,
                stop_at=STOP_AT,
                **settings,
            ),
            began=BEGAN,
            begin_batch=lambda: Batch(lambda _: FakeRows(), folder, limits=LIMITS),
            report=self.report,
            sink="fake",
            pause_seconds=PAUSE_SECONDS,
        )
        self.now = BEGAN
        self.wanted: list[do.Command] = []
        self.tell(on.Begun())

    def tell(self, event: on.Event, *, after: float = 0.0) -> Desk:
        """Let something happen, some seconds from now."""
        self.now += after
        self.wanted += self.coordinator.handle(event, self.now)
        if self.coordinator.phase is Phase.DRAINING:
            assert self.coordinator.wake_at > self.now, "whoever waits for it would spin"
        return self

    def pass_time(self, seconds: float) -> Desk:
        return self.tell(on.Tick(), after=seconds)

    def take(self, kind: type[do.Command]) -> Any:
        """The one command of a kind that isn't carried out yet; it is now."""
        found = [command for command in self.wanted if isinstance(command, kind)]
        assert len(found) == 1, f"{len(found)} of {kind.__name__} in {self.wanted}"
        self.wanted.remove(found[0])
        return found[0]

    def wants(self, kind: type[do.Command]) -> bool:
        return any(isinstance(command, kind) for command in self.wanted)

    # --- what usually happens ------------------------------------------------------------------------------

    def look(self, *readers: ShardReader, held: Iterable[str] | None = None, **what: Any) -> Desk:
        """Answer a look."""
        self.take(do.Look)
        looked = acquisition(*readers, **what)
        return self.tell(on.Looked(looked, held=frozenset(looked.taken if held is None else held)))

    def begin(self, *shards: str) -> list[ShardReader]:
        """Open, look, and be asked for the pages of some shards."""
        self.open()
        readers = [a_reader(shard_id) for shard_id in shards]
        self.look(*readers)
        return readers

    def open(self) -> Desk:
        self.take(do.Open)
        return self.tell(on.Opened("arn", is_new=False))

    def fetch(self, shard_id: str = "a") -> do.Fetch:
        found = next(each for each in self.fetches if each.request.shard_id == shard_id)
        self.wanted.remove(found)
        return found

    @property
    def fetches(self) -> list[do.Fetch]:
        return [command for command in self.wanted if isinstance(command, do.Fetch)]

    def arrive(self, shard_id: str = "a", *numbers: int, **what: Any) -> Desk:
        """Let the page of a shard arrive, with records of these numbers."""
        command = self.fetch(shard_id)
        arrived = a_page(shard_id, *numbers, asked_at=self.now, **what)
        return self.tell(on.PageArrived(command.call, arrived, time=5))

    def commit(self, **what: Any) -> Desk:
        """Let the load under way end well."""
        batch = self.take(do.Load).batch
        offsets = {shard_id: span.reached for shard_id, span in batch.spans.items()}
        facts: dict[str, Any] = {"committed": True, "offsets": offsets}
        return self.tell(on.LoadEnded(LoadResult(batch, **facts | what)))

    def release(self) -> Mapping[str, do.LastFacts]:
        shards: Mapping[str, do.LastFacts] = self.take(do.Release).shards
        self.tell(on.Released())
        return shards

    def part(self) -> Mapping[str, do.LastFacts]:
        """Let leases be released: those of shards that are finished, or after a stop."""
        if self.wants(do.Release):
            return self.release()
        self.tell(on.StopAsked())
        return self.leave()

    def leave(self) -> Mapping[str, do.LastFacts]:
        shards: Mapping[str, do.LastFacts] = self.take(do.Leave).shards
        self.tell(on.Left())
        assert self.coordinator.over
        return shards


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def a_reader(shard_id: str = "a", *, committed: Position | None = None, **what: Any) -> ShardReader:
    return ShardReader(ShardState(shard_id), committed=committed, shard=Shard(shard_id), **what)


def acquisition(*readers: ShardReader, **what: Any) -> Acquisition:
    nothing: dict[str, Any] = {"takeovers": (), "refused": {}, "gaps": (), "missed": {}, "held_by_others": {}}
    return Acquisition(readers, **nothing | {"surplus": 0, "left_some": False, "listed": 1} | what)


def a_page(shard_id: str, *numbers: int, **what: Any) -> EncodedPage:
    records = [Record(sequence_number=str(number), approximate_arrival=0.0, data=b"{}") for number in numbers]
    encoded = EnvelopeMapping().encode(records, stream_name="stream", shard_id=shard_id) if records else None
    facts: dict[str, Any] = {
        "encoded": encoded,
        "reached": Position(str(numbers[-1])) if numbers else None,
        "cursor": None,
        "millis_behind": 0,
        "finish": None,
        "pause_seconds": PAUSE_SECONDS,
    }
    return EncodedPage(**facts | what)


def caught_up() -> dict[str, Any]:
    return {"finish": Status.CAUGHT_UP, "at_tip": True}


def candidate(shard_id: str) -> Candidate:
    return Candidate(ShardState(shard_id), takeover=True)


# --- from the beginning to the end -------------------------------------------------------------------------


def test_a_stream_is_opened_looked_at_read_loaded_and_released(desk: Desk) -> None:
    desk.open()
    assert desk.wanted == [do.Look(relist=True, leave_alone=frozenset())]
    desk.look(a_reader())

    desk.arrive("a", 1, 2)
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", **caught_up())
    desk.commit()
    facts = desk.release()

    assert facts == {"a": do.LastFacts(ended=False, unsettled=False, millis_behind=0, caught_up_at=5)}
    assert desk.leave() == {}
    assert (desk.coordinator.error, desk.coordinator.combined_failure()) == (None, None)
    assert (desk.report.records, desk.report.shards["a"].outcome) == (2, "caught_up")


def test_a_drain_that_finds_nothing_does_nothing(desk: Desk) -> None:
    desk.begin()
    assert desk.leave() == {}
    assert desk.wanted == []


def test_a_stream_that_cant_be_opened_ends_the_drain(desk: Desk) -> None:
    error = ServiceUnavailableError("try again")
    desk.tell(on.Failed(error, desk.take(do.Open)))
    desk.leave()
    assert desk.coordinator.error is error


def test_pages_are_asked_for_one_after_the_other(desk: Desk) -> None:
    desk.begin("a", "b")
    assert [command.request.shard_id for command in desk.fetches] == ["a", "b"]
    desk.arrive("a", 1)
    assert [command.request.shard_id for command in desk.fetches] == ["b"]
    assert desk.coordinator.wake_at == BEGAN + PAUSE_SECONDS
    desk.pass_time(PAUSE_SECONDS)
    assert desk.fetch("a").request.start == Position("1")


def test_shards_are_listed_again_when_a_closed_one_doesnt_end(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", at_end=True)
    desk.pass_time(END_SECONDS)
    desk.look(held={"a"})
    desk.arrive("a", at_end=True)
    assert desk.take(do.Look).relist


def test_a_shard_that_hangs_gets_a_thread_of_its_own(desk: Desk) -> None:
    desk.begin("a")
    desk.pass_time(SLOW_SECONDS)
    assert desk.take(do.Resize).fetchers == FETCHERS + 1
    desk.arrive("a", 1)
    assert desk.take(do.Resize).fetchers == FETCHERS


# --- batches -----------------------------------------------------------------------------------------------


def test_a_batch_is_loaded_when_it_is_full_while_the_next_one_is_filled(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    assert desk.take(do.Load).batch.records == 10
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", *range(10, 15))
    desk.pass_time(PAUSE_SECONDS)
    assert len(desk.fetches) == 1
    assert not desk.wants(do.Load)


def test_reading_pauses_while_one_batch_is_loaded_and_the_next_is_full(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    first = desk.take(do.Load).batch
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", *range(10, 20))
    desk.pass_time(1.0)
    assert desk.wanted == []
    assert desk.coordinator.wake_at == BEGAN + REVIEW_SECONDS

    desk.tell(on.LoadEnded(LoadResult(first, committed=True)))

    assert desk.wants(do.Load)
    assert desk.fetches


def test_a_batch_that_grows_old_is_loaded(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", 1)
    desk.pass_time(REVIEW_SECONDS)
    assert desk.wants(do.Look)
    assert desk.fetches
    assert desk.coordinator.wake_at == BEGAN + LIMITS.max_batch_seconds
    desk.pass_time(LIMITS.max_batch_seconds - REVIEW_SECONDS)
    assert desk.wants(do.Load)


def test_nobody_waits_for_a_look_while_one_is_under_way(desk: Desk) -> None:
    desk.begin("a")
    assert desk.coordinator.wake_at == BEGAN + REVIEW_SECONDS
    desk.pass_time(REVIEW_SECONDS)
    assert desk.wants(do.Look)
    assert desk.coordinator.wake_at == float("inf")


def test_the_end_of_the_time_for_reading_is_waited_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_seconds=7.0)
    desk.begin("a")
    assert desk.coordinator.wake_at == BEGAN + 7.0
    desk.pass_time(7.0)
    desk.arrive("a")
    desk.leave()


def test_the_end_of_following_is_waited_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path, follow_seconds=7.0)
    desk.begin("a")
    assert desk.coordinator.wake_at == BEGAN + 7.0


@pytest.mark.parametrize(
    ("settings", "wait"),
    [({"max_records": 2}, SOON), ({"max_seconds": 7.0}, 7.0)],
    ids=["records", "seconds"],
)
def test_a_limit_ends_reading_and_what_was_read_is_loaded(
    tmp_path: Path, settings: dict[str, float], wait: float
) -> None:
    desk = Desk(tmp_path, **settings)
    desk.begin("a", "b")
    desk.arrive("a", 1, 2)
    desk.pass_time(wait)
    assert not desk.wants(do.Load), "a page is under way"
    desk.arrive("b", 3)
    desk.pass_time(PAUSE_SECONDS)
    assert not desk.fetches

    desk.commit()

    assert desk.leave().keys() == {"a", "b"}
    assert desk.report.records == 3
    assert {shard.outcome for shard in desk.report.shards.values()} == {"limit"}


def test_a_drain_that_follows_looks_again_until_its_time_is_over(tmp_path: Path) -> None:
    desk = Desk(tmp_path, follow_seconds=60.0)
    desk.begin()
    desk.pass_time(LOOK_AGAIN_SECONDS).look(a_reader())
    desk.arrive("a", at_tip=True)
    assert desk.take(do.Note) == do.Note("a", millis_behind=0, caught_up_at=5)
    desk.pass_time(REVIEW_SECONDS).look()
    desk.pass_time(60.0).look(left_some=True)
    desk.arrive("a", **caught_up())
    desk.release()
    desk.look()
    desk.leave()
    assert desk.coordinator.error is None


# --- shards that can't be read -----------------------------------------------------------------------------


def test_a_shard_that_cant_be_read_for_now_is_asked_again(desk: Desk) -> None:
    desk.begin("a")
    desk.tell(on.PageFailed(desk.fetch().call, ThrottledError("slower"), chance=1.0))
    assert desk.coordinator.wake_at == BEGAN + 1.0
    desk.pass_time(0.99)
    assert not desk.fetches
    desk.pass_time(0.01)
    assert desk.fetches


def test_a_shard_that_stalls_is_told_and_so_is_its_end(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    desk.begin("a")
    for _ in range(5):
        desk.tell(on.PageFailed(desk.fetch().call, ThrottledError("slower"), chance=1.0))
        desk.pass_time(20.0)
    desk.arrive("a", 1)
    assert [message.partition(";")[0] for message in caplog.messages if "Shard a" in message] == [
        "Shard a of stream stream can't be read now",
        "Shard a of stream stream can be read again after 100 s",
    ]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (UnreadablePageError("report this"), 1),
        (ThrottledError("slower"), FAILURES_BEFORE_GIVING_UP),
    ],
)
def test_a_shard_that_fails_stops_no_other(desk: Desk, error: Any, tries: int) -> None:
    desk.begin("a", "b")
    desk.arrive("a", 1)
    desk.pass_time(PAUSE_SECONDS)
    for _ in range(tries):
        desk.tell(on.PageFailed(desk.fetch("a").call, error, chance=0.0))
        desk.pass_time(PAUSE_SECONDS)
    desk.arrive("b", 2)
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("b", **caught_up())
    desk.commit()
    desk.release()
    desk.leave()

    assert desk.coordinator.error is None
    assert desk.coordinator.combined_failure() is error
    assert desk.report.records == 2
    assert [shard.outcome for shard in desk.report.shards.values()] == ["failed", "caught_up"]


def test_the_first_failure_has_the_others_as_notes(desk: Desk) -> None:
    desk.begin("a", "b")
    for name in "ab":
        desk.tell(on.PageFailed(desk.fetch(name).call, UnreadablePageError(f"{name} is bad"), chance=0.0))
    failure = desk.coordinator.combined_failure()
    assert str(failure) == "a is bad"
    assert failure is not None
    assert failure.__notes__ == ["b is bad"]


def test_a_gap_that_the_user_doesnt_accept_fails_its_shard(desk: Desk) -> None:
    desk.begin("a")
    cursor = StubCursor()
    desk.arrive("a", 1, gap=Gap("a", None, None), cursor=cursor)
    assert desk.take(do.Close).cursor is cursor
    desk.release()
    desk.leave()
    assert isinstance(desk.coordinator.combined_failure(), DataLossError)
    assert desk.report.records == 0


def test_a_gap_that_the_user_accepts_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, on_data_loss="warn")
    desk.open().look(a_reader(), gaps=(Gap("b", None, None),))
    desk.arrive("a", 1, gap=Gap("a", None, None))
    assert len(desk.report.gaps) == 2
    assert desk.coordinator.records_read == 1


def test_shards_that_a_look_refuses_fail(desk: Desk) -> None:
    refusal: TerminalError = CorruptStateError("rewind this shard")
    desk.open().look(a_reader("a"), refused={"a": refusal}, missed={"b": CorruptStateError("that one too")})
    assert not desk.fetches
    assert desk.release().keys() == {"a"}
    desk.leave()
    assert {str(desk.coordinator.combined_failure())} <= {"rewind this shard", "that one too"}


# --- leases ------------------------------------------------------------------------------------------------


def test_the_shards_are_listed_again_once_one_that_ended_is_released(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", 1, finish=Status.ENDED)
    desk.commit()
    assert desk.release()["a"].ended
    assert desk.take(do.Look) == do.Look(relist=True, leave_alone=frozenset())


def test_an_ended_shard_is_loaded_before_the_batch_is_full(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.arrive("a", 1, finish=Status.ENDED)
    assert desk.wants(do.Load)


def test_what_was_read_isnt_taken_again(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.arrive("a", **caught_up())
    desk.release()
    desk.pass_time(REVIEW_SECONDS)
    assert desk.take(do.Look).leave_alone == {"a"}


def test_shards_are_handed_over_first_those_of_which_nothing_is_read(desk: Desk) -> None:
    readers = desk.begin("a", "b", "c")
    desk.arrive("a", 1)
    desk.pass_time(REVIEW_SECONDS).look(surplus=2)
    assert [reader.status for reader in readers] == ["reading", "released", "released"]
    assert desk.release().keys() == {"b", "c"}
    assert desk.report.shards["b"].outcome == "handed_over"


def test_a_page_of_a_shard_that_was_handed_over_is_not_taken(desk: Desk) -> None:
    desk.begin("a")
    desk.pass_time(REVIEW_SECONDS).look(surplus=1)
    cursor = StubCursor()
    desk.arrive("a", 1, cursor=cursor)
    assert desk.take(do.Close).cursor is cursor
    assert desk.coordinator.records_read == 0


def test_calls_about_leases_wait_for_each_other_and_reading_goes_on(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.pass_time(REVIEW_SECONDS)
    desk.arrive("a", **caught_up())
    assert not desk.wants(do.Release)
    desk.arrive("b", 1)
    desk.pass_time(PAUSE_SECONDS)
    assert desk.fetches
    desk.look()
    assert desk.wants(do.Release)


def test_the_sink_is_asked_about_takeovers_and_nothing_else_waits(desk: Desk) -> None:
    desk.open().look(a_reader("a"), takeovers=(candidate("b"),))
    assert desk.take(do.Settle) == do.Settle((candidate("b"),))
    desk.arrive("a", **caught_up())
    desk.release()
    desk.pass_time(REVIEW_SECONDS)
    assert not desk.wants(do.Look), "it would take what is settled"

    desk.tell(on.TakenOver(Settlement((a_reader("b", committed=Position("7")),), {}), held=frozenset("b")))

    assert desk.fetch("b").request.start == Position("7")
    assert desk.report.takeovers == 1
    assert not desk.coordinator.leaving


def test_a_takeover_is_settled_before_the_next_look(desk: Desk) -> None:
    """Even if a lease was lost while the last look was under way, which calls for another."""
    desk.open()
    desk.tell(on.LeasesLost(frozenset("x")))
    desk.look(takeovers=(candidate("a"),))
    desk.take(do.Settle)
    assert not desk.wants(do.Look)


def test_a_shard_whose_offset_cant_be_told_fails_and_stays_in_doubt(desk: Desk) -> None:
    desk.open().look(takeovers=(candidate("a"),))
    desk.take(do.Settle)
    refused = {"a": CorruptStateError("correct the offsets")}
    desk.tell(on.TakenOver(Settlement((a_reader("a", refused=True),), refused), held=frozenset("a")))
    assert desk.release()["a"].unsettled


def nothing_read(desk: Desk) -> None:
    """The drain is stopped at once."""


def nothing_yet(desk: Desk) -> None:
    desk.arrive("a")


def up_to_the_stop(desk: Desk) -> None:
    """Of what was read, a format leaves all out, or the sink has dead letters alone."""
    desk.arrive("a", 1)
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", finish=Status.CAUGHT_UP)
    desk.commit(offsets={})


def up_to_its_tip(desk: Desk) -> None:
    """The same, and nothing more is there."""
    desk.arrive("a", 1)
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", **caught_up())
    desk.commit(offsets={})


def loaded(desk: Desk) -> None:
    desk.arrive("a", 1)
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", finish=Status.CAUGHT_UP)
    desk.commit()


def at_its_tip(desk: Desk) -> None:
    desk.arrive("a", **caught_up())


def at_its_end(desk: Desk) -> None:
    desk.arrive("a", finish=Status.ENDED)


@pytest.mark.parametrize(
    ("read", "in_doubt"),
    [
        (nothing_read, True),
        (nothing_yet, True),
        (up_to_the_stop, True),
        (up_to_its_tip, False),
        (loaded, False),
        (at_its_tip, False),
        (at_its_end, False),
    ],
)
def test_a_shard_that_was_taken_over_stays_in_doubt_until_what_its_former_owner_had_read_is_settled(
    desk: Desk, read: Any, in_doubt: bool
) -> None:
    desk.open().look(takeovers=(candidate("a"),))
    desk.take(do.Settle)
    desk.tell(on.TakenOver(Settlement((a_reader("a", taken_over=True),), {}), held=frozenset("a")))
    read(desk)
    assert desk.part()["a"].unsettled == in_doubt


@pytest.mark.parametrize(
    ("read", "in_doubt"),
    [(nothing_yet, True), (up_to_the_stop, True), (at_its_tip, False), (at_its_end, False)],
)
def test_dead_letters_whose_records_are_gone_keep_a_shard_in_doubt_no_longer_than_there_is_anything_to_read(
    desk: Desk, read: Any, in_doubt: bool
) -> None:
    desk.open().look(a_reader("a", letters=Position("7")))
    read(desk)
    assert desk.part()["a"].unsettled == in_doubt


def test_a_load_that_is_overtaken_while_the_drain_leaves_leaves_its_shards_in_doubt(desk: Desk) -> None:
    """What another worker has committed isn't in their rows."""
    desk.begin("a", "b")
    desk.arrive("a", 1, finish=Status.ENDED)
    batch = desk.take(do.Load).batch
    desk.arrive("b", **caught_up())
    desk.tell(on.StopAsked())
    desk.tell(on.LoadEnded(LoadResult(batch, committed=False, ahead={"a": Position("7")})))
    facts = desk.leave()
    assert (facts["a"].unsettled, facts["a"].ended, facts["b"].unsettled) == (True, False, False)


def test_a_load_that_is_under_way_when_leases_are_released_leaves_its_shards_in_doubt(desk: Desk) -> None:
    """It may not have sent anything yet, and send it now."""
    desk.begin("a", "b")
    desk.arrive("a", 1, finish=Status.ENDED)
    desk.arrive("b", **caught_up())
    desk.tell(on.StopAsked())
    desk.pass_time(LOAD_GRACE_SECONDS)
    desk.take(do.Cancel)
    facts = desk.leave()
    assert (facts["a"].unsettled, facts["a"].ended, facts["b"].unsettled) == (True, False, False)


def test_a_load_that_failed_leaves_no_more_in_doubt_than_its_sink_does(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", 1, finish=Status.ENDED)
    desk.tell(on.Failed(TooManyDeadLettersError("too many"), desk.take(do.Load)))
    facts = desk.leave()["a"]
    assert (facts.unsettled, facts.ended) == (False, False)


@pytest.mark.parametrize("how", ["look", "settle"])
def test_a_shard_that_was_lost_before_it_was_begun_is_not_read(desk: Desk, how: str) -> None:
    desk.open()
    if how == "look":
        desk.look(a_reader("a"), held=())
    else:
        desk.look(takeovers=(candidate("a"),))
        desk.take(do.Settle)
        desk.tell(on.TakenOver(Settlement((a_reader("a"),), {}), held=frozenset()))
    assert not desk.fetches
    assert (desk.report.shards["a"].outcome, desk.report.lost_leases) == ("lost", 1)
    assert desk.wants(do.Look)


def test_no_shard_is_read_twice_at_a_time(desk: Desk) -> None:
    desk.begin("a")
    desk.pass_time(REVIEW_SECONDS)
    with pytest.raises(IllegalTransitionError, match="taken twice"):
        desk.look(a_reader("a"))


def test_what_was_read_of_a_lost_shard_is_forgotten_and_others_are_read_again(desk: Desk) -> None:
    lost, other = desk.begin("a", "b")
    cursor = StubCursor()
    desk.arrive("a", 1, cursor=cursor)
    desk.arrive("b", 2)
    desk.tell(on.LeasesLost(frozenset("a")))

    assert (lost.status, other.status) == (Status.LOST, Status.READING)
    assert desk.take(do.Close).cursor is cursor
    desk.look()
    desk.pass_time(PAUSE_SECONDS)
    assert [each.request.shard_id for each in desk.fetches] == ["b"]
    assert desk.fetch("b").request.start == TRIM_HORIZON
    assert (desk.report.shards["a"].outcome, desk.report.lost_leases) == ("lost", 1)


def test_what_is_being_loaded_of_others_isnt_read_again_after_a_loss(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.arrive("b", *range(10))
    desk.take(do.Load)
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", 1)
    desk.arrive("b", 10)
    desk.tell(on.LeasesLost(frozenset("a")))
    desk.pass_time(PAUSE_SECONDS)
    assert desk.fetch("b").request.start == Position("9")


def test_a_shard_that_is_lost_and_taken_again_isnt_moved_by_the_load_of_before(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    load = desk.take(do.Load)
    desk.tell(on.LeasesLost(frozenset("a")))
    again = a_reader("a", committed=Position("3"))
    desk.look(again)
    desk.tell(on.LoadEnded(LoadResult(load.batch, committed=True)))
    assert again.committed == Position("3")


# --- how loads end -----------------------------------------------------------------------------------------


def test_a_batch_that_isnt_committed_is_read_again_with_all_that_came_after_it(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.arrive("a", *range(10))
    desk.pass_time(PAUSE_SECONDS)
    desk.arrive("a", 10)
    desk.arrive("b", **caught_up())
    desk.commit(committed=False)
    desk.pass_time(PAUSE_SECONDS)
    assert desk.fetch("a").request.start == TRIM_HORIZON
    assert desk.report.batches == 0


def test_a_finished_shard_is_read_again_when_its_batch_isnt_committed(desk: Desk) -> None:
    (reader,) = desk.begin("a")
    desk.arrive("a", 1, finish=Status.ENDED)
    desk.commit(committed=False)
    assert reader.status is Status.READING
    desk.pass_time(PAUSE_SECONDS)
    assert desk.fetches


def test_a_gap_is_noted_again_when_its_batch_isnt_committed(tmp_path: Path) -> None:
    """Its page ends where it began, at the checkpoint."""
    desk = Desk(tmp_path, on_data_loss="warn")
    desk.open().look(a_reader("a", committed=Position("7")))
    desk.arrive("a", 7, gap=Gap("a", None, None), **caught_up())
    desk.commit(committed=False)
    desk.pass_time(PAUSE_SECONDS)
    request = desk.fetch("a").request
    assert (request.start, request.read_until) == (Position("7"), None)


def test_a_fenced_shard_goes_on_after_what_another_has_committed(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.arrive("a", *range(10))
    desk.arrive("b", 1)
    desk.commit(committed=False, ahead={"a": Position("20")})
    desk.pass_time(PAUSE_SECONDS)
    assert desk.take(do.Save) == do.Save({"a": Position("20")})
    assert [each.request.shard_id for each in desk.fetches] == ["b"]

    desk.tell(on.Saved({"a": Position("20")}))

    assert desk.fetch("a").request.start == Position("20")
    assert desk.report.fenced == 1


def test_a_fenced_shard_whose_lease_is_lost_is_dropped(desk: Desk) -> None:
    (reader,) = desk.begin("a")
    desk.arrive("a", *range(10))
    desk.commit(committed=False, ahead={"a": Position("20")})
    desk.take(do.Save)
    desk.tell(on.Saved({}))
    assert reader.status is Status.LOST
    assert desk.report.lost_leases == 1


def test_nothing_is_saved_of_a_fenced_shard_that_was_lost_meanwhile(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    desk.pass_time(REVIEW_SECONDS)
    desk.commit(committed=False, ahead={"a": Position("20")})
    assert not desk.wants(do.Save), "a look is under way"
    desk.tell(on.LeasesLost(frozenset("a")))
    desk.look()
    assert not desk.wants(do.Save)


def test_shards_that_are_fenced_one_after_the_other_are_all_saved(desk: Desk) -> None:
    first, second = desk.begin("a", "b")
    desk.arrive("a", *range(10))
    desk.commit(committed=False, ahead={"a": Position("20")})
    desk.take(do.Save)
    desk.arrive("b", *range(10))
    desk.commit(committed=False, ahead={"b": Position("30")})
    desk.tell(on.Saved({"a": Position("20")}))
    assert (first.status, second.status) == (Status.READING, Status.FENCED)
    assert desk.take(do.Save) == do.Save({"b": Position("30")})


def test_a_shard_under_whose_offset_nothing_can_be_loaded_fails(desk: Desk) -> None:
    desk.begin("a", "b")
    desk.arrive("a", *range(10))
    desk.commit(committed=False, refused={"a": CorruptStateError("correct the offsets")})
    assert desk.release().keys() == {"a"}
    assert desk.report.shards["a"].outcome == "failed"


@pytest.mark.parametrize(
    "error", [ServiceUnavailableError("try again"), CorruptStateError("correct it"), OSError("disk full")]
)
def test_a_load_that_fails_ends_the_drain_and_leases_are_released(desk: Desk, error: Exception) -> None:
    desk.begin("a")
    desk.arrive("a", 1, **caught_up())
    desk.tell(on.Failed(error, desk.take(do.Load)))
    facts = desk.leave()["a"]
    assert (facts.caught_up_at, facts.ended) == (None, False), "nothing says that it is committed"
    assert desk.coordinator.error is error


def test_what_is_under_way_when_a_load_fails_may_end_before_leases_are_released(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    desk.pass_time(REVIEW_SECONDS)
    desk.tell(on.Failed(OSError("disk full"), desk.take(do.Load)))
    assert not desk.wants(do.Leave)
    desk.look(a_reader("b"))
    assert desk.leave().keys() == {"a", "b"}


def test_what_hangs_when_a_load_fails_is_left_alone(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    desk.pass_time(REVIEW_SECONDS)
    desk.tell(on.Failed(OSError("disk full"), desk.take(do.Load)))
    desk.pass_time(LOAD_GRACE_SECONDS)
    assert desk.wants(do.Leave)
    assert not desk.wants(do.Cancel)


# --- stops -------------------------------------------------------------------------------------------------


def opening(desk: Desk) -> None:
    desk.take(do.Open)


def looking(desk: Desk) -> None:
    desk.open().take(do.Look)


def reading(desk: Desk) -> None:
    desk.begin("a")


def settling(desk: Desk) -> None:
    desk.open().look(takeovers=(candidate("a"),))
    desk.take(do.Settle)


def saving(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    desk.commit(committed=False, ahead={"a": Position("20")})
    desk.take(do.Save)


def releasing(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", **caught_up())
    desk.take(do.Release)


@pytest.mark.parametrize("doing", [opening, looking, reading, settling, saving, releasing])
def test_a_stop_waits_for_no_call(desk: Desk, doing: Any) -> None:
    doing(desk)
    desk.tell(on.StopAsked())
    facts = desk.leave()
    assert isinstance(desk.coordinator.error, DrainStoppedError)
    if doing is saving:
        assert facts["a"].unsettled, "where it stands isn't saved"
    if doing is releasing:
        assert facts["a"].caught_up_at == 5, "what is known isn't forgotten"


def test_a_stop_lets_a_load_end(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", 1, **caught_up())
    desk.tell(on.StopAsked())
    desk.pass_time(LOAD_GRACE_SECONDS - 0.1)
    assert not desk.wants(do.Leave)
    assert desk.coordinator.wake_at == BEGAN + LOAD_GRACE_SECONDS
    desk.commit()
    assert desk.leave()["a"].caught_up_at == 5
    assert "1 records are committed" in str(desk.coordinator.error)


@pytest.mark.parametrize("committed", [True, False])
def test_a_load_that_takes_too_long_for_a_stop_is_cancelled(desk: Desk, committed: bool) -> None:
    desk.begin("a")
    desk.arrive("a", 1, **caught_up())
    desk.tell(on.StopAsked())
    desk.pass_time(LOAD_GRACE_SECONDS)
    desk.take(do.Cancel)
    assert desk.take(do.Leave).shards["a"].caught_up_at is None
    desk.commit(committed=committed)
    assert not desk.coordinator.over
    desk.tell(on.Left())
    assert desk.coordinator.over


def test_a_load_that_fails_during_a_stop_is_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.begin("a")
    desk.arrive("a", 1, **caught_up())
    desk.tell(on.StopAsked())
    desk.tell(on.Failed(OSError("disk full"), desk.take(do.Load)))
    desk.leave()
    assert "The load under way failed: disk full" in caplog.text
    assert isinstance(desk.coordinator.error, DrainStoppedError)


def test_leases_that_arent_released_in_time_are_left_to_expire(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.begin("a")
    desk.tell(on.StopAsked())
    desk.pass_time(LEAVE_GRACE_SECONDS)
    assert desk.coordinator.over
    assert "Leases of stream stream are left to expire" in caplog.text


def test_leases_get_their_time_unless_a_stop_is_asked(desk: Desk) -> None:
    desk.begin()
    desk.pass_time(600.0)
    assert not desk.coordinator.over
    desk.tell(on.StopAsked())
    desk.pass_time(LEAVE_GRACE_SECONDS)
    assert desk.coordinator.over
    assert isinstance(desk.coordinator.error, DrainStoppedError)


def test_leases_that_cant_be_released_are_left_to_expire(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.begin()
    desk.tell(on.Failed(ThrottledError("slower"), desk.take(do.Leave)))
    assert desk.coordinator.over
    assert "left to expire: slower" in caplog.text
    assert desk.coordinator.error is None


def test_an_error_outside_of_a_call_ends_the_drain_too(desk: Desk) -> None:
    desk.begin("a")
    error = KeyboardInterrupt()
    desk.tell(on.Failed(error))
    assert desk.leave().keys() == {"a"}
    assert desk.coordinator.error is error


def test_what_comes_while_leases_are_released_changes_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.begin("a", "b")
    desk.pass_time(REVIEW_SECONDS)
    desk.tell(on.StopAsked())
    cursor = StubCursor()
    desk.arrive("a", 1, cursor=cursor)
    assert desk.take(do.Close).cursor is cursor
    desk.tell(on.PageFailed(desk.fetch("b").call, ThrottledError("slower"), chance=0.0))
    desk.tell(on.LeasesLost(frozenset("b")))
    desk.tell(on.Failed(ThrottledError("slower"), desk.take(do.Look)))
    assert "A call under way failed: slower" in caplog.text
    assert desk.leave().keys() == {"a", "b"}
    assert not desk.fetches
    assert desk.coordinator.records_read == 0


def test_a_stop_while_a_load_fails_waits_no_longer_for_other_calls(desk: Desk) -> None:
    desk.begin("a")
    desk.arrive("a", *range(10))
    desk.pass_time(REVIEW_SECONDS)
    desk.tell(on.Failed(OSError("disk full"), desk.take(do.Load)))
    desk.tell(on.StopAsked())
    assert desk.wants(do.Leave)
