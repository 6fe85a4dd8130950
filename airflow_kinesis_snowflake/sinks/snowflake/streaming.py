"""The sink that streams: a channel of Snowpipe Streaming for each shard, and no warehouse.

What makes it exactly once:

1. A channel belongs to whoever opened it last, and keeps a token of its last committed rows. The token is the
   position of the last record. So opening a channel fences the former owner, and tells where to continue: it
   is compare and set in one.
2. After a channel is opened, and before the first row, the store confirms the lease. A reset, or the next
   owner of the lease, opens the channel once it has the lease; any worker confirmed before is fenced then.
3. Dead letters go through channels of their own, and are committed before the rows of their batch. So the
   token of the landing channel covers both tables; dead letters that a lost batch had committed are
   recognized by the token of their channel, and left out.
4. Rows are sent in parts that end between two records, each with the token of its end. Only a token that the
   service reports as committed counts; that an append returned proves nothing.

Checkpoints follow. If the process dies before that, the next owner of the lease opens the channels and
continues after their tokens. See docs/streaming.md for what rests on Snowflake's documentation.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from airflow_kinesis_snowflake.engine.batch import BatchLimits
from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, Offsets
from airflow_kinesis_snowflake.engine.ports import Outcome
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    FencedError,
    KinesisSnowflakeError,
    LeaseLostError,
    OffsetWentBackError,
    ServiceUnavailableError,
    TableChangedError,
    TransientError,
)
from airflow_kinesis_snowflake.formats.column_types import DataType
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.dead_letters import GAP, dead_letter_rows
from airflow_kinesis_snowflake.formats.json_rows import column_rows, envelope_rows, letter_rows
from airflow_kinesis_snowflake.formats.row_limit import LimitedEncoder
from airflow_kinesis_snowflake.sinks.snowflake.channels import MAX_ROW_BYTES
from airflow_kinesis_snowflake.sinks.snowflake.evolution import evolve
from airflow_kinesis_snowflake.sinks.snowflake.factories import STREAMING
from airflow_kinesis_snowflake.sinks.snowflake.files import work_folder
from airflow_kinesis_snowflake.stream.positions import (
    Position,
    decode_position,
    encode_position,
    is_after,
    later,
)
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pyarrow as pa

    from airflow_kinesis_snowflake.engine.batch import Batch, Span
    from airflow_kinesis_snowflake.engine.ports import SinkContext
    from airflow_kinesis_snowflake.formats.column_types import Column
    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.formats.fields import FileColumn
    from airflow_kinesis_snowflake.formats.json_rows import JsonColumn
    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.factories import (
        ChannelOwner,
        Landing,
        OpenChannels,
        OpenSession,
        OwnedChannel,
    )
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession

log = logging.getLogger(__name__)

# The SDK sends anything larger through files in cloud storage.
PART_BYTES = 3 * 2**20
COMMIT_SECONDS = 120.0
LIMITS = BatchLimits(max_batch_bytes=24 * 2**20, max_batch_records=500_000, max_batch_seconds=1.0)
MAX_NAME_LENGTH = 250
# Channels and tokens that are idle for 30 days are deleted (Snowflake's documentation of channels). One day
# less, so that clocks don't matter.
MEMORY_MILLIS = 29 * 24 * 3_600_000
_GAP = "g"


class StreamedRows:
    """What a batch holds in memory until it is sent: encoded pages, by shard."""

    def __init__(self) -> None:
        self.pages: dict[str, list[EncodedRecords]] = defaultdict(list)
        self.fields: set[FileColumn] = set()
        self.missing: set[str] = set()
        self.rows = 0
        self.dead_letters = 0
        self.size = 0

    def append(self, encoded: EncodedRecords, *, shard_id: str) -> None:
        """Keep a page."""
        self.pages[shard_id].append(encoded)
        self.fields |= encoded.fields
        self.missing |= encoded.missing
        self.rows += encoded.rows.num_rows
        self.dead_letters += len(encoded.dead_letters)
        self.size += encoded.rows.nbytes + sum(len(letter.record.data) for letter in encoded.dead_letters)

    def delete(self) -> None:
        """Forget all pages."""
        self.pages.clear()


class Part(NamedTuple):
    """Rows that are appended together.

    :param start: token of the first
    :param end: token once they are committed
    """

    rows: list[bytes]
    start: str
    end: str


@dataclass
class _Lane:
    """A channel that this drain owns.

    :param committed: its token
    :param rejected: rows that the service had rejected when its state was last read
    :param confirmed: the store confirmed, after the channel was opened, that the lease is ours
    """

    channel: OwnedChannel
    committed: str | None
    rejected: int
    confirmed: bool = False


class StreamingSink:
    """Commits each shard of a batch through a channel of its own.

    Safe to call from several threads; except for :meth:`cancel`, calls wait for each other.

    :param landing: where and as what records land
    :param open_session: logs in for DDL, which needs no warehouse
    :param open_channels: logs in to stream into a table
    :param context: of the drain
    """

    name = STREAMING
    memory_millis = MEMORY_MILLIS
    limits = LIMITS

    def __init__(
        self, landing: Landing, open_session: OpenSession, open_channels: OpenChannels, context: SinkContext
    ) -> None:
        self._context = context
        self._runtime = context.writers.runtime
        self._landing = landing
        self._open_session = open_session
        self._open_channels = open_channels
        self._target = landing.target
        self._mapping = landing.mapping(self._landing_columns)
        self.encoder = LimitedEncoder(landing.encoder(self._mapping), most=MAX_ROW_BYTES)
        self.table = str(landing.table)
        self._lock = self._runtime.lock()
        self._cancelled = self._runtime.event()
        self._owners: dict[TableName, ChannelOwner] = {}
        self._lanes: dict[tuple[TableName, OffsetKey], _Lane] = {}
        self._objects_checked = False
        self._committing = False
        self._rejected = 0
        self._evolved: set[tuple[FileColumn | None, str | None]] = set()
        self.connections = 0
        # How far dead letters were sent. Their rows may be lost, and no other sink would know of the letters.
        self._letters: dict[OffsetKey, Position | None] = {}
        self.in_doubt: frozenset[str] = frozenset()

    def workspace(self) -> AbstractContextManager[Path]:
        """A folder; nothing is written to it."""
        return work_folder()

    def begin(self, folder: Path) -> StreamedRows:
        """Pages in memory."""
        return StreamedRows()

    def prepare(self) -> None:
        """Create or check the tables, and log in to stream."""
        with self._lock:
            self._check_objects()
            self._owner(self._target.table)

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        """Tokens of channels. Opens them: from here on their former owners can't commit.

        Beside a commit of other shards it does so through clients of its own.
        """
        target = self._target
        if self._objects_checked and self._committing:
            return self._offsets_of(
                *(self._tokens_beside(table, keys) for table in (target.table, target.dead_letters))
            )
        with self._lock:
            try:
                self._check_objects()
                tokens = {key: self._open_anew(target.table, key) for key in keys}
                letters = {key: self._open_anew(target.dead_letters, key) for key in keys}
            except TransientError:
                self.disconnect()
                raise
        return self._offsets_of(tokens, letters)

    def _tokens_beside(self, table: TableName, keys: Sequence[OffsetKey]) -> dict[OffsetKey, str | None]:
        for key in keys:
            self._let_go(table, key)
        owner = self._open_channels(table)
        self.connections += 1
        try:
            return {key: owner.open(self._channel_name(key)).opened.committed for key in keys}
        finally:
            owner.close()

    def _offsets_of(
        self, tokens: Mapping[OffsetKey, str | None], letters: Mapping[OffsetKey, str | None]
    ) -> Offsets:
        found: dict[OffsetKey, Offset] = {}
        refused: dict[OffsetKey, CorruptStateError] = {}
        for key, token in tokens.items():
            try:
                if (position := position_of(token)) is not None:
                    found[key] = Offset(key.shard_id, key.incarnation, position, None)
            except ValueError:
                refused[key] = self._unreadable(key, token)
        ahead = {key: position for key, token in letters.items() if (position := place_of_letter(token))}
        return Offsets(found, refused, ahead)

    def commit(self, batch: Batch, *, refused_before: int) -> Outcome:
        """Commit dead letters, then rows, of all shards of a batch."""
        with self._lock:
            self._committing = True
            try:
                return self._commit(batch)
            except FencedError as error:
                # Whoever opened a channel has, or had, the lease. Its token tells what became of our rows.
                raise ServiceUnavailableError(
                    f"Open the channels of batch {batch.id} again to see what is committed: {error}"
                ) from error
            finally:
                self._committing = False

    def settled(self, batch: Batch) -> None:
        """Note that the batch's shards aren't in doubt, unless dead letters were sent that come after it."""
        self._settle({span.key: span.reached for span in batch.spans.values()})

    def _settle(self, committed: Mapping[OffsetKey, Position | None]) -> None:
        """Note how far shards are committed, as everybody can see."""
        for key, position in committed.items():
            letters = self._letters.get(key)
            if letters is None or not is_after(letters, position):
                self._letters.pop(key, None)
                self.in_doubt -= {key.shard_id}

    def cancel(self) -> None:
        """Stop waiting for a commit, from another thread."""
        self._cancelled.set()

    def disconnect(self) -> None:
        """Let go of all channels."""
        self._lanes.clear()
        owners, self._owners = list(self._owners.values()), {}
        for owner in owners:
            with suppress(KinesisSnowflakeError):
                owner.close()

    def close(self) -> None:
        """Let go of all channels."""
        self.disconnect()

    # --- one batch -----------------------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> Outcome:
        rows, self._rejected = rows_of(batch), 0
        self._check_objects()
        columns = self._columns(rows, batch)
        lanes = self._open(batch)
        if behind(lanes, batch):
            # Another worker had the lease for a while, and has opened the channel and committed since.
            self.disconnect()
            lanes = self._open(batch)
        if (outcome := self._outcome_by(lanes, batch)) is not None:
            return outcome
        self.in_doubt |= batch.spans.keys()
        self._commit_letters(batch, rows)
        parts = {
            shard_id: self._parts(pages, columns, batch.spans[shard_id])
            for shard_id, pages in rows.pages.items()
        }
        sent = self._append(self._target.table, batch, parts)
        reached = {shard_id: batch.spans[shard_id].reached for shard_id in sent}
        return Outcome(offsets=reached, rejected=self._rejected)

    def _open(self, batch: Batch) -> dict[str, _Lane]:
        """Open the channels of a batch, then confirm the leases.

        :return: the landing channels
        :raises LeaseLostError: another worker has a lease
        """
        if not all(self._context.claims.holds(shard_id) for shard_id in batch.spans):
            raise self._lease_lost(batch)
        landing: dict[str, _Lane] = {}
        unsure: dict[str, list[_Lane]] = {}
        for shard_id, pages in rows_of(batch).pages.items():
            key = batch.spans[shard_id].key
            lanes = [self._lane(self._target.table, key)]
            landing[shard_id] = lanes[0]
            if any(page.dead_letters for page in pages):
                lanes.append(self._lane(self._target.dead_letters, key))
            if not all(lane.confirmed for lane in lanes):
                unsure[shard_id] = lanes
        if not all(self._context.writers.map(self._context.claims.confirm, list(unsure))):
            raise self._lease_lost(batch)
        for lanes in unsure.values():
            for lane in lanes:
                lane.confirmed = True
        return landing

    def _outcome_by(self, lanes: Mapping[str, _Lane], batch: Batch) -> Outcome | None:
        """The outcome of a batch, judged by tokens; ``None`` if it is still to be sent."""
        ahead: dict[str, Position] = {}
        refused: dict[str, CorruptStateError] = {}
        found: dict[OffsetKey, Position | None] = {}
        for shard_id, lane in lanes.items():
            span = batch.spans[shard_id]
            try:
                committed = found[span.key] = position_of(lane.committed)
            except ValueError:
                refused[shard_id] = self._unreadable(span.key, lane.committed)
                continue
            if committed is not None and is_after(committed, span.began):
                ahead[shard_id] = committed
            elif span.offset is not None and (committed is None or span.offset > committed):
                refused[shard_id] = self._went_back(span)
        if refused:
            return Outcome(refused=refused)
        if not ahead:
            return None
        if all(ahead.get(shard_id) == batch.spans[shard_id].reached for shard_id in lanes):
            log.info("Batch %s was committed, although the answer was lost", batch.id)
            return Outcome(offsets=ahead)
        self._settle(found)
        return Outcome(ahead=ahead)

    def _commit_letters(self, batch: Batch, rows: StreamedRows) -> None:
        parts: dict[str, Iterator[Part]] = {}
        for shard_id, pages in rows.pages.items():
            letters = [letter for page in pages for letter in page.dead_letters]
            if letters:
                key = batch.spans[shard_id].key
                left = letters_after(self._lane(self._target.dead_letters, key).committed, letters)
                parts[shard_id] = self._letter_parts(left, shard_id=shard_id)
                if left:
                    last = place_of_letter(left[-1][0])
                    self._letters[key] = later(last, self._letters.get(key))
        self._append(self._target.dead_letters, batch, parts)

    def _append(self, table: TableName, batch: Batch, parts: Mapping[str, Iterable[Part]]) -> Set[str]:
        """Send parts of several shards side by side, and wait until the service reports them committed.

        :param parts: by shard; a part is built once the one before it was sent, so that memory holds one
        :return: the shards that had any
        """
        lanes = {shard_id: self._lane(table, batch.spans[shard_id].key) for shard_id in parts}
        ends: dict[str, str] = {}
        for shard_id, of_shard in parts.items():
            for part in of_shard:
                lanes[shard_id].channel.append(part.rows, part.start, part.end)
                ends[shard_id] = part.end
            if shard_id in ends:
                lanes[shard_id].channel.flush()
        until = self._runtime.monotonic() + COMMIT_SECONDS
        for shard_id, end in ends.items():
            timeout = max(0.0, until - self._runtime.monotonic())
            state = lanes[shard_id].channel.wait(end, timeout=timeout, stopping=self._cancelled)
            if state is None:
                raise ServiceUnavailableError(
                    f"Read the channels again: Snowflake didn't say within {COMMIT_SECONDS:.0f} s that rows "
                    f"of batch {batch.id} for {table} are committed"
                )
            self._note_rejected(shard_id, lanes[shard_id], state.rejected, state.rejected_through, state.why)
            lanes[shard_id].committed = state.committed
        return ends.keys()

    def _note_rejected(
        self, shard_id: str, lane: _Lane, rejected: int, through: str | None, why: str | None
    ) -> None:
        count, lane.rejected = rejected - lane.rejected, rejected
        if count > 0:
            self._rejected += count
            log.error(
                "Look for %d rows of shard %s of stream %s up to %s in the error table of %s: they were "
                "sent, and Snowflake rejected them: %s",
                count,
                shard_id,
                self._context.stream_name,
                through,
                self._target.table,
                why,
            )

    # --- rows ----------------------------------------------------------------------------------------------

    def _columns(self, rows: StreamedRows, batch: Batch) -> tuple[JsonColumn, ...]:
        """The columns that rows fill; the table has them afterwards.

        :raises TableChangedError: it can't take them
        """
        mapping = self._mapping
        if not isinstance(mapping, ColumnsMapping):
            return ()
        needed = {(item, None) for item in rows.fields} | {(None, name) for name in rows.missing}
        if not needed <= self._evolved:
            with self._session() as session:
                evolve(session, rows.fields, rows.missing, target=self._target, mapping=mapping)
        columns = mapping.filled(rows.fields, rows.missing)
        if columns is None:
            self._evolved.clear()
            raise TableChangedError(
                f"Prepare batch {batch.id} again: the columns of {self._target.table} aren't those that it "
                "was prepared for"
            )
        self._evolved |= needed
        return columns

    def _parts(
        self, pages: Iterable[EncodedRecords], columns: Sequence[JsonColumn], span: Span
    ) -> Iterator[Part]:
        """Rows of a shard in parts that end between two records, or between two user records of one."""
        facts = self._landing.metadata_columns
        now = self._now
        binary = any(column.type.kind is DataType.BINARY for column in columns)

        def lines(rows: pa.RecordBatch) -> list[bytes]:
            if isinstance(self._mapping, ColumnsMapping):
                return column_rows(
                    rows,
                    columns,
                    metadata_columns=facts,
                    loaded_at=now,
                    hexadecimal=binary and self._owner(self._target.table).hexadecimal,
                )
            return envelope_rows(rows, metadata_columns=facts, loaded_at=now)

        placed = (
            (line, place)
            for page in pages
            if page.rows.num_rows
            for line, place in zip(
                lines(page.rows),
                zip(
                    page.rows.column("sequenceNumber").to_pylist(),
                    page.rows.column("subSequenceNumber").to_pylist(),
                    strict=True,
                ),
                strict=True,
            )
        )
        return in_parts(placed, last=span.reached)

    def _letter_parts(self, letters: Sequence[tuple[str, DeadLetter]], *, shard_id: str) -> Iterator[Part]:
        now = self._now.isoformat(timespec="milliseconds")
        for token, letter in letters:
            rows = dead_letter_rows(
                [letter],
                application=self._context.application_name,
                stream_name=self._context.stream_name,
                shard_id=shard_id,
            )
            yield Part(letter_rows(rows, failed_at=now), token, token)

    @property
    def _now(self) -> datetime:
        return moment(self._runtime.wall()).astimezone(UTC)

    # --- what is open --------------------------------------------------------------------------------------

    def _open_anew(self, table: TableName, key: OffsetKey) -> str | None:
        """Open a channel even if this drain had it open before: another may have had the shard in between."""
        self._let_go(table, key)
        return self._lane(table, key).committed

    def _let_go(self, table: TableName, key: OffsetKey) -> None:
        """Close a channel if it is open. A client can't open it once more before."""
        lane = self._lanes.pop((table, key), None)
        if lane is not None:
            with suppress(KinesisSnowflakeError):
                lane.channel.close()

    def _lane(self, table: TableName, key: OffsetKey) -> _Lane:
        lane = self._lanes.get((table, key))
        if lane is None:
            channel = self._owner(table).open(self._channel_name(key))
            lane = _Lane(channel, channel.opened.committed, channel.opened.rejected)
            self._lanes[table, key] = lane
        return lane

    def _channel_name(self, key: OffsetKey) -> str:
        return channel_name(self._context.application_name, self._context.stream_name, key)

    def _owner(self, table: TableName) -> ChannelOwner:
        owner = self._owners.get(table)
        if owner is None:
            owner = self._owners[table] = self._open_channels(table)
            self.connections += 1
        return owner

    def _check_objects(self) -> None:
        if not self._objects_checked:
            with self._session() as session:
                session.ensure_objects(self._target, mapping=self._mapping, companions=False)
            self._objects_checked = True

    def _session(self) -> SnowflakeSession:
        session = self._open_session()
        self.connections += session.fresh
        return session

    def _landing_columns(self) -> Mapping[str, Column]:
        """The columns of the landing table, which is created if it is missing."""

        def read() -> Mapping[str, Column]:
            self._check_objects()
            with self._session() as session:
                return session.landing_columns(self._target)

        with self._lock:
            return self._context.retries.call(read, doing="listing columns", after_failure=self.disconnect)

    # --- errors --------------------------------------------------------------------------------------------

    def _lease_lost(self, batch: Batch) -> LeaseLostError:
        return LeaseLostError(
            f"Leases of stream {self._context.stream_name} were lost before batch {batch.id} was sent; the "
            "next owner reads its records again"
        )

    def _unreadable(self, key: OffsetKey, token: str | None) -> CorruptStateError:
        return CorruptStateError(
            f"Run the DAG kinesis_state_reset for shard {key.shard_id} of stream "
            f"{self._context.stream_name}: its channel of {self._target.table} has the token {token!r:.80}, "
            "which no drain wrote. Nothing of the shard was loaded"
        )

    def _went_back(self, span: Span) -> OffsetWentBackError:
        return OffsetWentBackError(
            f"Run the DAG kinesis_state_reset with the method recover and trust_snowflake: the channel of "
            f"shard {span.shard_id} of stream {self._context.stream_name} into {self._target.table} stands "
            f"before {span.offset}, through which a drain had committed. The table was recreated or went "
            "back in time, or its channel was dropped, and records are missing in it"
        )


def behind(lanes: Mapping[str, _Lane], batch: Batch) -> bool:
    """Whether a channel's token, as far as its owner knows it, is before what a drain had committed."""
    for shard_id, lane in lanes.items():
        offset = batch.spans[shard_id].offset
        with suppress(ValueError):
            if offset is not None and is_after(offset, position_of(lane.committed)):
                return True
    return False


def rows_of(batch: Batch) -> StreamedRows:
    """Where this sink collects a batch."""
    rows = batch.rows
    assert isinstance(rows, StreamedRows)
    return rows


def channel_name(application: str, stream: str, key: OffsetKey) -> str:
    """The channel of a shard: one for each application, stream and incarnation.

    A name that would be too long ends in a hash of all of it.
    """
    name = ":".join((application, stream, key.shard_id, key.incarnation))
    if len(name) <= MAX_NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{name[: MAX_NAME_LENGTH - 33]}:{digest}"


def position_of(token: str | None) -> Position | None:
    """The position that a token of a landing channel names; ``None`` before the first row.

    :raises ValueError: no drain wrote it
    """
    return None if token is None else decode_position(token)


def place_of_letter(token: str | None) -> Position | None:
    """Up to where dead letters of records are committed, by the last token; ``None``: it names nothing."""
    try:
        return None if token is None else decode_position(token.split(_GAP)[0])
    except ValueError:
        return None


def letters_after(token: str | None, letters: Sequence[DeadLetter]) -> list[tuple[str, DeadLetter]]:
    """Dead letters with their tokens, in the order of these, without those already committed.

    The token of a record's is its position. Those of gaps come last, with that of the last record's in front
    of their own: records behind a gap may have had theirs committed before anybody knew of the gap, with a
    batch whose rows were lost; or may get them later.
    """
    ahead, _, last_gap = (token or "").partition(_GAP)
    records = [(_position(letter), letter) for letter in letters if letter.kind != GAP]
    left = sorted([each for each in records if each[0] > ahead], key=itemgetter(0))
    gaps = sorted(
        [(f"{_position(letter)}{_GAP}{letter.extent}", letter) for letter in letters if letter.kind == GAP],
        key=itemgetter(0),
    )
    before = left[-1][0] if left else ahead or encode_position(None)
    return left + [(f"{before}{_GAP}{gap}", letter) for gap, letter in gaps if gap > last_gap]


def _position(letter: DeadLetter) -> str:
    return encode_position(Position(letter.record.sequence_number, letter.record.sub_sequence_number))


def in_parts(
    placed: Iterable[tuple[bytes, tuple[str, int]]], *, last: Position, size: int = PART_BYTES
) -> Iterator[Part]:
    """Cut rows of a shard into parts, each of which ends where a drain can continue.

    :param placed: rows, each with the sequence number and the sub-sequence number of its record; several rows
        may come of one
    :param last: the position after the last row
    :param size: bytes after which a part ends at the next opportunity
    """
    rows: list[bytes] = []
    held = 0
    before: tuple[str, int] | None = None
    start = ""
    for row, place in placed:
        if before is not None and held >= size and place != before:
            whole = place[0] != before[0]
            end = encode_position(Position(before[0], None if whole else before[1]))
            yield Part(rows, start, end)
            rows, held = [], 0
        if not rows:
            start = encode_position(Position(place[0], place[1]))
        rows.append(row)
        held += len(row)
        before = place
    if rows:
        yield Part(rows, start, encode_position(last))
