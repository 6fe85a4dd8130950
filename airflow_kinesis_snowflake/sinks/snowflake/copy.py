"""The sink that loads by COPY: one batch, one transaction.

What makes it exactly once, in the order of the statements:

1. The offsets of the batch's shards are read, unless they are known from the last commit of this session. An
   offset past the start of the batch means that its records are committed. Otherwise the store confirms the
   leases, and missing rows are added.
2. If the mapping adds or widens columns, that happens now, because DDL commits an open transaction. The files
   go to a stage folder that no other attempt uses. Nothing is visible yet.
3. ``BEGIN``, and the id of the transaction. ``COPY`` of rows, and of dead letters if there are any.
4. The lock: until this transaction ends, no other load of the same offsets gets past its lock.
5. The compare-and-set: each shard's offset moves from its known position to the end of the batch, and only in
   this very transaction; if Snowflake has ended it, nothing moves. Then the offsets are read, and unless each
   shard has exactly one row, moved by this very attempt, everything is rolled back: the ``COMMIT`` of an
   earlier attempt may have arrived while this one waited for the lock.
6. ``COMMIT``. From here on the records are in Snowflake, whatever happens. Its answer alone proves nothing,
   because a ``COMMIT`` without a transaction is ignored. So the offsets are read once more.

Checkpoints follow, each only while the lease is still ours. If the process dies before that, the next owner
of the lease reads the truth from the offsets table, or is stopped by the compare-and-set.

The session has AUTOCOMMIT off, and ends with the first transaction that doesn't commit: a statement that was
sent without an answer, or that arrives late or twice, meets a transaction that nobody commits, or no session.
Whether a batch in doubt is committed is settled in a new session. See "Transactions", "COMMIT" and
"AUTOCOMMIT" in Snowflake's documentation, and docs/exactly-once.md for what rests on which of them.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from airflow_kinesis_snowflake.engine.batch import BatchLimits
from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, OffsetMove, Offsets
from airflow_kinesis_snowflake.engine.ports import Outcome
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
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
    TransactionEndedError,
    TransientError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.sinks.snowflake.evolution import evolve
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY
from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles, work_folder
from airflow_kinesis_snowflake.sinks.snowflake.isolation import RowIsolation, files_of
from airflow_kinesis_snowflake.sinks.snowflake.statements import LOCK, stage_folder
from airflow_kinesis_snowflake.stream.positions import is_after
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.batch import Batch, Span
    from airflow_kinesis_snowflake.engine.ports import SinkContext
    from airflow_kinesis_snowflake.formats.column_types import Column
    from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
    from airflow_kinesis_snowflake.sinks.snowflake.factories import Landing, OpenSession
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from airflow_kinesis_snowflake.sinks.snowflake.statements import CopyMapping
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)


class _Names(TypedDict):
    application: str
    stream: str


# No batch stays under way this long, however often it is retried.
LIMITS = BatchLimits(max_batch_bytes=128 * 2**20, max_batch_records=5_000_000, max_batch_seconds=60.0)
ABANDONED_MILLIS = 24 * 3_600_000
_BATCH_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{12}")


class CopySink:
    """Commits each batch by COPY, in one transaction with its offsets and dead letters.

    Uses one Snowflake session, opened when it is first needed, and another one for offsets that are read
    during a commit. Safe to call from several threads; apart from that and :meth:`cancel`, calls wait for
    each other.

    :param landing: where and as what records land
    :param open_session: logs in
    :param context: of the drain
    """

    name = COPY
    memory_millis = None
    limits = LIMITS

    def __init__(self, landing: Landing, open_session: OpenSession, context: SinkContext) -> None:
        self._context = context
        self._runtime = context.writers.runtime
        self._open_session = open_session
        self._target = landing.target
        self._mapping = landing.mapping(self._landing_columns)
        self.encoder = landing.encoder(self._mapping)
        self.table = str(landing.table)
        self._isolation = RowIsolation(context, target=self._target)
        self._session: SnowflakeSession | None = None
        self._lock = self._runtime.lock()
        self._known: dict[OffsetKey, Offset] = {}
        self._objects_checked = False
        self._took_over = False
        self._failed = False
        self._committing = False
        self.connections = 0
        self.in_doubt: frozenset[str] = frozenset()

    def workspace(self) -> AbstractContextManager[Path]:
        """A folder whose files PUT can name."""
        return work_folder()

    def begin(self, folder: Path) -> BatchFiles:
        """Parquet files."""
        return BatchFiles(
            folder, application=self._context.application_name, stream_name=self._context.stream_name
        )

    def prepare(self) -> None:
        """Connect, and create or check the tables and the stage."""
        with self._calling():
            self._open()

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        """Rows of the offsets table; beside a commit of other shards in a session of its own."""
        self._took_over = True
        if self._objects_checked and self._committing:
            with self._open_session() as session:
                self.connections += session.fresh
                return session.read_offsets(self._target, **self._of_the_application, keys=keys)
        with self._calling():
            try:
                return self._read(self._open(), keys)
            except TransientError:
                self.disconnect()
                raise

    def commit(self, batch: Batch, *, refused_before: int) -> Outcome:
        """Commit a batch; if Snowflake refuses values in it, without the records it refuses."""
        with self._calling():
            self._committing = True
            try:
                return self._commit_or_narrow(batch, refused_before=refused_before)
            finally:
                self._committing = False

    def settled(self, batch: Batch) -> None:
        """Note that nothing of the batch's shards is in doubt any more."""
        self.in_doubt -= batch.spans.keys()

    def cancel(self) -> None:
        """Cancel the statement under way, from another thread."""
        self._failed = True
        if self._session is not None:
            self._session.cancel()

    def disconnect(self) -> None:
        """Close the session if one is open."""
        self._known.clear()
        if self._session is not None:
            self._session.close()
            self._session = None

    def close(self) -> None:
        """Finish with the session if one is open.

        Others must not use it after a call that failed or was cancelled, which may still take effect.
        """
        if self._session is not None and not self._failed:
            self._session.done()
            self._session = None
        self.disconnect()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except BaseException:
                self._failed = True
                raise

    def _landing_columns(self) -> Mapping[str, Column]:
        """The columns of the landing table, which is created if it is missing."""

        def read() -> Mapping[str, Column]:
            return self._open().landing_columns(self._target)

        with self._calling():
            return self._context.retries.call(read, doing="listing columns", after_failure=self.disconnect)

    def _commit_or_narrow(self, batch: Batch, *, refused_before: int) -> Outcome:
        try:
            return self._commit(batch)
        except ValueRefusedError as refusal:
            session = self._open()
            copy = self._prepare_table(session, batch)
            self._isolation.isolate(batch, refusal, session=session, mapping=copy, before=refused_before)
            # A statement of an isolation try that arrives late must not meet the transaction of the batch.
            self.disconnect()
            return self._commit(batch)

    def _commit(self, batch: Batch) -> Outcome:
        offsets = self._offsets_before(batch)
        outcome = self._outcome_by(offsets, batch)
        if outcome is None:
            self._confirm_leases(batch)
            offsets = self._with_rows(batch, offsets)
            outcome = self._outcome_by(offsets, batch)
        if outcome is not None:
            return outcome
        session = self._open()
        copy = self._prepare_table(session, batch)
        folder = self._upload(session, batch)
        self.in_doubt |= batch.spans.keys()
        try:
            with session.transaction() as transaction:
                copy_files(session, files_of(batch), target=self._target, mapping=copy, folder=folder)
                session.lock_offsets(self._target, **self._of_the_application)
                self._move_offsets(session, batch, offsets.found, transaction=transaction)
        except FencedError:
            return self._settle_fence(batch)
        except (ServiceRefusedError, SnowflakeObjectNotFoundError) as error:
            self._blame_changes(batch, copy, error)
            raise
        if not carry(batch, self._read(session, batch.keys)):
            raise TransactionEndedError(
                f"Try again: Snowflake had ended the transaction of batch {batch.id} before its COMMIT "
                f"arrived; nothing of it is in {self._target.table}"
            )
        self._remove_earlier_attempts(session, batch)
        self._remove_abandoned(session)
        return committed(batch)

    def _offsets_before(self, batch: Batch) -> Offsets:
        """The offsets of a batch's shards, as far as they have rows."""
        keys = keys_for(batch)
        if all(key in self._known for key in keys):
            offsets = Offsets({key: self._known[key] for key in keys}, {})
        else:
            offsets = self._read(self._open(), keys)
        if went_back(batch, offsets):
            # Another worker may have loaded a shard that was ours before and is ours again. And a session
            # that was open when it committed may not see that yet (READ_CONSISTENCY_MODE in Snowflake's
            # documentation).
            self.disconnect()
            offsets = self._read(self._open(), keys)
        return offsets

    def _confirm_leases(self, batch: Batch) -> None:
        """Make sure that the leases are ours after everything in the batch was read.

        The offset can't tell: it stays where it is when the next owner has nothing to commit, gives the lease
        back, and records that come later are loaded by another sink. Nor can a clock that may have slept
        meanwhile. And a missing row may belong to an incarnation that a reset closed long ago; recreating it
        would open it to a worker that has been asleep since.

        :raises LeaseLostError: another worker holds a lease
        """
        if not all(self._context.writers.map(self._context.claims.confirm, list(batch.spans))):
            raise LeaseLostError(
                f"Leave its records to the next owner: leases of stream {self._context.stream_name} were "
                f"lost before batch {batch.id} was started"
            )

    def _with_rows(self, batch: Batch, offsets: Offsets) -> Offsets:
        """The offsets after rows were added for shards without one."""
        keys = keys_for(batch)
        absent = absent_from(offsets, keys)
        if not absent:
            return offsets
        session = self._open()
        session.ensure_offsets(self._target, **self._of_the_application, keys=absent)
        offsets = self._read(session, keys)
        if absent_from(offsets, keys):
            raise TransactionEndedError(
                f"Try again: Snowflake had ended the transaction that adds rows to {self._target.offsets} "
                f"before its COMMIT arrived; batch {batch.id} is not begun"
            )
        return offsets

    def _outcome_by(self, offsets: Offsets, batch: Batch) -> Outcome | None:
        """The outcome of a batch, judged by offsets; ``None`` if it is still to be loaded."""
        refused = refused_shards(offsets, batch) | {
            shard_id: self._went_back(batch.spans[shard_id]) for shard_id in went_back(batch, offsets)
        }
        if refused:
            return Outcome(refused=refused)
        if carry(batch, offsets):
            log.info("Batch %s was committed, although the answer was lost", batch.id)
            return committed(batch)
        ahead = ahead_of(batch, offsets)
        if ahead:
            self.settled(batch)
            return Outcome(ahead=ahead)
        return None

    def _went_back(self, span: Span) -> OffsetWentBackError:
        return OffsetWentBackError(
            f"Run the DAG kinesis_state_reset with the method recover and trust_snowflake: the offset of "
            f"shard {span.shard_id} of stream {self._context.stream_name} in {self._target.offsets} is "
            f"before {span.offset}, through which a drain had committed. The tables went back in time "
            f"(Time Travel, a clone, or a failover to a replica), and records are missing in "
            f"{self._target.table}"
        )

    def _upload(self, session: SnowflakeSession, batch: Batch) -> str:
        """Put the files into a folder that no other attempt has used or will use."""
        batch.attempts += 1
        folder = self._folder(batch, str(batch.attempts))
        for file in files_of(batch).close():
            session.upload(file, target=self._target, folder=folder)
        return folder

    def _remove_earlier_attempts(self, session: SnowflakeSession, batch: Batch) -> None:
        """COPY has removed only the files of the attempt that was committed."""
        if batch.attempts == 1:
            return
        try:
            session.remove_folder(self._target.stage, folder=self._folder(batch))
        except KinesisSnowflakeError as error:
            self.disconnect()
            log.info("Files of batch %s are left on stage %s: %s", batch.id, self._target.stage, error)

    def _remove_abandoned(self, session: SnowflakeSession) -> None:
        """Remove leftover files of batches more than a day old; done only after a takeover.

        They belong to workers that died, or COPY couldn't remove them.
        """
        if not self._took_over or session.closed:
            return
        self._took_over = False
        names = (self._context.application_name, self._context.stream_name)
        before = self._runtime.wall() - ABANDONED_MILLIS
        try:
            paths = session.list_folder(self._target.stage, folder=stage_folder(*names))
            for batch_id in sorted(abandoned_batches(paths, before=before)):
                session.remove_folder(self._target.stage, folder=stage_folder(*names, batch_id))
                log.info("Leftover files of batch %s were removed", batch_id)
        except KinesisSnowflakeError as error:
            self.disconnect()
            log.info("Stage %s wasn't searched for leftover files: %s", self._target.stage, error)

    def _folder(self, batch: Batch, *parts: str) -> str:
        return stage_folder(self._context.application_name, self._context.stream_name, batch.id, *parts)

    @property
    def _of_the_application(self) -> _Names:
        return {"application": self._context.application_name, "stream": self._context.stream_name}

    def _prepare_table(self, session: SnowflakeSession, batch: Batch) -> CopyMapping:
        return prepare_table(session, files_of(batch), target=self._target, mapping=self._mapping)

    def _blame_changes(self, batch: Batch, copy: CopyMapping, error: TerminalError) -> None:
        """Find out whether COPY was refused because somebody altered the table after we had read its columns.

        :raises TableChangedError: it was
        """
        mapping = self._mapping
        if not isinstance(mapping, ColumnsMapping):
            return
        mapping.found(self._open().landing_columns(self._target))
        if mapping.copy(files_of(batch).fields, files_of(batch).missing) != copy:
            raise TableChangedError(
                f"Try again: {self._target.table} was altered while batch {batch.id} of stream "
                f"{self._context.stream_name} was being loaded"
            ) from error

    def _move_offsets(
        self,
        session: SnowflakeSession,
        batch: Batch,
        before: Mapping[OffsetKey, Offset],
        *,
        transaction: str,
    ) -> None:
        """Move the offsets of all shards of the batch, or none.

        :raises LeaseLostError: a lease was lost; roll back
        :raises FencedError: an offset isn't where it was; roll back
        :raises TransactionEndedError: Snowflake has ended the transaction
        """
        if not all(self._context.claims.holds(shard) for shard in batch.spans):
            raise LeaseLostError(
                f"Leave its records to the next owner: leases of stream {self._context.stream_name} were "
                f"lost while batch {batch.id} was being loaded; it was rolled back"
            )
        keys, attempt = batch.keys, f"{batch.id}/{transaction}"
        session.move_offsets(
            self._target,
            **self._of_the_application,
            batch_id=attempt,
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
        if carry(batch, after, attempt=attempt):
            return
        if after == Offsets({key: before[key] for key in keys}, {}):
            raise TransactionEndedError(
                f"Try again: Snowflake had ended the transaction of batch {batch.id} before its offsets "
                f"moved; nothing of it is in {self._target.table}"
            )
        raise FencedError(
            f"Read on after the offsets: another worker moved those of shards in batch {batch.id} of stream "
            f"{self._context.stream_name}; the batch was rolled back"
        )

    def _settle_fence(self, batch: Batch) -> Outcome:
        """Find out, in a new session, who moved the offsets.

        :raises ServiceUnavailableError: nobody did, or nobody moved them past the start of the batch; try
            again
        """
        self.disconnect()
        outcome = self._outcome_by(self._read(self._open(), batch.keys), batch)
        if outcome is None:
            raise ServiceUnavailableError(
                f"Try again: offsets of {', '.join(sorted(batch.spans))} in {self._target.offsets} changed "
                f"while batch {batch.id} was being loaded; it was rolled back"
            )
        return outcome

    def _read(self, session: SnowflakeSession, keys: Sequence[OffsetKey]) -> Offsets:
        offsets = session.read_offsets(self._target, **self._of_the_application, keys=keys)
        self._known.update(offsets.found)
        return offsets

    def _open(self) -> SnowflakeSession:
        if self._session is None or not self._session.fit:
            self.disconnect()
            self._session = self._open_session()
            self.connections += self._session.fresh
        if not self._objects_checked:
            self._session.ensure_objects(self._target, mapping=self._mapping)
            self._objects_checked = True
        return self._session


def prepare_table(
    session: SnowflakeSession,
    files: BatchFiles,
    *,
    target: LandingTarget,
    mapping: EnvelopeMapping | ColumnsMapping,
) -> CopyMapping:
    """Add the columns that files need to the landing table, and return how to fill them; outside
    transactions.

    :raises TableChangedError: the table can't take what was prepared for it, because another worker or a
        person has altered it meanwhile
    """
    if not isinstance(mapping, ColumnsMapping):
        return mapping
    evolve(session, files.fields, files.missing, target=target, mapping=mapping)
    copy = mapping.copy(files.fields, files.missing)
    if copy is None:
        raise TableChangedError(
            f"Prepare the records again: the columns of {target.table} aren't those that they were "
            "prepared for"
        )
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

    :raises IncompleteLoadError: the files weren't loaded completely; roll back
    """
    loaded = dead = 0
    if files.rows:
        loaded = session.copy_landing(target, mapping=mapping, folder=folder)
    if files.dead_letters:
        dead = session.copy_dead_letters(target, folder=folder)
    if (loaded, dead) != (files.rows, files.dead_letters):
        raise IncompleteLoadError(
            f"Check whether something else writes to stage {target.stage}: Snowflake loaded {loaded} of "
            f"{files.rows} rows and {dead} of {files.dead_letters} dead letters in {folder} into "
            f"{target.table}. It was rolled back"
        )


def committed(batch: Batch) -> Outcome:
    """The outcome of a committed batch: every shard's offset has moved to its end."""
    return Outcome(offsets={shard_id: span.reached for shard_id, span in batch.spans.items()})


def carry(batch: Batch, offsets: Offsets, *, attempt: str | None = None) -> bool:
    """Whether offsets prove that a batch is committed: each of its shards is where the batch moved it.

    :param attempt: only by this attempt at it; ``None``: by any
    """
    return all(
        (offset := offsets.found.get(span.key)) is not None
        and offset.position == span.reached
        and offset.batch_id is not None
        and (offset.batch_id == attempt if attempt else offset.batch_id.partition("/")[0] == batch.id)
        for span in batch.spans.values()
    )


def ahead_of(batch: Batch, offsets: Offsets) -> dict[str, Position]:
    """Shards whose offsets are past the start of a batch, with these offsets."""
    return {
        key.shard_id: offset.position
        for key, offset in offsets.found.items()
        if key.shard_id in batch.spans
        and offset.position is not None
        and is_after(offset.position, batch.spans[key.shard_id].began)
    }


def went_back(batch: Batch, offsets: Offsets) -> list[str]:
    """Shards whose offsets are before a position that a drain had committed."""
    return [
        span.shard_id
        for span in batch.spans.values()
        if span.offset is not None
        and span.key not in offsets.refused
        and ((offset := offsets.found.get(span.key)) is None or is_after(span.offset, offset.position))
    ]


def abandoned_batches(paths: Iterable[str], *, before: int) -> set[str]:
    """Batches that were started before a moment (ms since the epoch), by the paths of their files.

    Folders that aren't a batch's, such as a replay's, are left alone.
    """
    folders = {path.partition("/")[0] for path in paths}
    latest = f"{moment(before):%Y%m%dT%H%M%S}"
    return {folder for folder in folders if _BATCH_ID.fullmatch(folder) and folder < latest}


def keys_for(batch: Batch) -> list[OffsetKey]:
    """The keys of the offsets that a load needs: that of the lock, and one for each shard."""
    return [OffsetKey(*LOCK), *batch.keys]


def absent_from(offsets: Offsets, keys: Iterable[OffsetKey]) -> list[OffsetKey]:
    """Keys without a row."""
    return [key for key in keys if key not in offsets.found and key not in offsets.refused]


def refused_shards(offsets: Offsets, batch: Batch) -> dict[str, CorruptStateError]:
    """Shards of a batch whose offsets allow no load, and why."""
    return {key.shard_id: error for key, error in offsets.refused.items() if key.shard_id in batch.spans}
