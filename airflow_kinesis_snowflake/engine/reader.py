"""Reading one shard: its progress, and how one page is fetched and encoded."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import dropwhile
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.status import Status, check_transition
from airflow_kinesis_snowflake.exceptions import (
    KinesisSnowflakeError,
    TransientError,
    UnreadablePageError,
)
from airflow_kinesis_snowflake.formats.dead_letters import GAP, DeadLetter
from airflow_kinesis_snowflake.stream.aggregation import (
    DamagedAggregate,
    UserRecords,
    deaggregate,
    skip_through,
    within_hash_range,
)
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt, is_after
from airflow_kinesis_snowflake.stream.records import Record
from airflow_kinesis_snowflake.stream.retention import Gap, others_read_on, read_until
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_snowflake.engine.ports import Cursor, Source
    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.state.shards import ShardState
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.records import Delivery

MIN_BACKOFF_SECONDS = 0.2
INITIAL_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 20.0
FAILURES_BEFORE_GIVING_UP = 30
STALL_SECONDS = 10.0
# Kinesis ends a closed shard with its last record, or with the next page.
END_SECONDS = 60.0
# Five such pages a second exceed the 2 MB a second that Kinesis delivers per shard.
PAGE_BYTES = 4 * 2**20
INITIAL_PAGE_RECORDS = 100
MAX_PAGE_RECORDS = 10_000
RECORD_OVERHEAD_BYTES = 500
# A page may end behind a record that is looked up, because the next one is too large for it.
FRUITLESS_LOOKS = 5


class ShardReader:
    """How far one shard was read, handed over for loading, and committed in this drain.

    ``read >= handed >= committed`` at every moment; a rewind goes back to one of the lower two. Only the
    coordinator touches a reader, so it needs no lock. The cursors it returns must be closed.

    :param state: the shard's row when its lease was taken
    :param committed: the last position known to be in Snowflake
    :param shard: as Kinesis lists it; ``None`` if it no longer does
    :param offset: what the sink has committed of it, if known
    :param refused: the sink may have committed more, but couldn't tell
    :param letters: how far the sink has committed dead letters, perhaps of a batch whose rows were lost
    :param taken_over: its last owner didn't release it, and may still commit what it has read
    :param others_until: when another consumer last wrote the shard's row, if that is meaningful
    """

    def __init__(
        self,
        state: ShardState,
        *,
        committed: Position | None,
        shard: Shard | None,
        offset: Position | None = None,
        refused: bool = False,
        letters: Position | None = None,
        taken_over: bool = False,
        others_until: datetime | None = None,
    ) -> None:
        self.shard_id = state.shard_id
        self.incarnation = state.incarnation or ""
        self.offset = offset
        self._refused = refused
        self._letters = letters
        self._contested = taken_over
        self.start_at = state.start_at or TRIM_HORIZON
        self.read_until = read_until(
            committed, caught_up_at=None if state.caught_up_at is None else moment(state.caught_up_at)
        )
        self.others_until = others_until
        self.shard = shard
        self.checking = False
        self.looks = 0
        self._read_before, self._others_until = self.read_until, others_until
        self._began = self.read = self.handed = self.committed = committed
        self.cursor: Cursor | None = None
        self.status = Status.READING
        self.millis_behind: int | None = None
        self.at_tip = False
        self.caught_up_at: int | None = None
        self.due = 0.0
        self.in_flight = False
        self.generation = 0
        self.failures = 0
        self._failing_since: float | None = None
        self._stalled = False
        self._at_end_since: float | None = None
        self.page_bytes = PAGE_BYTES
        self.page_records = INITIAL_PAGE_RECORDS

    @property
    def in_doubt(self) -> bool:
        """Whether the sink has, or may come to have, something committed that no other sink would know of."""
        return (
            self._refused
            or self._contested
            or (self._letters is not None and is_after(self._letters, self.committed))
        )

    def outlast_former_owners(self) -> None:
        """Note that what they had read can't be committed any more, because the offset has moved.

        Nor can what they read later: the store doesn't confirm their lease.
        """
        self._contested = False

    def note_all_committed(self) -> None:
        """Note that everything there is of the shard is committed.

        So nothing is left that former owners may have read, and records whose dead letters are ahead of the
        checkpoint have aged out.
        """
        self._contested, self._letters = False, None

    def request(self) -> PageRequest:
        """What to request from Kinesis next."""
        return PageRequest(
            shard_id=self.shard_id,
            start=self.start_at if self.read is None else self.read,
            cursor=self.cursor,
            limit=self.page_records,
            shard=self.shard,
            checking=self.checking,
            looks=self.looks,
            read_until=self.read_until,
            others_until=self.others_until,
        )

    @property
    def wants_page(self) -> bool:
        """Whether to request another page."""
        return self.status is Status.READING and not self.in_flight

    def accept(self, page: EncodedPage, *, caught_up_at: int) -> Cursor | None:
        """Move on past a page.

        :param caught_up_at: if the page is at the shard's tip, or finishes it for this drain, the moment that
            it is drained up to (ms)
        """
        if page.reached is not None:
            self.read = page.reached
            self.others_until = None
        until = moment(caught_up_at) if page.at_tip else page.read_until
        self.read_until = max(filter(None, (self.read_until, until)), default=None)
        self.checking = page.checking
        self.looks = 0 if page.reached is not None else self.looks + page.again
        before, self.cursor = self.cursor, page.cursor
        self.millis_behind = page.millis_behind
        self.at_tip = page.at_tip
        self._size_next_page(page)
        self.due = page.asked_at + page.pause_seconds
        if page.finish is not None:
            self.enter(page.finish)
        self.caught_up_at = caught_up_at if page.finish is not None else None
        self.failures = 0
        self._failing_since = None
        self._stalled = False
        if not page.at_end:
            self._at_end_since = None
        elif self._at_end_since is None:
            self._at_end_since = page.asked_at
        return None if before is self.cursor else before

    def _size_next_page(self, page: EncodedPage) -> None:
        """Request as many records as make a page of 4 MiB, if they resemble those of this page."""
        if page.taken:
            each = max(RECORD_OVERHEAD_BYTES, page.weight / page.taken)
            self.page_records = min(MAX_PAGE_RECORDS, max(1, int(PAGE_BYTES / each)))
            self.page_bytes = int(self.page_records * each)

    def enter(self, status: Status) -> None:
        """Change the status.

        :raises IllegalTransitionError: there is no transition from the present one to this one
        """
        check_transition(self.shard_id, self.status, status)
        self.status = status

    def leave_off(self, status: Status) -> Cursor | None:
        """Request no more pages, and ignore one that is under way."""
        self.enter(status)
        self.generation += 1
        return self._let_go()

    def rewind(self, position: Position | None) -> Cursor | None:
        """Forget what was read after ``position``; a page under way is waited for and ignored."""
        if self.status is not Status.READING:
            self.enter(Status.READING)
        self.read = self.handed = position
        again = position == self._began
        self.checking, self.looks = False, 0
        self.read_until = self._read_before if again else read_until(position, caught_up_at=None)
        self.others_until = self._others_until if again else None
        self.caught_up_at = None
        self.at_tip = False
        self.generation += 1
        return self._let_go()

    def back_off(self, error: TransientError, *, now: float, chance: float) -> bool:
        """Plan the next try after a failed one, with full jitter.

        :param chance: 0 for the shortest wait that is allowed by now, 1 for the longest
        :return: ``False`` when the budget of failures in a row is used up
        """
        self.failures += 1
        if self._failing_since is None:
            self._failing_since = now
        longest = min(MAX_BACKOFF_SECONDS, INITIAL_BACKOFF_SECONDS * 2**self.failures)
        self.due = now + MIN_BACKOFF_SECONDS + chance * (longest - MIN_BACKOFF_SECONDS)
        return self.failures < FAILURES_BEFORE_GIVING_UP

    def misses_its_end(self, now: float) -> bool:
        """Whether a shard that was listed as closed has had nothing more for a minute, and yet doesn't end.

        Then the list is of a stream that was deleted. True once a minute.
        """
        misses = self._at_end_since is not None and now - self._at_end_since >= END_SECONDS
        if misses:
            self._at_end_since = now
        return misses

    def _let_go(self) -> Cursor | None:
        cursor, self.cursor = self.cursor, None
        return cursor

    def begins_to_stall(self) -> bool:
        """Whether successive failures have kept the shard from being read for 10 s or more; true once."""
        begins = (
            not self._stalled
            and self._failing_since is not None
            and self.due - self._failing_since >= STALL_SECONDS
        )
        self._stalled |= begins
        return begins

    def stalled_for(self, now: float) -> float | None:
        """For how many seconds a shard couldn't be read, after :meth:`begins_to_stall` was true."""
        return now - self._failing_since if self._stalled and self._failing_since is not None else None


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """One page to fetch.

    :param start: where to start if there is no cursor
    :param cursor: at the end of the previous page, if still valid
    :param limit: at most this many Kinesis records
    :param shard: as Kinesis lists it; ``None``: it no longer does, so nothing can be read
    :param checking: look up the record at ``start`` again, to learn whether it aged out
    :param looks: how often in a row it was found, and nothing after it came with it
    :param read_until: up to when the shard was certainly read
    :param others_until: when another consumer last wrote the shard's row
    """

    shard_id: str
    start: Position | StartAt
    cursor: Cursor | None
    limit: int = MAX_PAGE_RECORDS
    shard: Shard | None = None
    checking: bool = False
    looks: int = 0
    read_until: datetime | None = None
    others_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class EncodedPage:
    """One page of a shard, ready for a batch.

    :param encoded: its rows and dead letters; ``None`` if it had no record to load
    :param reached: position after the page; ``None`` if the page had no records at all
    :param cursor: continues after the page; ``None``: a new one is needed, or none at all
    :param millis_behind: lag at the page's end
    :param finish: set when the shard needs no more reading in this drain
    :param asked_at: when it was requested from the source, on the monotonic clock
    :param pause_seconds: how long after that the shard's next page may be requested
    :param taken: Kinesis records that were encoded
    :param checking: the record looked up hasn't been found or found missing yet
    :param again: it was found, and nothing after it came with it
    :param read_until: arrival of the page's last record
    :param at_tip: the shard has nothing more for now
    :param at_end: the shard is closed and has nothing more, and yet this isn't said to be its end
    :param age_seconds: how long before the request the source learned the lag
    :param gap: the record looked up aged out, and perhaps others after it
    """

    encoded: EncodedRecords | None
    reached: Position | None
    cursor: Cursor | None
    millis_behind: int
    finish: Status | None
    asked_at: float
    pause_seconds: float = 0.0
    taken: int = 0
    checking: bool = False
    again: bool = False
    read_until: datetime | None = None
    at_tip: bool = False
    at_end: bool = False
    age_seconds: float = 0.0
    gap: Gap | None = None

    @property
    def as_of(self) -> float:
        """When the page's lag was measured, on the monotonic clock."""
        return self.asked_at - self.age_seconds

    @property
    def records(self) -> int:
        """User records in the page, dead letters included."""
        return 0 if self.encoded is None else self.encoded.rows.num_rows + len(self.encoded.dead_letters)

    @property
    def bytes(self) -> int:
        """Their payload bytes."""
        return 0 if self.encoded is None else self.encoded.bytes

    @property
    def weight(self) -> int:
        """The bytes of payloads or rows, plus the approximate overhead of JSON and Python per record."""
        rows = 0 if self.encoded is None else self.encoded.rows.nbytes
        return max(self.bytes, rows) + self.records * RECORD_OVERHEAD_BYTES


class PageSource:
    """Fetches pages and encodes them; used by several threads at once.

    :param source: the stream
    :param encoder: how records become rows
    :param stop_at: records that arrived at or after this moment (ms since the epoch) stay in the stream
    :param own_hash_keys_only: drop aggregates with records outside the shard's range of hash keys
    :param follow_until: until this moment, on the monotonic clock, a shard at its tip isn't finished
    :param may_have_aged_out: whether records that arrived after a moment may have exceeded the retention
    :param earliest: a lower bound of the time where records arrive (ms) at a moment on the monotonic clock
    :param runtime: its clock
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        *,
        stop_at: int,
        own_hash_keys_only: bool = False,
        follow_until: float = -inf,
        may_have_aged_out: Callable[[datetime | None], bool] = lambda _: False,
        earliest: Callable[[float], int] = lambda _: MACHINE.wall(),
        runtime: Runtime = MACHINE,
    ) -> None:
        self._runtime = runtime
        self._earliest = earliest
        self._may_have_aged_out = may_have_aged_out
        self._follow_until = follow_until
        self._source = source
        self._encoder = encoder
        self._stop_at = stop_at
        self._own_hash_keys_only = own_hash_keys_only

    @property
    def pause_seconds(self) -> float:
        """The time from one read of a shard to the next."""
        return self._source.pause_seconds

    def fetch(self, request: PageRequest) -> EncodedPage:
        """Read one page of a shard and encode what belongs to this drain.

        :raises UnreadablePageError: an unexpected error; it tells where, and nothing about the records
        """
        page: Delivery | None = None
        try:
            if self._must_look_back(request):
                request = looking_back(request)
            if request.shard is None:
                return self._nothing_left(request)
            cursor = request.cursor or self._open(request)
            asked_at = self._runtime.monotonic()
            with _closed_on_failure(cursor, unless=request.cursor):
                page = cursor.read(limit=request.limit)
                # The process may have been suspended until the page came.
                if self._must_look_back(request):
                    return self.fetch(replace(request, cursor=cursor))
                return self._fetched(request, cursor, page, asked_at=asked_at, closed=request.shard.closed)
        except KinesisSnowflakeError:
            raise
        except Exception as error:
            # Its message may quote a record, and so may its cause.
            raise self._unreadable(error, request, page) from None

    def _must_look_back(self, request: PageRequest) -> bool:
        """Whether records after the last one that was read may be ageing out.

        A cursor goes on at the oldest record that is left, and says nothing of those in between.
        """
        begun = checkpoint_of(request) is not None or request.read_until is not None
        looked = request.checking or request.looks >= FRUITLESS_LOOKS
        return begun and not looked and self._may_have_aged_out(request.read_until)

    def _fetched(
        self, request: PageRequest, cursor: Cursor, page: Delivery, *, asked_at: float, closed: bool
    ) -> EncodedPage:
        again = request.checking and only_again(page.records, request.start)
        finish = None if page.records and not again else finish_of(page, closed=closed)
        gap = gap_before(page, request, finish) if request.checking else None
        checking = request.checking and not page.records and finish is None
        at_tip = finish is Status.CAUGHT_UP
        if at_tip and asked_at < self._follow_until:
            finish = None
        records = unread(page.records, request.start)
        records, stopped = before(records, self._stop_at)
        if stopped:
            finish = Status.CAUGHT_UP
        elif page.ended:
            finish = Status.ENDED
        goes_on: Cursor | None = cursor
        apart = deaggregate(records)
        if apart.taken < len(records):
            records, finish, goes_on = records[: apart.taken], None, None
        reached = Position(records[-1].sequence_number) if records else None
        if gap and reached is None:
            reached = checkpoint_of(request)
        users = self._users(request, apart)
        encoded = self._rows(request, users) if reached else None
        if encoded and encoded.left:
            reached = end_of(users, left=encoded.left)
            records = through(records, reached)
            finish, goes_on = None, None
        if encoded and reached:
            encoded = with_letters(encoded, damaged_through(apart.damaged, reached))
        if encoded and gap:
            beside = checkpoint_of(request) or Position(records[0].sequence_number)
            encoded = with_letters(encoded, [gap_letter(gap, beside, now=self._earliest(asked_at))])
        if goes_on is None or finish is not None:
            cursor.close()
        return EncodedPage(
            encoded=encoded,
            reached=reached,
            cursor=goes_on,
            millis_behind=page.millis_behind,
            finish=finish,
            asked_at=asked_at,
            pause_seconds=self._source.idle_seconds if at_tip else self._source.pause_seconds,
            taken=len(records),
            checking=checking,
            again=again,
            read_until=moment(records[-1].arrival_millis) if records else None,
            at_tip=at_tip,
            at_end=closed and not page.records and not page.ended and page.millis_behind == 0,
            age_seconds=page.age_seconds,
            gap=gap,
        )

    def _unreadable(
        self, error: Exception, request: PageRequest, page: Delivery | None
    ) -> UnreadablePageError:
        if page is not None and page.records:
            numbers = f"from {page.records[0].sequence_number} through {page.records[-1].sequence_number}"
        else:
            checkpoint = checkpoint_of(request)
            numbers = f"after {checkpoint.sequence_number}" if checkpoint else f"from {request.start} on"
        place = traceback.extract_tb(error.__traceback__)[-1]
        return UnreadablePageError(
            f"Please report this fault: {type(error).__name__} in {place.name}, "
            f"{Path(place.filename).name}:{place.lineno}. Records {numbers} of shard {request.shard_id} of "
            f"stream {self._source.stream_name} can't be read; nothing of them is lost, and other shards are "
            "read"
        )

    def _nothing_left(self, request: PageRequest) -> EncodedPage:
        """The end of a shard that left the list: everything after its checkpoint is gone."""
        gap = Gap(request.shard_id, loaded_until=request.read_until, oldest_available=None)
        checkpoint = checkpoint_of(request)
        asked_at = self._runtime.monotonic()
        encoded = None
        if checkpoint:
            letter = gap_letter(gap, checkpoint, now=self._earliest(asked_at))
            encoded = with_letters(self._rows(request, ()), [letter])
        return EncodedPage(
            encoded=encoded,
            reached=checkpoint,
            cursor=None,
            millis_behind=0,
            finish=Status.ENDED,
            asked_at=asked_at,
            gap=gap,
        )

    def _open(self, request: PageRequest) -> Cursor:
        return self._source.open(request.shard_id, request.start, with_start=request.checking)

    def _users(self, request: PageRequest, apart: UserRecords) -> Sequence[Record]:
        """The user records that are still to be loaded, and this shard's to load."""
        users = apart.users
        if isinstance(request.start, Position) and request.start.sub_sequence_number is not None:
            users = skip_through(users, request.start)
        if self._own_hash_keys_only and request.shard:
            users = within_hash_range(users, request.shard)
        return users

    def _rows(self, request: PageRequest, users: Sequence[Record]) -> EncodedRecords:
        return self._encoder.encode(users, stream_name=self._source.stream_name, shard_id=request.shard_id)


@contextmanager
def _closed_on_failure(cursor: Cursor, *, unless: Cursor | None) -> Iterator[None]:
    """Close a cursor that nobody will know about, because its first page failed."""
    try:
        yield
    except BaseException:
        if cursor is not unless:
            cursor.close()
        raise


def end_of(users: Sequence[Record], *, left: int) -> Position:
    """The position after the user records that were taken.

    :param users: of a page
    :param left: how many at its end were not taken, at least one
    """
    last, following = users[-left - 1], users[-left]
    within = last.sequence_number == following.sequence_number
    return Position(last.sequence_number, last.sub_sequence_number if within else None)


def through(records: Sequence[Record], reached: Position) -> list[Record]:
    """The Kinesis records of which something was used."""
    end = Position(reached.sequence_number)
    return [record for record in records if Position(record.sequence_number) <= end]


def damaged_through(damaged: Sequence[DamagedAggregate], reached: Position) -> list[DeadLetter]:
    """Dead letters of the damaged aggregates up to a position."""
    return [
        DeadLetter(record=item.record, reason=item.reason)
        for item in damaged
        if Position(item.record.sequence_number) <= reached
    ]


def with_letters(encoded: EncodedRecords, letters: Sequence[DeadLetter]) -> EncodedRecords:
    """The rows of a page, with dead letters for what isn't among its user records."""
    return replace(encoded, dead_letters=(*encoded.dead_letters, *letters)) if letters else encoded


def finish_of(page: Delivery, *, closed: bool) -> Status | None:
    """Whether a page without records is the end of the shard, or its tip.

    A closed shard has no tip: if an empty one counted as caught up before its end, it would never end.
    """
    if page.ended:
        return Status.ENDED
    return Status.CAUGHT_UP if page.millis_behind == 0 and not closed else None


def unread(records: Sequence[Record], start: Position | StartAt) -> Sequence[Record]:
    """Records of a shard's first page without the leading ones before the start.

    An iterator at a moment starts at the whole second, and one at a checkpoint with the checkpoint's own
    record.
    """
    if isinstance(start, Position):
        again = records and Position(records[0].sequence_number) == start
        return records[1:] if again else records
    if start.timestamp is None:
        return records
    limit = start.timestamp.timestamp()
    return list(dropwhile(lambda record: record.approximate_arrival < limit, records))


def only_again(records: Sequence[Record], start: Position | StartAt) -> bool:
    """Whether a page has the record of a position, and nothing else."""
    numbers = [record.sequence_number for record in records]
    return isinstance(start, Position) and numbers == [start.sequence_number] and not unread(records, start)


def looking_back(request: PageRequest) -> PageRequest:
    """The same request for the last record that was read as well. Its cursor is closed."""
    if request.cursor is not None:
        request.cursor.close()
    return replace(request, cursor=None, checking=True, limit=min(request.limit + 1, MAX_PAGE_RECORDS))


def gap_before(page: Delivery, request: PageRequest, finish: Status | None) -> Gap | None:
    """Determine from the page read at a checkpoint whether the checkpoint's record is gone.

    A shard of which nothing was ever read has no such record, so nothing can prove that none aged out.
    """
    checkpoint = checkpoint_of(request)
    if page.records:
        if checkpoint and page.records[0].sequence_number == checkpoint.sequence_number:
            return None
        oldest = moment(page.records[0].arrival_millis)
    elif finish is None:
        return None
    else:
        oldest = None
    if checkpoint and others_read_on(request.others_until, oldest_available=oldest):
        return None
    return Gap(request.shard_id, loaded_until=request.read_until, oldest_available=oldest)


def gap_letter(gap: Gap, beside: Position, *, now: int) -> DeadLetter:
    """The dead letter that stands for a gap, at the coordinates of the last record before it.

    :param beside: that record, or the first one after the gap if there is none before it
    :param now: a lower bound of the time at which the gap was found (ms), where one without an end ends
    """
    began = 0.0 if gap.loaded_until is None else gap.loaded_until.timestamp()
    record = Record(sequence_number=beside.sequence_number, approximate_arrival=began, data=b"")
    return DeadLetter(record=record, reason=f"data loss: {gap}", kind=GAP, extent=extent_of(gap, now=now))


def extent_of(gap: Gap, *, now: int) -> str:
    """Tells gaps at one place apart; that of one that begins or ends later sorts later.

    Nothing was left behind a gap without an end. What came and went after it was found is another gap.
    """
    began = 0 if gap.loaded_until is None else millis(gap.loaded_until)
    ended = now if gap.oldest_available is None else millis(gap.oldest_available)
    return f"{began:013d}{ended:013d}"


def checkpoint_of(request: PageRequest) -> Position | None:
    """The checkpoint at which a request starts, if there is one."""
    return request.start if isinstance(request.start, Position) else None


def before(records: Sequence[Record], stop_at: int) -> tuple[Sequence[Record], bool]:
    """Records up to the first that arrived at or after ``stop_at`` (ms), and whether there was one.

    Everything from that record on is left in the stream, whatever its arrival time, so that no later drain
    has to look before its checkpoint.
    """
    limit = stop_at / 1000
    if not records or max([record.approximate_arrival for record in records]) < limit:
        return records, False
    cut = next(index for index, record in enumerate(records) if record.approximate_arrival >= limit)
    return records[:cut], True
