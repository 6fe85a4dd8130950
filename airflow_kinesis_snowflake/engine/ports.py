"""What the engine requires of a stream, of a warehouse, and of its state store.

To read records, store rows or keep checkpoints in another way, implement one of these, and pass its contract
suite in ``tests/contract``; :mod:`airflow_kinesis_snowflake.testing` has a fake of each that needs no
service. Every method raises errors of :mod:`airflow_kinesis_snowflake.exceptions` only: a ``TransientError``
if a retry may succeed, a ``TerminalError`` if somebody has to change something.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.batch import Batch, BatchLimits
    from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
    from airflow_kinesis_snowflake.engine.offsets import OffsetKey, Offsets
    from airflow_kinesis_snowflake.engine.retries import Retries
    from airflow_kinesis_snowflake.engine.runtime import Event
    from airflow_kinesis_snowflake.engine.threads import DaemonThreads
    from airflow_kinesis_snowflake.exceptions import CorruptStateError
    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import Position, StartAt
    from airflow_kinesis_snowflake.stream.records import Delivery, Record

    ReadAgain = Callable[[str, str], Sequence[Record]]
    """The user records of a Kinesis record, by shard id and sequence number; none if it is gone."""


# --- where records come from -------------------------------------------------------------------------------


class Cursor(Protocol):
    """One shard, opened at a position.

    Used by one thread at a time; only :meth:`close` may come from another.
    """

    def read(self, *, limit: int) -> Delivery:
        """The next records, in order, none of them twice.

        An empty delivery doesn't mean the end of the backlog: only one that is 0 ms behind does. After an
        error, the next call continues where the last delivery ended. Doesn't wait for records to arrive.

        :param limit: how many Kinesis records the caller has room for; a source that can't limit them may
            deliver more, up to 10 MB
        """

    def close(self) -> None:
        """Release what the shard holds; a call under way may still deliver. Closing again has no effect."""


class Source(Protocol):
    """One Kinesis data stream. Safe to use from several threads at once."""

    @property
    def stream_name(self) -> str:
        """The stream's name, as used in state rows and messages."""

    @property
    def pause_seconds(self) -> float:
        """The time from one read of a shard to the next."""

    @property
    def idle_seconds(self) -> float:
        """The time from one read to the next while a shard has nothing, in a drain that follows."""

    def describe(self) -> StreamFacts:
        """The facts of the stream."""

    def list_shards(self) -> tuple[Shard, ...]:
        """All shards that still hold records, open or closed; at least one."""

    def open(self, shard_id: str, start: Position | StartAt, *, with_start: bool = False) -> Cursor:
        """Open a shard.

        :param start: after a position at the end of a Kinesis record; at the Kinesis record of a position
            inside an aggregate, whose user records up to it are delivered again; or the horizon, or a moment,
            in which case records of up to a second earlier may be delivered too
        :param with_start: start with the very record of a position, if the stream still has it
        :raises ForeignCheckpointError: the shard didn't assign the sequence number
        """

    def read_again(self, shard_id: str, sequence_number: str) -> Sequence[Record]:
        """The user records of one Kinesis record; none if the stream no longer has it."""

    def close(self) -> None:
        """Close all cursors; from any thread, more than once. Shards opened later may still deliver."""


# --- where rows go -----------------------------------------------------------------------------------------


class Rows(Protocol):
    """What a sink keeps of a micro-batch until it is committed. Only the coordinator adds to it."""

    @property
    def rows(self) -> int:
        """Rows for the landing table so far."""

    @property
    def dead_letters(self) -> int:
        """Dead letters so far."""

    @property
    def size(self) -> int:
        """Bytes so far, as they count for ``max_batch_bytes``."""

    def append(self, encoded: EncodedRecords, *, shard_id: str) -> None:
        """Add records of one shard, after those added before."""

    def delete(self) -> None:
        """Discard them."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a batch; if no shard is listed in ``ahead`` or ``refused``, it is committed.

    :param offsets: for a committed batch: the new offsets of shards in the sink, for those that moved
    :param ahead: shards whose offsets are past the start of the batch, with these offsets
    :param refused: shards whose offsets allow no load, and why
    :param rejected: rows that were sent with it and that Snowflake didn't take
    """

    offsets: Mapping[str, Position] = field(default_factory=dict)
    ahead: Mapping[str, Position] = field(default_factory=dict)
    refused: Mapping[str, CorruptStateError] = field(default_factory=dict)
    rejected: int = 0

    @property
    def committed(self) -> bool:
        """Whether the records of the batch are in Snowflake."""
        return not self.ahead and not self.refused


COMMITTED = Outcome()


class Sink(Protocol):
    """A way into one landing table, as one drain uses it.

    One thread commits; :attr:`encoder` is used by several, and :meth:`cancel` comes from another. After a
    ``TransientError`` the same call may be repeated with the same batch: one that was committed without an
    answer is recognized, and isn't loaded a second time.
    """

    @property
    def name(self) -> str:
        """What the sink is called in settings and in state rows."""

    @property
    def table(self) -> str:
        """The landing table, for messages."""

    @property
    def limits(self) -> BatchLimits:
        """When a batch is full, unless the user sets limits."""

    @property
    def encoder(self) -> Encoder:
        """Turns records into rows and dead letters."""

    @property
    def memory_millis(self) -> int | None:
        """How long the sink remembers what was committed of a shard that rests; ``None``: for ever."""

    @property
    def connections(self) -> int:
        """How many connections were opened so far; none as long as there was nothing to do."""

    @property
    def in_doubt(self) -> frozenset[str]:
        """Shards of batches that are, or may be, committed, until they are :meth:`settled`."""

    def workspace(self) -> AbstractContextManager[Path]:
        """A folder for batches, removed at the end.

        :raises InvalidSettingError: no suitable folder exists
        """

    def begin(self, folder: Path) -> Rows:
        """The container that collects a new batch.

        :param folder: of this batch alone, in that of :meth:`workspace`
        """

    def prepare(self) -> None:
        """Make sure that everything exists, and that this drain may write to it."""

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        """How far shards are committed whose last owner didn't release them.

        Those that were never started are left out. May be called while other shards are being committed; a
        sink that can answers in parallel. After a failure, simply call it again.
        """

    def commit(self, batch: Batch, *, refused_before: int) -> Outcome:
        """Commit a batch: its rows, its dead letters and the positions it ends at, or nothing.

        Nothing is committed of a shard whose offset isn't at the start of the batch, or whose lease is lost.
        A worker that was suspended with its clock believes in a lease that others have had meanwhile, and if
        they read nothing, the offset doesn't tell either. So the store must have confirmed the lease since
        the records were read, unless whoever asks for :meth:`offsets` fences all others.

        :param refused_before: dead letters of earlier batches
        :raises TableChangedError: the landing table has changed since the records were encoded; encode them
            again
        :raises LeaseLostError: another worker has a lease
        """

    def settled(self, batch: Batch) -> None:
        """Note that the checkpoints of a committed batch are saved.

        Its shards are no longer :attr:`in_doubt`, unless the sink may have more of them, such as dead letters
        of records after the batch.
        """

    def cancel(self) -> None:
        """Abandon the commit under way, which then raises; from another thread."""

    def disconnect(self) -> None:
        """End the connection and everything under way in it; the next call opens another one.

        Called after each ``TransientError``.
        """

    def close(self) -> None:
        """Finish: the drain is over. A connection that was lent to the drain may be returned."""


class Claims(Protocol):
    """What a sink may ask about the leases of its drain."""

    def holds(self, shard_id: str) -> bool:
        """Whether this worker certainly still holds the lease."""

    def confirm(self, shard_id: str) -> bool:
        """Whether the store confirms it, which renews it: one write."""


@dataclass(frozen=True, kw_only=True)
class SinkContext:
    """What a drain lends to its sink.

    :param claims: consulted right before something is committed
    :param read_again: reads records of the stream a second time
    :param max_dead_letters: how many dead letters are too many
    :param writers: threads for calls that needn't wait for each other; their runtime has the clock
    :param retries: tries again after transient faults
    :param stopping: set when the drain must stop
    """

    stream_name: str
    application_name: str
    claims: Claims
    read_again: ReadAgain
    max_dead_letters: DeadLetterLimit
    writers: DaemonThreads
    retries: Retries
    stopping: Event


class SinkSettings(Protocol):
    """Creates a sink for a drain."""

    @property
    def name(self) -> str:
        """What the sink is called in settings and in state rows."""

    def open(self, context: SinkContext, /) -> Sink:
        """The sink; nothing is connected yet."""


# --- what is remembered ------------------------------------------------------------------------------------


class StateStore(Protocol):
    """One application's state: a row per shard and per live worker of each stream.

    Every change is one conditional write, which returns whether its condition held; no write depends on a
    previous read. All times are milliseconds since the epoch, and given by the caller.
    """

    def exists(self) -> bool:
        """Whether the application has state; waits while it is being created or deleted."""

    def create_table(self) -> None:
        """Create the place for state unless it exists."""

    def read_state(self, stream_name: str) -> StreamState:
        """All rows of a stream, as the last write left them.

        :raises CorruptStateError: an attribute that decides what is read holds an invalid value
        """

    def create_shard(  # noqa: PLR0913 -- all that a row says is written at once
        self,
        stream_name: str,
        shard_id: str,
        *,
        start_at: StartAt,
        parents: Iterable[str],
        incarnation: str,
        stream_created: int,
        stream_arn: str | None = None,
        initial_shards: Iterable[str] = (),
        caught_up_at: int | None = None,
        sink: str | None = None,
    ) -> bool:
        """Create the row of a shard, unless there is one.

        :param caught_up_at: nothing of the shard is before this moment (ms), if that is known
        """

    def forget_shard(self, stream_name: str, shard_id: str) -> bool:
        """Delete the row of a shard that is read to its end and not leased."""

    def withdraw_shard(self, stream_name: str, shard_id: str, *, incarnation: str) -> bool:
        """Delete the row of a shard that nobody has leased since it was created."""

    def take_lease(  # noqa: PLR0913 -- what a row lacks is written together with its first lease
        self,
        stream_name: str,
        shard: ShardState,
        *,
        owner: str,
        expiry: int,
        now: int,
        incarnation: str,
        start_at: StartAt | None = None,
        sink: str | None = None,
        stream_arn: str | None = None,
        predecessor: bool = False,
    ) -> ShardState | None:
        """Take a lease that is free, the worker's own, or unchanged since it was read; return the new row, or
        ``None``.

        The lease isn't taken if the row has got another incarnation since it was read, or says that it
        belongs to another stream, or that a sink other than ``sink`` left it in doubt.
        """

    def renew_lease(
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        expiry: int,
        now: int,
        millis_behind: int | None = None,
        caught_up_at: int | None = None,
    ) -> bool:
        """Extend a lease that the worker has, and record how far the shard is."""

    def save_checkpoint(  # noqa: PLR0913 -- all of it in one write
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        checkpoint: Position | None,
        expiry: int,
        now: int,
        millis_behind: int | None = None,
        offset: Position | None = None,
        committed_at: int | None = None,
        sink: str | None = None,
    ) -> bool:
        """Save that a shard is committed up to a position, and renew its lease, which the worker has.

        :param committed_at: when a sink that forgets committed ``offset``; ``None`` leaves the saved time
        """

    def release_lease(
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        now: int,
        ended: bool = False,
        unsettled: bool = False,
        millis_behind: int | None = None,
        caught_up_at: int | None = None,
    ) -> bool:
        """Release a lease that the worker has, with the last facts about the shard."""

    def heartbeat(self, stream_name: str, worker: str, *, now: int, again: bool = False) -> bool:
        """Record that a worker is alive."""

    def leave(self, stream_name: str, worker: str) -> None:
        """Remove the last heartbeat."""

    def forget_worker(self, stream_name: str, worker: str, *, heartbeat: int) -> bool:
        """Delete the row of a worker whose last heartbeat was this one."""
