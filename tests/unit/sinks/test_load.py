"""What a loader does when statements fail, commits get lost and other workers come first.

Snowflake, the leases and the batch are stubs here: what counts is which calls are made, and what is believed.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest

from airflow_kinesis_snowflake.engine import retries
from airflow_kinesis_snowflake.engine.batch import Batch, Span
from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.engine.loading import Loader
from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, Offsets
from airflow_kinesis_snowflake.engine.ports import SinkContext
from airflow_kinesis_snowflake.engine.retries import TRIES, Retries
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    DrainStoppedError,
    IncarnationClosedError,
    IncompleteLoadError,
    OffsetWentBackError,
    ServiceRefusedError,
    ServiceUnavailableError,
    TooManyDeadLettersError,
    UnknownOutcomeError,
)
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.copy import abandoned_batches, carry
from airflow_kinesis_snowflake.sinks.snowflake.factories import Copy, Landing
from airflow_kinesis_snowflake.stream.positions import Position, is_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_kinesis_snowflake.engine.offsets import OffsetMove

ONE, TWO, THREE = (f"shardId-{number:012d}" for number in (1, 2, 3))
AVAILABLE_AGAIN = 10_000


@dataclass
class Snowflake:
    """A hook and its only session. Offsets are kept; everything else is only noted in ``calls``.

    :param failures: by call, errors to raise instead, first to last
    :param commits: what COMMIT does, first to last: ``done``, ``done late`` (seen by the second reading from
        then on), ``done, answer lost``, ``answer lost`` or ``ignored``; ``done`` from then on
    :param ended: calls before which Snowflake ends the transaction, first to last
    :param stale: what the session that is open reads instead, until it is closed
    :param forgetful: how often Snowflake ends the transaction that adds rows
    :param repeated: whether the session that is open had to send a request again
    :param lent: whether it goes back when the sink is done with it
    :param beside: another session, which is opened while a transaction of this one is under way
    :param meanwhile: what somebody else does while files are copied
    """

    failures: dict[str, list[Exception]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    offsets: dict[OffsetKey, Offset] = field(default_factory=dict)
    refused: dict[OffsetKey, CorruptStateError] = field(default_factory=dict)
    stale: dict[OffsetKey, Offset] | None = None
    forgetful: int = 0
    rows: int = 2
    calls: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    pending: dict[OffsetKey, Offset] = field(default_factory=dict)
    late: list[dict[OffsetKey, Offset]] = field(default_factory=list)
    transactions: int = 0
    current: str | None = None
    closed: bool = False
    repeated: bool = False
    lent: bool = False
    fresh: bool = True
    beside: Snowflake | None = None
    meanwhile: Callable[[], object] | None = None

    @property
    def fit(self) -> bool:
        return not self.closed and not self.repeated

    def note(self, call: str) -> None:
        self.calls.append(call)
        if self.ended and self.ended[0] == call:
            self.ended.pop(0)
            self.current, self.pending = None, {}
        if self.failures.get(call):
            raise self.failures[call].pop(0)

    def open_session(self) -> Snowflake:
        if self.current is not None and self.beside is not None:
            return self.beside.open_session()
        self.note("open")
        self.closed = False
        return self

    def ensure_objects(self, *_: Any, **__: Any) -> None:
        self.note("objects")

    def read_offsets(self, *_: Any, keys: Sequence[OffsetKey], **__: Any) -> Offsets:
        self.note("read")
        there = (self.offsets if self.stale is None else self.stale) | self.pending
        found = {key: there[key] for key in keys if key in there and key not in self.refused}
        if self.late:
            self.offsets |= self.late.pop()
        return Offsets(found, {key: error for key, error in self.refused.items() if key in keys})

    def ensure_offsets(self, *_: Any, keys: Sequence[OffsetKey], **__: Any) -> None:
        self.note("ensure")
        if self.forgetful:
            self.forgetful -= 1
            return
        for key in keys:
            self.offsets.setdefault(key, Offset(key.shard_id, key.incarnation, None, None))

    def upload(self, *_: Any, folder: str, **__: Any) -> None:
        self.note("upload")
        self.folders.append(folder)

    def list_folder(self, *_: Any, folder: str) -> list[str]:
        self.note("list")
        return self.staged

    def remove_folder(self, *_: Any, folder: str) -> None:
        self.note("remove")
        self.removed.append(folder)

    @contextmanager
    def transaction(self) -> Iterator[str]:
        self.transactions += 1
        self.current = transaction = str(self.transactions)
        try:
            self.note("begin")
            yield transaction
        except Exception:
            self.current, self.pending = None, {}
            self.note("rollback")
            self.close()
            raise
        self.note("commit")
        how = self.commits.pop(0) if self.commits else "done"
        if how == "done late":
            self.late.append(self.pending)
        elif how.startswith("done"):
            self.offsets |= self.pending
        self.current, self.pending = None, {}
        if how in {"done late", "done, answer lost", "answer lost"}:
            self.close()
            raise UnknownOutcomeError(how)

    def copy_landing(self, *_: Any, **__: Any) -> int:
        self.note("copy")
        if self.meanwhile is not None:
            self.meanwhile()
        return self.rows

    def copy_dead_letters(self, *_: Any, **__: Any) -> int:
        self.note("copy dead letters")
        return 1

    def lock_offsets(self, *_: Any, **__: Any) -> None:
        self.note("lock")

    def move_offsets(
        self, *_: Any, batch_id: str, transaction: str, moves: Sequence[OffsetMove], **__: Any
    ) -> None:
        self.note("move")
        if transaction != self.current:
            return
        for move in moves:
            key = OffsetKey(move.shard_id, move.incarnation)
            at = self.offsets.get(key)
            if at is not None and at.position == move.expected:
                self.pending[key] = Offset(move.shard_id, move.incarnation, move.through, batch_id)

    def cancel(self) -> None:
        self.note("cancel")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.close() if error else self.done()

    def done(self) -> None:
        self.note("done")
        self.closed, self.fresh = self.closed or not self.lent, False

    def close(self) -> None:
        self.note("close")
        self.closed, self.repeated, self.stale = True, False, None


class Leases:
    """Holds what it isn't told to have lost."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.lost_unawares: set[str] = set()
        self.saved: dict[str, Position | None] = {}

    def holds(self, shard_id: str) -> bool:
        return shard_id not in self.lost

    def confirm(self, shard_id: str) -> bool:
        self.lost |= self.lost_unawares & {shard_id}
        return shard_id not in self.lost_unawares

    def save(self, shard_id: str, checkpoint: Position | None, **_: Any) -> bool:
        if shard_id in self.lost:
            return False
        self.saved[shard_id] = checkpoint
        return True


class BatchOfTwo(SimpleNamespace):
    """What a sink wants of a batch."""

    keys = Batch.keys


def make_batch(
    name: str = "batch",
    *,
    began: str | None = None,
    reached: str = "5",
    offset: str | None = None,
    rows: int = 2,
    refused: int = 0,
) -> Any:
    """A batch of two shards."""
    spans = {
        shard: Span(
            shard,
            "life",
            None if began is None else Position(began),
            Position(reached),
            offset=None if offset is None else Position(offset),
            records=1,
        )
        for shard in (ONE, TWO)
    }
    files = SimpleNamespace(rows=rows, dead_letters=0, close=lambda: [Path("/landing.parquet")])
    return BatchOfTwo(
        id=name,
        attempts=0,
        spans=spans,
        rows=files,
        records=rows,
        refused=refused,
        examples=["1 (empty)"],
        discard=lambda: None,
    )


@pytest.fixture
def snowflake() -> Snowflake:
    return Snowflake()


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def loader(
    snowflake: Snowflake, leases: Leases, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Loader]:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 0.0)
    with DaemonThreads(1, name="write") as writers:
        patience = Retries(writers.runtime, stopping)
        sink = Copy(Landing(table=TableName.parse("DB.SCHEMA.RECORDS")), snowflake.open_session).open(  # type: ignore[arg-type]
            SinkContext(
                stream_name="stream",
                application_name="application",
                claims=leases,
                read_again=lambda *_: (),
                max_dead_letters=DeadLetterLimit(count=3),
                writers=writers,
                retries=patience,
                stopping=stopping,
            )
        )
        yield Loader(
            sink,
            leases=leases,  # type: ignore[arg-type]
            settings=SimpleNamespace(stream_name="stream", max_dead_letters=DeadLetterLimit(count=3)),  # type: ignore[arg-type]
            writers=writers,
            retries=patience,
        )


def moved(snowflake: Snowflake, shard: str, sequence_number: str, batch_id: str = "another") -> None:
    """Somebody else commits."""
    snowflake.offsets[OffsetKey(shard, "life")] = Offset(shard, "life", Position(sequence_number), batch_id)


# --- too many dead letters ---------------------------------------------------------------------------------


def test_dead_letters_of_all_batches_count_and_one_too_many_stops_before_anything_is_sent(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    loader.load(make_batch("first", refused=1))
    loader.load(make_batch("second", began="5", reached="6", refused=2))
    sent = list(snowflake.calls)

    with pytest.raises(
        TooManyDeadLettersError, match=r"max_dead_letters=3.*1 of 2 .* after 3 .* 1 \(empty\)"
    ):
        loader.load(make_batch("third", began="6", reached="7", refused=1))

    assert snowflake.calls == sent
    assert leases.saved == {ONE: Position("6"), TWO: Position("6")}


def test_dead_letters_of_a_batch_that_was_not_committed_do_not_count(
    loader: Loader, snowflake: Snowflake
) -> None:
    moved(snowflake, ONE, "7")
    assert not loader.load(make_batch(refused=3)).committed

    assert loader.load(make_batch(began="7", reached="8", refused=3)).committed


# --- takeovers beside a load -------------------------------------------------------------------------------


@pytest.fixture
def beside(snowflake: Snowflake) -> Snowflake:
    moved(snowflake, THREE, "9")
    snowflake.beside = Snowflake(offsets=snowflake.offsets)
    return snowflake.beside


def test_offsets_of_other_shards_are_read_while_a_batch_is_being_loaded(
    loader: Loader, snowflake: Snowflake, beside: Snowflake
) -> None:
    with ThreadPoolExecutor() as pool:
        asked: list[Offsets] = []

        def ask() -> None:
            asked.append(pool.submit(loader.offsets, [OffsetKey(THREE, "life")]).result(timeout=60))

        snowflake.meanwhile = ask
        assert loader.load(make_batch()).committed

    assert [offset.position for offset in asked[0].found.values()] == [Position("9")]
    assert beside.calls == ["open", "read", "done"]
    assert snowflake.calls.count("open") == 1


def test_a_session_beside_a_load_that_fails_leaves_that_of_the_load_alone(
    loader: Loader, snowflake: Snowflake, beside: Snowflake
) -> None:
    beside.failures = {"read": [ServiceUnavailableError("gone")]}
    with ThreadPoolExecutor() as pool:
        snowflake.meanwhile = lambda: pool.submit(loader.offsets, [OffsetKey(THREE, "life")]).result(60)
        assert loader.load(make_batch()).committed

    assert beside.calls == ["open", "read", "close", "open", "read", "done"]
    assert snowflake.calls.count("open") == 1


# --- a load that goes well ---------------------------------------------------------------------------------


def test_a_batch_is_committed_looked_for_and_only_then_checkpointed(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    loaded = loader.load(make_batch())

    assert loaded.committed
    assert leases.saved == {ONE: Position("5"), TWO: Position("5")}
    transaction = snowflake.calls[snowflake.calls.index("upload") :]
    assert transaction == ["upload", "begin", "copy", "lock", "move", "read", "commit", "read"]
    assert loader.in_doubt == frozenset()


def test_objects_and_offsets_rows_are_looked_for_once(loader: Loader, snowflake: Snowflake) -> None:
    loader.load(make_batch("first"))
    loader.load(make_batch("second", began="5", reached="9"))

    assert [snowflake.calls.count(call) for call in ("open", "objects", "ensure")] == [1, 1, 1]


def test_positions_without_records_need_no_snowflake(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    loaded = loader.load(make_batch(rows=0))

    assert loaded.committed
    assert snowflake.calls == []
    assert leases.saved.keys() == {ONE, TWO}


# --- others were first -------------------------------------------------------------------------------------


def test_rows_of_offsets_are_made_by_none_but_the_owner_of_the_leases(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    """Not by a worker whose own clock slept as long as it did."""
    leases.lost_unawares = {ONE}

    loaded = loader.load(make_batch())

    assert (loaded.committed, loaded.lost) == (False, frozenset({ONE}))
    assert "ensure" not in snowflake.calls
    assert snowflake.offsets == {}


def test_nothing_is_uploaded_before_the_leases_are_confirmed(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    loader.load(make_batch("first"))
    before = snowflake.calls.copy()
    leases.lost_unawares = {TWO}

    loaded = loader.load(make_batch("second", began="5", reached="9"))

    assert (loaded.committed, loaded.lost) == (False, frozenset({TWO}))
    assert snowflake.calls == before


def test_a_lost_lease_rolls_back_before_the_offsets_move(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    leases.lost = {TWO}

    loaded = loader.load(make_batch())

    assert (loaded.committed, loaded.lost) == (False, frozenset({TWO}))
    assert {"move", "commit"}.isdisjoint(snowflake.calls)
    assert leases.saved == {}


def test_a_checkpoint_that_is_refused_is_a_lost_lease_of_a_committed_batch(
    loader: Loader, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "holds", lambda _: True)
    leases.lost = {TWO}

    loaded = loader.load(make_batch())

    assert (loaded.committed, loaded.lost) == (True, frozenset({TWO}))


def test_a_fence_says_who_is_ahead_and_where(loader: Loader, snowflake: Snowflake, leases: Leases) -> None:
    moved(snowflake, ONE, "7")
    moved(snowflake, TWO, "1")

    loaded = loader.load(make_batch(began="3"))

    assert (loaded.committed, loaded.ahead) == (False, {ONE: Position("7")})
    assert "commit" not in snowflake.calls
    assert leases.saved == {}
    assert loader.in_doubt == frozenset()


def test_a_fence_in_the_transaction_is_settled_in_a_new_session(loader: Loader, snowflake: Snowflake) -> None:
    loader.load(make_batch("first"))
    snowflake.stale = dict(snowflake.offsets)
    moved(snowflake, ONE, "7")

    loaded = loader.load(make_batch("second", began="5", reached="9"))

    assert loaded.ahead == {ONE: Position("7")}
    assert snowflake.calls.count("commit") == 1
    assert snowflake.calls.count("open") == 2


def test_one_shard_that_moved_does_not_make_up_for_another(loader: Loader, snowflake: Snowflake) -> None:
    loader.load(make_batch("first"))
    moved(snowflake, TWO, "5", batch_id="second")
    moved(snowflake, ONE, "7")

    loaded = loader.load(make_batch("second", began="5", reached="9"))

    assert (loaded.committed, loaded.ahead) == (False, {ONE: Position("7")})


def test_rows_that_vanish_are_added_again_only_if_nothing_was_loaded_under_them(
    loader: Loader, snowflake: Snowflake
) -> None:
    loader.load(make_batch("first"))
    snowflake.offsets.clear()

    loaded = loader.load(make_batch("second", began="5", reached="9", offset="5"))

    assert {shard: type(error) for shard, error in loaded.refused.items()} == {
        ONE: OffsetWentBackError,
        TWO: OffsetWentBackError,
    }
    assert snowflake.offsets == {}


def test_an_offset_before_one_that_was_committed_through_is_refused(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    moved(snowflake, ONE, "3")
    moved(snowflake, TWO, "5")

    loaded = loader.load(make_batch(began="5", reached="9", offset="5"))

    assert loaded.refused.keys() == {ONE}
    assert "recover" in str(loaded.refused[ONE])
    assert "begin" not in snowflake.calls
    assert leases.saved == {}


def test_an_old_session_that_reads_an_earlier_offset_is_not_believed(
    loader: Loader, snowflake: Snowflake
) -> None:
    loader.load(make_batch("first"))
    snowflake.stale = dict(snowflake.offsets)
    other = {shard: Span(shard, "next", Position("6"), Position("9"), Position("6"), 1) for shard in (ONE,)}
    batch = make_batch("second")
    batch.spans = other
    snowflake.offsets[OffsetKey(ONE, "next")] = Offset(ONE, "next", Position("6"), "another")

    assert loader.load(batch).committed
    assert snowflake.calls.count("open") == 2


def test_what_a_session_knew_of_a_shard_that_was_ours_before_is_not_believed(
    loader: Loader, snowflake: Snowflake, leases: Leases
) -> None:
    """Another worker had its lease in between, loaded records, and gave it back."""
    loader.load(make_batch("batch 1"))
    for shard in (ONE, TWO):
        key = OffsetKey(shard, "life")
        snowflake.offsets[key] = Offset(shard, "life", Position("7"), "of another worker")

    loaded = loader.load(make_batch("batch 2", began="7", reached="9", offset="7"))

    assert loaded.committed
    assert leases.saved == {ONE: Position("9"), TWO: Position("9")}


def test_rows_of_offsets_whose_transaction_was_ended_are_added_again(
    loader: Loader, snowflake: Snowflake
) -> None:
    snowflake.forgetful = 1

    assert loader.load(make_batch()).committed
    assert snowflake.calls.count("ensure") == 2


def test_a_session_that_sent_a_request_again_begins_no_other_transaction(
    loader: Loader, snowflake: Snowflake
) -> None:
    loader.load(make_batch("batch 1"))
    snowflake.repeated = True

    assert loader.load(make_batch("batch 2", began="5", reached="9")).committed
    assert snowflake.calls.count("open") == 2


def test_after_a_takeover_files_are_removed_that_somebody_left_a_day_ago(
    loader: Loader, snowflake: Snowflake
) -> None:
    snowflake.staged = [
        "20200101T000000-0123456789ab/1/landing.parquet",
        "replay-0123456789ab/landing.parquet",
    ]
    loader.load(make_batch("batch 1"))
    assert "list" not in snowflake.calls

    loader.offsets([OffsetKey(ONE, "life")])
    loader.load(make_batch("batch 2", began="5", reached="9"))
    loader.load(make_batch("batch 3", began="9", reached="11"))

    assert snowflake.removed == ["application/stream/20200101T000000-0123456789ab"]
    assert snowflake.calls.count("list") == 1


def test_a_stage_that_can_not_be_searched_costs_no_batch(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.failures["list"] = [ServiceUnavailableError("no answer")]
    loader.offsets([OffsetKey(ONE, "life")])

    assert loader.load(make_batch()).committed
    assert loader.load(make_batch("batch 2", began="5", reached="9")).committed


def test_only_batches_of_long_ago_are_abandoned() -> None:
    paths = [
        "20261126T150000-0123456789ab/1/landing.parquet",
        "20261125T145959-0123456789ab/1/landing.parquet",
        "20261125T145959-0123456789ab/2/landing.parquet",
        "20261125T150001-0123456789ab/1/landing.parquet",
        "20261125-odd/landing.parquet",
    ]
    day = int(datetime(2026, 11, 25, 15, tzinfo=UTC).timestamp() * 1000)
    assert abandoned_batches(paths, before=day) == {"20261125T145959-0123456789ab"}


def test_a_refused_offset_stops_its_shard_only(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.refused[OffsetKey(ONE, "life")] = IncarnationClosedError("closed")

    loaded = loader.load(make_batch())

    assert (loaded.committed, set(loaded.refused), dict(loaded.ahead)) == (False, {ONE}, {})
    assert "begin" not in snowflake.calls


# --- transactions that Snowflake ends ----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["copy", "lock", "move", "read", "commit"])
def test_a_transaction_that_is_ended_before_any_statement_commits_nothing_and_is_done_again(
    loader: Loader, snowflake: Snowflake, leases: Leases, call: str
) -> None:
    loader.load(make_batch("first"))
    snowflake.ended = [call]

    loaded = loader.load(make_batch("second", began="5", reached="9"))

    assert loaded.committed
    assert snowflake.calls.count("copy") == 3
    assert {offset.position for offset in snowflake.offsets.values()} == {None, Position("9")}
    assert leases.saved == {ONE: Position("9"), TWO: Position("9")}


def test_each_attempt_has_a_folder_of_its_own_and_earlier_ones_are_removed(
    loader: Loader, snowflake: Snowflake
) -> None:
    snowflake.failures = {"copy": [ServiceUnavailableError("away")] * 2}

    loader.load(make_batch())

    assert snowflake.folders == [f"application/stream/batch/{attempt}" for attempt in (1, 2, 3)]
    assert snowflake.removed == ["application/stream/batch"]


# --- commits of unknown outcome ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commit", "copies"),
    [("done, answer lost", 1), ("answer lost", 2), ("ignored", 2), ("done late", 2)],
)
def test_whatever_becomes_of_a_commit_the_batch_is_committed_once(
    loader: Loader, snowflake: Snowflake, leases: Leases, commit: str, copies: int
) -> None:
    snowflake.commits = [commit]

    loaded = loader.load(make_batch())

    assert loaded.committed
    assert loaded.ahead == {}
    assert snowflake.calls.count("copy") == copies
    named = {offset.batch_id for offset in snowflake.offsets.values()} - {None}
    assert [batch_id.partition("/")[0] for batch_id in named if batch_id] == ["batch"]
    assert leases.saved == {ONE: Position("5"), TWO: Position("5")}
    assert loader.in_doubt == frozenset()


def test_a_lent_session_goes_back_only_if_every_call_ended_well(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.lent = True
    loader.load(make_batch())
    loader.close()
    assert snowflake.calls[-1] == "done"
    assert not snowflake.closed

    snowflake.failures["copy"] = [ServiceUnavailableError("broken off")]
    loader.load(make_batch("second", began="5", reached="9"))
    loader.close()
    assert snowflake.closed
    assert snowflake.calls.count("done") == 1


def test_a_lent_session_that_was_cancelled_ends(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.lent = True
    loader.load(make_batch())
    loader.cancel()
    loader.close()
    assert snowflake.closed
    assert "done" not in snowflake.calls


def test_after_the_last_try_the_shards_stay_in_doubt(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.commits = ["answer lost"] * TRIES

    with pytest.raises(UnknownOutcomeError):
        loader.load(make_batch())

    assert loader.in_doubt == {ONE, TWO}


def test_a_batch_without_records_to_load_clears_no_doubt(loader: Loader, snowflake: Snowflake) -> None:
    """Its records are dropped, so the sink learns nothing of it."""
    snowflake.commits = ["answer lost"] * TRIES
    with pytest.raises(UnknownOutcomeError):
        loader.load(make_batch())
    calls = snowflake.calls.copy()

    assert loader.load(make_batch("dropped", rows=0)).committed

    assert snowflake.calls == calls
    assert loader.in_doubt == {ONE, TWO}


def test_shards_whose_checkpoint_could_not_be_written_stay_in_doubt(
    loader: Loader, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: Any, **__: Any) -> bool:
        raise ServiceUnavailableError("no DynamoDB")

    monkeypatch.setattr(leases, "save", unavailable)

    with pytest.raises(ServiceUnavailableError, match="no DynamoDB"):
        loader.load(make_batch())

    assert loader.in_doubt == {ONE, TWO}


def test_a_batch_that_never_reached_its_transaction_leaves_no_doubt(
    loader: Loader, snowflake: Snowflake
) -> None:
    snowflake.failures = {"upload": [ServiceUnavailableError("away")] * TRIES}

    with pytest.raises(ServiceUnavailableError):
        loader.load(make_batch())

    assert loader.in_doubt == frozenset()


# --- tries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", ["open", "objects", "read", "ensure", "upload", "begin", "copy", "lock", "move"]
)
def test_a_fault_is_tried_again_over_a_new_session(loader: Loader, snowflake: Snowflake, call: str) -> None:
    snowflake.failures = {call: [ServiceUnavailableError("away")] * (TRIES - 1)}

    assert loader.load(make_batch()).committed
    assert snowflake.calls.count("open") == TRIES


@pytest.mark.parametrize("call", ["open", "copy", "move"])
def test_after_the_last_try_the_fault_is_raised(loader: Loader, snowflake: Snowflake, call: str) -> None:
    snowflake.failures = {call: [ServiceUnavailableError("away")] * AVAILABLE_AGAIN}

    with pytest.raises(ServiceUnavailableError, match="away"):
        loader.load(make_batch())

    assert snowflake.calls.count(call) == TRIES
    assert all(offset.position is None for offset in snowflake.offsets.values())


def test_what_snowflake_refuses_is_not_tried_again(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.failures = {"copy": [ServiceRefusedError("no")]}

    with pytest.raises(ServiceRefusedError):
        loader.load(make_batch())

    assert snowflake.calls.count("copy") == 1


def test_fewer_rows_than_sent_are_never_committed(loader: Loader, snowflake: Snowflake) -> None:
    snowflake.rows = 1

    with pytest.raises(IncompleteLoadError, match="1 of 2 rows"):
        loader.load(make_batch())

    assert "commit" not in snowflake.calls


def test_a_stop_ends_the_wait_for_the_next_try(
    loader: Loader, snowflake: Snowflake, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 3600.0)
    snowflake.failures = {"copy": [ServiceUnavailableError("away")]}
    stopping.set()

    with pytest.raises(DrainStoppedError, match="loading batch"):
        loader.load(make_batch())


@pytest.mark.parametrize("outcome", ["commits", "is refused"])
def test_the_files_go_whatever_the_outcome(loader: Loader, snowflake: Snowflake, outcome: str) -> None:
    batch, discarded = make_batch(), threading.Event()
    batch.discard = discarded.set
    if outcome == "is refused":
        snowflake.failures = {"copy": [ServiceRefusedError("no")]}
        with pytest.raises(ServiceRefusedError):
            loader.load(batch)
    else:
        loader.load(batch)

    assert discarded.is_set()


# --- decisions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "carried"),
    [
        (None, None, False),
        (("5", "batch"), ("5", "batch"), True),
        (("5", "batch"), None, False),
        (("5", "batch"), ("5", "other"), False),
        (("5", "batch"), ("7", "batch"), False),
    ],
)
def test_offsets_prove_a_batch_if_each_shard_is_where_it_left_it(
    first: tuple[str, str] | None, second: tuple[str, str] | None, carried: bool
) -> None:
    found = {
        OffsetKey(shard, "life"): Offset(shard, "life", Position(at[0]), at[1])
        for shard, at in ((ONE, first), (TWO, second))
        if at is not None
    }
    assert carry(make_batch(), Offsets(found, {})) is carried


@pytest.mark.parametrize(
    ("position", "other", "after"),
    [("10", "9", True), ("9", "9", False), ("9", "10", False), ("1", None, True)],
)
def test_every_position_is_after_the_beginning(position: str, other: str | None, after: bool) -> None:
    assert is_after(Position(position), None if other is None else Position(other)) is after
