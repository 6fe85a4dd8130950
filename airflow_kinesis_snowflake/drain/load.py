"""The load protocol: one batch, one transaction, then its checkpoints.

What makes it exactly once, in the order of the statements:

1. The batch's files go to a stage folder of their own; nothing is visible yet.
   If the mapping adds or widens columns, that happens now, because DDL commits an open transaction.
2. ``BEGIN``, ``COPY`` of rows, ``COPY`` of dead letters if there are any.
3. The compare-and-set of offsets: each shard's row moves from where the batch began to where it ends, only if
   it stands at or before the beginning. If any shard's row has moved on, somebody else committed those
   records and everything is rolled back.
4. ``COMMIT``. From here on the records are in Snowflake, whatever dies. Its answer alone proves nothing:
   Snowflake ends a transaction that was idle for five minutes while others waited for its locks, as it is
   when the connection is broken for that long, and ignores a ``COMMIT`` without a transaction. So the offsets
   are read once more ("Aborting transactions" in Snowflake's documentation of transactions, "Usage notes" of
   ``COMMIT``).
5. Checkpoints to DynamoDB, each only while the lease is still ours. If the process dies before this, the next
   owner of the lease finds the truth in the offsets table, or runs into the compare-and-set.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    DrainStoppedError,
    FencedError,
    IncompleteLoadError,
    LeaseLostError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    TableChangedError,
    TerminalError,
    TooManyDeadLettersError,
    TransientError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.hooks.snowflake import Offset, OffsetKey, OffsetMove
from airflow_kinesis_snowflake.landing.columns import ColumnsMapping
from airflow_kinesis_snowflake.landing.statements import stage_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.drain.batch import Batch, Span
    from airflow_kinesis_snowflake.drain.leases import Leases
    from airflow_kinesis_snowflake.drain.narrowing import Narrowing
    from airflow_kinesis_snowflake.drain.settings import DrainSettings
    from airflow_kinesis_snowflake.drain.threads import DaemonThreads
    from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook, SnowflakeSession
    from airflow_kinesis_snowflake.landing.column_types import Column
    from airflow_kinesis_snowflake.landing.envelope import EnvelopeMapping
    from airflow_kinesis_snowflake.landing.files import BatchFiles
    from airflow_kinesis_snowflake.landing.statements import CopyMapping
    from airflow_kinesis_snowflake.landing.target import LandingTarget
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 5
LONGEST_WAIT_SECONDS = 30.0
CHANGES_IN_A_ROW = 5


@dataclass(frozen=True)
class Loaded:
    """How the load of one batch ended.

    :param batch: the batch; its files are gone
    :param committed: its records are in Snowflake
    :param lost: shards whose lease was lost; their checkpoints are not ours to write any more
    :param ahead: when fenced, shards whose offsets had moved on, and where they stand now
    :param seconds: time from the first upload to the last checkpoint
    """

    batch: Batch
    committed: bool
    lost: frozenset[str] = frozenset()
    ahead: Mapping[str, Position] = field(default_factory=dict)
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
    :param writers: threads for checkpoint writes
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
        stopping: threading.Event,
    ) -> None:
        self._snowflake = snowflake
        self._target = target
        self._mapping = mapping
        self._narrowing = narrowing
        self._leases = leases
        self._settings = settings
        self._writers = writers
        self._stopping = stopping
        self._session: SnowflakeSession | None = None
        self._lock = threading.RLock()
        self._offset_rows: set[OffsetKey] = set()
        self._objects_checked = False
        self._refused = 0
        self._table_changes = 0
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

    def offsets(self, keys: Sequence[OffsetKey]) -> Mapping[OffsetKey, Offset]:
        """Where Snowflake says these shards stand; rows that don't exist are left out."""
        with self._lock:
            return self._retrying(lambda: self._read_offsets(keys), doing="reading offsets")

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
            return self._load(batch, began=time.monotonic())

    def _load(self, batch: Batch, *, began: float) -> Loaded:
        try:
            if batch.records:
                self._check_threshold(batch)
                self._retrying(lambda: self._commit_or_narrow(batch), doing=f"loading batch {batch.id}")
        except FencedError:
            ahead = self._settle_fence(batch)
            if ahead is not None:
                return Loaded(batch, committed=False, ahead=ahead, seconds=time.monotonic() - began)
        except TableChangedError as error:
            self._table_changes += 1
            if self._table_changes > CHANGES_IN_A_ROW:
                raise
            log.warning("%s; its records are read again", error)
            return Loaded(batch, committed=False, seconds=time.monotonic() - began)
        except LeaseLostError:
            lost = frozenset(shard for shard in batch.spans if not self._leases.holds(shard))
            return Loaded(batch, committed=False, lost=lost, seconds=time.monotonic() - began)
        finally:
            batch.discard()
        self._table_changes = 0
        lost = self._checkpoint(batch)
        self.in_doubt -= batch.spans.keys()
        self._refused += batch.refused
        return Loaded(batch, committed=True, lost=lost, seconds=time.monotonic() - began)

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
        if self._session is not None:
            self._session.close()
            self._session = None

    def _commit_or_narrow(self, batch: Batch) -> None:
        """Commit a batch; if Snowflake refuses a value in it, without the records that it refuses."""
        try:
            self._commit(batch)
        except ValueRefusedError as refusal:
            session = self._open()
            copy = self._prepare_table(session, batch)
            self._narrowing.put_aside(batch, refusal, session=session, mapping=copy, before=self._refused)
            self._commit(batch)

    def _commit(self, batch: Batch) -> None:
        session = self._open()
        self._ensure_offset_rows(session, batch)
        if self.in_doubt.intersection(batch.spans) and self._committed_by(session, batch):
            log.info("Batch %s was committed although the answer was lost", batch.id)
            return
        copy = self._prepare_table(session, batch)
        folder = stage_folder(self._settings.application_name, self._settings.stream_name, batch.folder)
        for file in batch.files.close():
            session.upload(file, target=self._target, folder=folder)
        self.in_doubt |= batch.spans.keys()
        try:
            with session.transaction():
                copy_files(session, batch.files, target=self._target, mapping=copy, folder=folder)
                self._move_offsets(session, batch)
        except (ServiceRefusedError, SnowflakeObjectNotFoundError) as error:
            self._blame_changes(session, batch, copy, error)
            raise
        if not self._committed_by(session, batch):
            raise ServiceUnavailableError(
                f"Snowflake had ended the transaction of batch {batch.id} before its COMMIT arrived; nothing "
                f"of it is in {self._target.table}"
            )

    def _prepare_table(self, session: SnowflakeSession, batch: Batch) -> CopyMapping:
        return prepare_table(session, batch.files, target=self._target, mapping=self._mapping)

    def _blame_changes(
        self, session: SnowflakeSession, batch: Batch, copy: CopyMapping, error: TerminalError
    ) -> None:
        """Find out whether COPY was refused because somebody altered the table after we had looked at it.

        :raises TableChangedError: so it was
        """
        mapping = self._mapping
        if not isinstance(mapping, ColumnsMapping):
            return
        mapping.found(session.landing_columns(self._target))
        if mapping.copy(batch.files.fields, batch.files.missing) != copy:
            raise TableChangedError(
                f"{self._target.table} was altered while batch {batch.id} of stream "
                f"{self._settings.stream_name} was being loaded"
            ) from error

    def _move_offsets(self, session: SnowflakeSession, batch: Batch) -> None:
        if not all(self._leases.holds(shard) for shard in batch.spans):
            raise LeaseLostError(
                f"Leases of stream {self._settings.stream_name} were lost while batch {batch.id} was being "
                f"loaded; it was rolled back and the next owner reads its records again"
            )
        moves = [
            OffsetMove(
                shard_id=span.shard_id,
                incarnation=span.incarnation,
                began=span.began,
                reached=span.reached,
                records=span.records,
            )
            for span in batch.spans.values()
        ]
        moved = session.move_offsets(
            self._target,
            application=self._settings.application_name,
            stream=self._settings.stream_name,
            batch_id=batch.id,
            moves=moves,
        )
        if moved != len(moves):
            raise FencedError(
                f"{len(moves) - moved} of {len(moves)} shards in batch {batch.id} of stream "
                f"{self._settings.stream_name} had been committed further by another worker; it was rolled "
                f"back"
            )

    def _committed_by(self, session: SnowflakeSession, batch: Batch) -> bool:
        offsets = self._read(session, keys_of(batch.spans.values()))
        return carries(batch.id, offsets)

    def _settle_fence(self, batch: Batch) -> Mapping[str, Position] | None:
        """Find out who moved the offsets: ``None`` if it was this batch, in an earlier try.

        Otherwise the shards that are ahead of where the batch began, and where they stand.
        """
        offsets = self.offsets(keys_of(batch.spans.values()))
        if carries(batch.id, offsets):
            return None
        self.in_doubt -= batch.spans.keys()
        ahead = {
            key.shard_id: offset.position
            for key, offset in offsets.items()
            if offset.position is not None and is_after(offset.position, batch.spans[key.shard_id].began)
        }
        if not ahead:
            raise CorruptStateError(
                f"{self._target.offsets} doesn't have one row for each shard of stream "
                f"{self._settings.stream_name} and application {self._settings.application_name}: "
                f"{', '.join(sorted(batch.spans))}. Nothing was loaded. The next drain adds rows that are "
                f"missing; if it fails too, delete rows that are there twice"
            )
        return ahead

    def _checkpoint(self, batch: Batch) -> frozenset[str]:
        def save(span: Span) -> bool:
            return self._leases.save(
                span.shard_id, span.reached, ended=False, millis_behind=span.millis_behind
            )

        spans = list(batch.spans.values())
        saved = self._writers.map(save, spans)
        return frozenset(span.shard_id for span, ours in zip(spans, saved, strict=True) if not ours)

    def _ensure_offset_rows(self, session: SnowflakeSession, batch: Batch) -> None:
        missing = [key for key in keys_of(batch.spans.values()) if key not in self._offset_rows]
        if not missing:
            return
        existing = self._read(session, missing)
        absent = [key for key in missing if key not in existing]
        if absent:
            session.ensure_offsets(
                self._target,
                application=self._settings.application_name,
                stream=self._settings.stream_name,
                keys=absent,
            )
        self._offset_rows.update(missing)

    def _read_offsets(self, keys: Sequence[OffsetKey]) -> Mapping[OffsetKey, Offset]:
        found = self._read(self._open(), keys)
        self._offset_rows.update(found)
        return found

    def _read(self, session: SnowflakeSession, keys: Sequence[OffsetKey]) -> Mapping[OffsetKey, Offset]:
        return session.read_offsets(
            self._target,
            application=self._settings.application_name,
            stream=self._settings.stream_name,
            keys=keys,
        )

    def _open(self) -> SnowflakeSession:
        if self._session is None:
            self._session = self._snowflake.open_session()
            self.connections += 1
        if not self._objects_checked:
            self._session.ensure_objects(self._target, mapping=self._mapping)
            self._objects_checked = True
        return self._session

    def _retrying(self, call: Callable[[], T], *, doing: str) -> T:
        """Call again after transient faults, each time over a new session.

        A fence, a lost lease and a changed table aren't faults: they go to the caller at once.
        """
        for attempt in range(1, TRIES + 1):
            try:
                return call()
            except (FencedError, LeaseLostError, TableChangedError):
                raise
            except TransientError as error:
                self.close()
                if attempt == TRIES:
                    raise
                wait = random.uniform(0, min(LONGEST_WAIT_SECONDS, 2.0**attempt))
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


def carries(batch_id: str, offsets: Mapping[OffsetKey, Offset]) -> bool:
    """Whether the offsets prove that a batch is committed: its shards move together or not at all."""
    return any(offset.batch_id == batch_id for offset in offsets.values())


def is_after(position: Position, other: Position | None) -> bool:
    """Whether a position lies after another, or after the very beginning."""
    return other is None or position > other
