"""The load protocol: one batch, one transaction, then its checkpoints.

What makes it exactly once, in the order of the statements:

1. The offsets of the batch's shards are read, unless they are known from the last commit of this session, and
   rows that are missing are added. Whoever is past the beginning of the batch has committed its records.
2. If the mapping adds or widens columns, that happens now, because DDL commits an open transaction. The files
   go to a stage folder that no other attempt uses; nothing is visible yet.
3. ``BEGIN``, and the id of the transaction. ``COPY`` of rows, and of dead letters if there are any.
4. The lock: from here on no other load of the same offsets is between its lock and its end.
5. The compare-and-set: each shard's offset moves from where it is known to stand to where the batch ends. It
   does so in this very transaction only; if Snowflake has ended it, nothing moves. The offsets are read then,
   and unless each shard has exactly one row, which this batch has moved, everything is rolled back.
6. ``COMMIT``. From here on the records are in Snowflake, whatever dies. Its answer alone proves nothing,
   because a ``COMMIT`` without a transaction is ignored. So the offsets are read once more.
7. Checkpoints to DynamoDB, each only while the lease is still ours. If the process dies before this, the next
   owner of the lease finds the truth in the offsets table, or runs into the compare-and-set.

The session has AUTOCOMMIT off, and ends with the first transaction that doesn't commit: what was sent and not
answered, or arrives late or twice, finds a transaction that nobody commits, or no session. Whether a batch in
doubt is committed is settled in a new session. See "Transactions", "COMMIT" and "AUTOCOMMIT" in Snowflake's
documentation, and docs/exactly-once.md for what rests on which of them.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, TypeVar

from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, OffsetMove, Offsets
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    DrainStoppedError,
    FencedError,
    IncompleteLoadError,
    KinesisSnowflakeError,
    LeaseLostError,
    OffsetWentBackError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    TableChangedError,
    TerminalError,
    TooManyDeadLettersError,
    TransactionEndedError,
    TransientError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.sinks.snowflake.statements import LOCK, stage_folder
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.engine.batch import Batch, Span
    from airflow_kinesis_snowflake.engine.leases import Leases
    from airflow_kinesis_snowflake.engine.runtime import Event
    from airflow_kinesis_snowflake.engine.settings import DrainSettings
    from airflow_kinesis_snowflake.engine.threads import DaemonThreads
    from airflow_kinesis_snowflake.formats.column_types import Column
    from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
    from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
    from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles
    from airflow_kinesis_snowflake.sinks.snowflake.narrowing import Narrowing
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from airflow_kinesis_snowflake.sinks.snowflake.statements import CopyMapping
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)
T = TypeVar("T")


class _Names(TypedDict):
    application: str
    stream: str


TRIES = 5
LONGEST_WAIT_SECONDS = 30.0
CHANGES_IN_A_ROW = 5
# A batch isn't under way for as long, however often it is tried.
ABANDONED_MILLIS = 24 * 3_600_000
_BATCH_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Outcome:
    """What became of a batch; without a word about any shard it is committed.

    :param ahead: shards whose offsets are past the beginning of the batch, and where they stand
    :param refused: shards under whose offsets nothing can be loaded, and why
    """

    ahead: Mapping[str, Position] = field(default_factory=dict)
    refused: Mapping[str, CorruptStateError] = field(default_factory=dict)

    @property
    def committed(self) -> bool:
        """Whether the records of the batch are in Snowflake."""
        return not self.ahead and not self.refused


COMMITTED = Outcome()


@dataclass(frozen=True)
class Loaded:
    """How the load of one batch ended.

    :param batch: the batch; its files are gone
    :param committed: its records are in Snowflake
    :param lost: shards whose lease was lost; their checkpoints are not ours to write any more
    :param ahead: when fenced, shards whose offsets had moved on, and where they stand now
    :param refused: shards that can't be loaded until somebody corrects their offsets, and why
    :param seconds: time from the first upload to the last checkpoint
    """

    batch: Batch
    committed: bool
    lost: frozenset[str] = frozenset()
    ahead: Mapping[str, Position] = field(default_factory=dict)
    refused: Mapping[str, CorruptStateError] = field(default_factory=dict)
    seconds: float = 0.0


class Loader:
    """Loads batches one after the other over one Snowflake session, opened when it is first needed.

    Safe to call from several threads; apart from :meth:`cancel`, one call waits for the other.

    :param snowflake: where to connect
    :param target: landing table, offsets, dead letters and stage
    :param mapping: how the batch's file maps to columns
    :param narrowing: finds the records of a batch that Snowflake refuses
    :param leases: asked before COMMIT, written after it
    :param settings: names of stream and application
    :param writers: threads for checkpoint writes; their runtime has the clock
    :param stopping: set when the drain must stop; ends waits between tries
    """

    def __init__(
        self,
        *,
        snowflake: SnowflakeLoadHook,
        target: LandingTarget,
        mapping: EnvelopeMapping | ColumnsMapping,
        narrowing: Narrowing,
        leases: Leases,
        settings: DrainSettings,
        writers: DaemonThreads,
        stopping: Event,
    ) -> None:
        self._runtime = writers.runtime
        self._snowflake = snowflake
        self._target = target
        self._mapping = mapping
        self._narrowing = narrowing
        self._leases = leases
        self._settings = settings
        self._writers = writers
        self._stopping = stopping
        self._session: SnowflakeSession | None = None
        self._lock = self._runtime.lock()
        self._known: dict[OffsetKey, Offset] = {}
        self._objects_checked = False
        self._refused = 0
        self._table_changes = 0
        self._took_over = False
        self.connections = 0
        self.in_doubt: frozenset[str] = frozenset()

    def prepare(self) -> None:
        """Connect, and create or check the tables and the stage, which other workers may do just now.

        :raises AccessDeniedError: login or privileges are missing
        :raises SnowflakeObjectNotFoundError: database or schema don't exist
        :raises TransientError: the last of five tries failed
        """
        with self._lock:
            self._retrying(self._open, doing="preparing the tables")

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        """Where Snowflake says shards stand that their last owner didn't release.

        Rows that don't exist are left out.
        """
        with self._lock:
            self._took_over = True
            return self._retrying(lambda: self._read(self._open(), keys), doing="reading offsets")

    def landing_columns(self) -> Mapping[str, Column]:
        """The columns of the landing table, which is made if it is missing."""

        def read() -> Mapping[str, Column]:
            return self._open().landing_columns(self._target)

        with self._lock:
            return self._retrying(read, doing="listing columns")

    def load(self, batch: Batch) -> Loaded:
        """Load a batch and write its checkpoints.

        :raises TransientError: the batch could not be loaded within the tries; nothing of it is committed
        :raises TerminalError: Snowflake refuses the batch; nothing of it is committed
        """
        with self._lock:
            return self._load(batch, began=self._runtime.monotonic())

    def _load(self, batch: Batch, *, began: float) -> Loaded:
        try:
            outcome = COMMITTED
            if batch.records:
                self._check_threshold(batch)
                outcome = self._retrying(
                    lambda: self._commit_or_narrow(batch), doing=f"loading batch {batch.id}"
                )
        except TableChangedError as error:
            self._table_changes += 1
            if self._table_changes > CHANGES_IN_A_ROW:
                raise
            log.warning("%s; its records are read again", error)
            return Loaded(batch, committed=False, seconds=self._runtime.monotonic() - began)
        except LeaseLostError:
            lost = frozenset(shard for shard in batch.spans if not self._leases.holds(shard))
            return Loaded(batch, committed=False, lost=lost, seconds=self._runtime.monotonic() - began)
        finally:
            batch.discard()
        if not outcome.committed:
            return Loaded(
                batch,
                committed=False,
                ahead=outcome.ahead,
                refused=outcome.refused,
                seconds=self._runtime.monotonic() - began,
            )
        self._table_changes = 0
        lost = self._checkpoint(batch)
        self.in_doubt -= batch.spans.keys()
        self._refused += batch.refused
        return Loaded(batch, committed=True, lost=lost, seconds=self._runtime.monotonic() - began)

    def _check_threshold(self, batch: Batch) -> None:
        threshold = self._settings.max_dead_letters
        allowed = threshold.allowed(batch.records, before=self._refused)
        if allowed is not None and batch.refused > allowed:
            raise TooManyDeadLettersError(
                f"{batch.refused} of {batch.records} records in batch {batch.id} of stream "
                f"{self._settings.stream_name} can't be loaded, after {self._refused} in earlier batches; "
                f"that is more than max_dead_letters={threshold}. Nothing of the batch is committed. The "
                f"first: {'; '.join(batch.examples)}. Correct the settings, or accept more of them, and run "
                f"again"
            )

    def cancel(self) -> None:
        """Cancel the statement under way, from another thread."""
        if self._session is not None:
            self._session.cancel()

    def close(self) -> None:
        """Close the session if one is open."""
        self._known.clear()
        if self._session is not None:
            self._session.close()
            self._session = None

    def _commit_or_narrow(self, batch: Batch) -> Outcome:
        """Commit a batch; if Snowflake refuses a value in it, without the records that it refuses."""
        try:
            return self._commit(batch)
        except ValueRefusedError as refusal:
            session = self._open()
            copy = self._prepare_table(session, batch)
            self._narrowing.put_aside(batch, refusal, session=session, mapping=copy, before=self._refused)
            # A part that was tried and arrives late must not find the transaction of the batch.
            self.close()
            return self._commit(batch)

    def _commit(self, batch: Batch) -> Outcome:
        offsets = self._offsets_before(batch)
        if (outcome := self._outcome_by(offsets, batch)) is not None:
            return outcome
        session = self._open()
        copy = self._prepare_table(session, batch)
        folder = self._upload(session, batch)
        self.in_doubt |= batch.spans.keys()
        try:
            with session.transaction() as transaction:
                copy_files(session, batch.files, target=self._target, mapping=copy, folder=folder)
                session.lock_offsets(self._target, **self._of_the_application)
                self._move_offsets(session, batch, offsets.found, transaction=transaction)
        except FencedError:
            return self._settle_fence(batch)
        except (ServiceRefusedError, SnowflakeObjectNotFoundError) as error:
            self._blame_changes(batch, copy, error)
            raise
        if not carry(batch, self._read(session, keys_of(batch.spans.values()))):
            raise TransactionEndedError(
                f"Snowflake had ended the transaction of batch {batch.id} before its COMMIT arrived; nothing "
                f"of it is in {self._target.table}"
            )
        self._remove_earlier_attempts(session, batch)
        self._remove_abandoned(session)
        return COMMITTED

    def _offsets_before(self, batch: Batch) -> Offsets:
        """Where the shards of a batch stand, with rows for those that have none yet."""
        keys = [OffsetKey(*LOCK), *keys_of(batch.spans.values())]
        if all(key in self._known for key in keys):
            offsets = Offsets({key: self._known[key] for key in keys}, {})
        else:
            offsets = self._read(self._open(), keys)
        if went_back(batch, offsets):
            # Another worker may have loaded a shard that was ours before, and is again. And a session that
            # was open when it committed needn't see that yet (READ_CONSISTENCY_MODE in Snowflake's
            # documentation).
            self.close()
            offsets = self._read(self._open(), keys)
        if (absent := absent_from(offsets, keys)) and not went_back(batch, offsets):
            self._confirm_leases(batch, absent)
            session = self._open()
            session.ensure_offsets(self._target, **self._of_the_application, keys=absent)
            offsets = self._read(session, keys)
            if absent_from(offsets, keys):
                raise TransactionEndedError(
                    f"Snowflake had ended the transaction that adds rows to {self._target.offsets} before "
                    f"its COMMIT arrived; batch {batch.id} is not begun"
                )
        return offsets

    def _confirm_leases(self, batch: Batch, absent: Sequence[OffsetKey]) -> None:
        """Make sure that rows of the offsets table are made by those only who hold the leases at this moment.

        A row that is gone may be that of an incarnation that a reset closed long ago, and made again it would
        be open to a worker that was asleep since. The own clock of such a worker may have slept as well.

        :raises LeaseLostError: another worker holds a lease
        """
        shards = [key.shard_id for key in absent if key.shard_id in batch.spans]
        if not all(self._writers.map(self._leases.confirm, shards)):
            raise LeaseLostError(
                f"Leases of stream {self._settings.stream_name} were lost before batch {batch.id} was begun; "
                "the next owner reads its records again"
            )

    def _outcome_by(self, offsets: Offsets, batch: Batch) -> Outcome | None:
        """What has become of a batch already, judged by offsets; ``None`` if it is still to be loaded."""
        refused = refused_shards(offsets, batch) | {
            shard_id: self._went_back(batch.spans[shard_id]) for shard_id in went_back(batch, offsets)
        }
        if refused:
            return Outcome(refused=refused)
        if carry(batch, offsets):
            log.info("Batch %s was committed although the answer was lost", batch.id)
            return COMMITTED
        ahead = ahead_of(batch, offsets)
        if ahead:
            self.in_doubt -= batch.spans.keys()
            return Outcome(ahead=ahead)
        return None

    def _went_back(self, span: Span) -> OffsetWentBackError:
        return OffsetWentBackError(
            f"Run the DAG kinesis_state_reset with the method recover and trust_snowflake: the offset of "
            f"shard {span.shard_id} of stream {self._settings.stream_name} in {self._target.offsets} is "
            f"before {span.offset}, through which a drain had committed. The tables went back in time "
            f"(Time Travel, a clone, or a failover to a replica), and records are missing in "
            f"{self._target.table}"
        )

    def _upload(self, session: SnowflakeSession, batch: Batch) -> str:
        """Put the files into a folder that no other attempt has used or will use."""
        batch.attempts += 1
        folder = self._folder(batch, str(batch.attempts))
        for file in batch.files.close():
            session.upload(file, target=self._target, folder=folder)
        return folder

    def _remove_earlier_attempts(self, session: SnowflakeSession, batch: Batch) -> None:
        """COPY has removed the files of the attempt that was committed, but no others."""
        if batch.attempts == 1:
            return
        try:
            session.remove_folder(self._target.stage, folder=self._folder(batch))
        except KinesisSnowflakeError as error:
            self.close()
            log.info("Files of batch %s are left on stage %s: %s", batch.id, self._target.stage, error)

    def _remove_abandoned(self, session: SnowflakeSession) -> None:
        """Remove files that were left of batches more than a day old; looked for after a takeover only.

        They are of workers that died, or COPY couldn't remove them.
        """
        if not self._took_over or session.closed:
            return
        self._took_over = False
        names = (self._settings.application_name, self._settings.stream_name)
        before = self._runtime.wall() - ABANDONED_MILLIS
        try:
            paths = session.list_folder(self._target.stage, folder=stage_folder(*names))
            for batch_id in sorted(abandoned_batches(paths, before=before)):
                session.remove_folder(self._target.stage, folder=stage_folder(*names, batch_id))
                log.info("Files that were left of batch %s are removed", batch_id)
        except KinesisSnowflakeError as error:
            self.close()
            log.info("Stage %s wasn't searched for files that were left: %s", self._target.stage, error)

    def _folder(self, batch: Batch, *parts: str) -> str:
        return stage_folder(self._settings.application_name, self._settings.stream_name, batch.id, *parts)

    @property
    def _of_the_application(self) -> _Names:
        return {"application": self._settings.application_name, "stream": self._settings.stream_name}

    def _prepare_table(self, session: SnowflakeSession, batch: Batch) -> CopyMapping:
        return prepare_table(session, batch.files, target=self._target, mapping=self._mapping)

    def _blame_changes(self, batch: Batch, copy: CopyMapping, error: TerminalError) -> None:
        """Find out whether COPY was refused because somebody altered the table after we had looked at it.

        :raises TableChangedError: so it was
        """
        mapping = self._mapping
        if not isinstance(mapping, ColumnsMapping):
            return
        mapping.found(self._open().landing_columns(self._target))
        if mapping.copy(batch.files.fields, batch.files.missing) != copy:
            raise TableChangedError(
                f"{self._target.table} was altered while batch {batch.id} of stream "
                f"{self._settings.stream_name} was being loaded"
            ) from error

    def _move_offsets(
        self,
        session: SnowflakeSession,
        batch: Batch,
        before: Mapping[OffsetKey, Offset],
        *,
        transaction: str,
    ) -> None:
        """Move the offset of each shard of the batch, or none.

        :raises LeaseLostError: a lease was lost; roll back
        :raises FencedError: an offset isn't where it was before; roll back
        :raises TransactionEndedError: Snowflake has ended the transaction
        """
        if not all(self._leases.holds(shard) for shard in batch.spans):
            raise LeaseLostError(
                f"Leases of stream {self._settings.stream_name} were lost while batch {batch.id} was being "
                f"loaded; it was rolled back and the next owner reads its records again"
            )
        keys = keys_of(batch.spans.values())
        session.move_offsets(
            self._target,
            **self._of_the_application,
            batch_id=batch.id,
            transaction=transaction,
            moves=[
                OffsetMove(
                    shard_id=span.shard_id,
                    incarnation=span.incarnation,
                    expected=before[key].position,
                    through=span.reached,
                    records=span.records,
                )
                for key, span in zip(keys, batch.spans.values(), strict=True)
            ],
        )
        after = self._read(session, keys)
        if carry(batch, after):
            return
        if after == Offsets({key: before[key] for key in keys}, {}):
            raise TransactionEndedError(
                f"Snowflake had ended the transaction of batch {batch.id} before its offsets moved; nothing "
                f"of it is in {self._target.table}"
            )
        raise FencedError(
            f"Offsets of shards in batch {batch.id} of stream {self._settings.stream_name} were moved by "
            f"another worker; it was rolled back"
        )

    def _settle_fence(self, batch: Batch) -> Outcome:
        """Find out, in a new session, who moved the offsets.

        :raises ServiceUnavailableError: nobody did, or nobody past the beginning of the batch; try again
        """
        self.close()
        outcome = self._outcome_by(self._read(self._open(), keys_of(batch.spans.values())), batch)
        if outcome is None:
            raise ServiceUnavailableError(
                f"Offsets of {', '.join(sorted(batch.spans))} in {self._target.offsets} changed while batch "
                f"{batch.id} was being loaded; it was rolled back"
            )
        return outcome

    def _checkpoint(self, batch: Batch) -> frozenset[str]:
        def save(span: Span) -> bool:
            return self._leases.save(
                span.shard_id,
                span.reached,
                millis_behind=span.millis_behind,
                offset=span.reached if batch.records else None,
            )

        spans = list(batch.spans.values())
        saved = self._writers.map(save, spans)
        return frozenset(span.shard_id for span, ours in zip(spans, saved, strict=True) if not ours)

    def _read(self, session: SnowflakeSession, keys: Sequence[OffsetKey]) -> Offsets:
        offsets = session.read_offsets(self._target, **self._of_the_application, keys=keys)
        self._known.update(offsets.found)
        return offsets

    def _open(self) -> SnowflakeSession:
        if self._session is None or not self._session.fit:
            self.close()
            self._session = self._snowflake.open_session()
            self.connections += 1
        if not self._objects_checked:
            self._session.ensure_objects(self._target, mapping=self._mapping)
            self._objects_checked = True
        return self._session

    def _retrying(self, call: Callable[[], T], *, doing: str) -> T:
        """Call again after transient faults, each time over a new session.

        A lost lease and a changed table aren't faults: they go to the caller at once.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return call()
            except (LeaseLostError, TableChangedError):
                raise
            except TransientError as error:
                self.close()
                if attempt == TRIES:
                    raise
                wait = self._runtime.random.uniform(0, min(LONGEST_WAIT_SECONDS, 2.0**attempt))
                log.warning(
                    "Try %d of %d at %s failed, next in %.1f s: %s", attempt, TRIES, doing, wait, error
                )
                if self._stopping.wait(wait):
                    raise DrainStoppedError(f"Stopped while {doing}") from error
        raise AssertionError("unreachable")


def prepare_table(
    session: SnowflakeSession,
    files: BatchFiles,
    *,
    target: LandingTarget,
    mapping: EnvelopeMapping | ColumnsMapping,
) -> CopyMapping:
    """Give the landing table the columns that files need, and say how to fill them; outside transactions.

    :raises TableChangedError: the table can't take what was prepared for it: another worker, or a person,
        has altered it meanwhile
    """
    if not isinstance(mapping, ColumnsMapping):
        return mapping
    mapping.found(session.landing_columns(target))
    changes = mapping.changes(files.fields, files.missing)
    for change in changes:
        session.alter_landing_table(target, change)
    if changes:
        log.info("Table %s: %s", target.table, ", ".join(map(str, changes)))
        mapping.found(session.landing_columns(target))
    copy = mapping.copy(files.fields, files.missing)
    if copy is None:
        raise TableChangedError(f"The columns of {target.table} aren't those that records were prepared for")
    return copy


def copy_files(
    session: SnowflakeSession,
    files: BatchFiles,
    *,
    target: LandingTarget,
    mapping: CopyMapping,
    folder: str,
) -> None:
    """Load the files of a folder, in a transaction.

    :raises IncompleteLoadError: not all that is in the files was loaded; roll back
    """
    loaded = dead = 0
    if files.rows:
        loaded = session.copy_landing(target, mapping=mapping, folder=folder)
    if files.dead_letters:
        dead = session.copy_dead_letters(target, folder=folder)
    if (loaded, dead) != (files.rows, files.dead_letters):
        raise IncompleteLoadError(
            f"Snowflake loaded {loaded} of {files.rows} rows and {dead} of {files.dead_letters} dead letters "
            f"in {folder} into {target.table}. It was rolled back; does something else write to stage "
            f"{target.stage}?"
        )


def keys_of(spans: Iterable[Span]) -> list[OffsetKey]:
    """The offsets rows that spans move."""
    return [OffsetKey(shard_id=span.shard_id, incarnation=span.incarnation) for span in spans]


def carry(batch: Batch, offsets: Offsets) -> bool:
    """Whether offsets prove that a batch is committed: each of its shards stands where it has moved it."""
    return all(
        (offset := offsets.found.get(key)) is not None
        and (offset.batch_id, offset.position) == (batch.id, span.reached)
        for key, span in zip(keys_of(batch.spans.values()), batch.spans.values(), strict=True)
    )


def ahead_of(batch: Batch, offsets: Offsets) -> dict[str, Position]:
    """Shards whose offsets are past the beginning of a batch, and where they stand."""
    return {
        key.shard_id: offset.position
        for key, offset in offsets.found.items()
        if key.shard_id in batch.spans
        and offset.position is not None
        and is_after(offset.position, batch.spans[key.shard_id].began)
    }


def went_back(batch: Batch, offsets: Offsets) -> list[str]:
    """Shards whose offsets are before one that a drain had committed through."""
    return [
        span.shard_id
        for key, span in zip(keys_of(batch.spans.values()), batch.spans.values(), strict=True)
        if span.offset is not None
        and key not in offsets.refused
        and ((offset := offsets.found.get(key)) is None or is_after(span.offset, offset.position))
    ]


def abandoned_batches(paths: Iterable[str], *, before: int) -> set[str]:
    """Batches that were begun before a moment (ms since the epoch), by the paths of their files.

    What isn't the folder of a batch, such as that of a replay, is left alone.
    """
    folders = {path.partition("/")[0] for path in paths}
    latest = f"{moment(before):%Y%m%dT%H%M%S}"
    return {folder for folder in folders if _BATCH_ID.fullmatch(folder) and folder < latest}


def absent_from(offsets: Offsets, keys: Iterable[OffsetKey]) -> list[OffsetKey]:
    """Keys without a row."""
    return [key for key in keys if key not in offsets.found and key not in offsets.refused]


def refused_shards(offsets: Offsets, batch: Batch) -> dict[str, CorruptStateError]:
    """Shards of a batch under whose offsets nothing can be loaded, and why."""
    return {key.shard_id: error for key, error in offsets.refused.items() if key.shard_id in batch.spans}


def is_after(position: Position, other: Position | None) -> bool:
    """Whether a position lies after another, or after the very beginning."""
    return other is None or position > other
