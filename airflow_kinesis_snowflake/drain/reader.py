"""Reading one shard: where it stands, and how one page is fetched and encoded."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import IteratorExpiredError, TransientError
from airflow_kinesis_snowflake.landing.dead_letters import DeadLetter
from airflow_kinesis_snowflake.stream.aggregation import deaggregate, skip_through
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.hooks.checkpoint import ShardState
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.landing.envelope import Encoded, EnvelopeMapping
    from airflow_kinesis_snowflake.stream.records import Record

SECONDS_BETWEEN_CALLS = 0.2
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 20.0
FAILURES_BEFORE_GIVING_UP = 30


class Finish(StrEnum):
    """Why a shard needs no more reading in this drain."""

    CAUGHT_UP = "caught_up"
    ENDED = "ended"
    FAILED = "failed"


class ShardReader:
    """How far one shard was read, handed over for loading, and committed in this drain.

    ``read >= handed >= committed`` at every moment; a rewind goes back to one of the lower two. Only the
    coordinator touches a reader, so it needs no lock.

    :param state: the shard's row when its lease was taken
    :param committed: the last position known to be in Snowflake
    """

    def __init__(self, state: ShardState, *, committed: Position | None) -> None:
        self.shard_id = state.shard_id
        self.incarnation = state.incarnation or ""
        self.start_at = state.start_at or TRIM_HORIZON
        self.read = self.handed = self.committed = committed
        self.iterator: str | None = None
        self.finish: Finish | None = None
        self.millis_behind: int | None = None
        self.caught_up_at: int | None = None
        self.due = 0.0
        self.in_flight = False
        self.generation = 0
        self.failures = 0
        self.page_bytes = 0

    @property
    def start(self) -> Position | StartAt:
        """Where the next iterator begins."""
        return self.start_at if self.read is None else self.read

    @property
    def settled(self) -> bool:
        """Whether everything read is committed."""
        return self.read == self.committed

    @property
    def wants_page(self) -> bool:
        """Whether to ask for another page."""
        return self.finish is None and not self.in_flight

    def accept(self, page: Fetched, *, caught_up_at: int) -> None:
        """Move on behind a page.

        :param caught_up_at: when the page finishes the shard for this drain, the moment it is drained up to (ms)
        """
        if page.reached is not None:
            self.read = page.reached
        self.iterator = page.next_iterator
        self.millis_behind = page.millis_behind
        self.page_bytes = page.bytes
        self.finish = page.finish
        self.caught_up_at = caught_up_at if page.finish is not None else None
        self.failures = 0

    def abandon(self) -> None:
        """Want no more pages, and ignore one that is under way."""
        self.finish = Finish.FAILED
        self.generation += 1

    def rewind(self, position: Position | None) -> None:
        """Forget what was read after ``position``; a page under way will be ignored."""
        self.read = self.handed = position
        self.iterator = None
        self.finish = None
        self.caught_up_at = None
        self.generation += 1
        self.in_flight = False

    def back_off(self, error: TransientError, *, now: float) -> bool:
        """Plan the next try after a failed one, with full jitter.

        :return: ``False`` when the budget of failures in a row is used up
        """
        if isinstance(error, IteratorExpiredError):
            self.iterator = None
        self.failures += 1
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self.failures)
        self.due = now + random.uniform(SECONDS_BETWEEN_CALLS, longest)
        return self.failures < FAILURES_BEFORE_GIVING_UP


@dataclass(frozen=True)
class Fetched:
    """One page of a shard, ready for a batch.

    :param encoded: its rows and dead letters, ``None`` when it brought no record to load
    :param reached: position after the page; ``None`` when the page brought no record at all
    :param next_iterator: continues after the page
    :param millis_behind: lag at the page's end
    :param finish: set when the shard needs no more reading in this drain
    """

    encoded: Encoded | None
    reached: Position | None
    next_iterator: str | None
    millis_behind: int
    finish: Finish | None

    @property
    def records(self) -> int:
        """User records in the page, dead letters included."""
        return 0 if self.encoded is None else self.encoded.rows.num_rows + len(self.encoded.dead_letters)

    @property
    def bytes(self) -> int:
        """Their payload bytes."""
        return 0 if self.encoded is None else self.encoded.bytes


class PageSource:
    """Fetches pages and encodes them; used by several threads at once.

    :param kinesis: the stream
    :param mapping: how records become rows
    :param stop_at: records that arrived at or after this moment (ms since the epoch) stay in the stream
    """

    def __init__(self, kinesis: KinesisStreamHook, mapping: EnvelopeMapping, *, stop_at: int) -> None:
        self._kinesis = kinesis
        self._mapping = mapping
        self._stop_at = stop_at

    def fetch(self, shard_id: str, start: Position | StartAt, iterator: str | None) -> Fetched:
        """Read the next page of a shard.

        :param start: where to begin when there is no iterator
        :param iterator: from the page before, if it is still good
        """
        page = self._kinesis.get_page(iterator or self._kinesis.get_iterator(shard_id, start))
        records, stopped = before(page.records, self._stop_at)
        encoded = self._encode(shard_id, records, start) if records else None
        return Fetched(
            encoded=encoded,
            reached=Position(records[-1].sequence_number) if records else None,
            next_iterator=page.next_iterator,
            millis_behind=page.millis_behind,
            finish=self._finish(stopped, page.next_iterator, bool(page.records), page.millis_behind),
        )

    def _encode(self, shard_id: str, records: Sequence[Record], start: Position | StartAt) -> Encoded:
        users, damaged = deaggregate(records)
        if isinstance(start, Position) and start.sub_sequence_number is not None:
            users = skip_through(users, start)
        encoded = self._mapping.encode(users, stream_name=self._kinesis.stream_name, shard_id=shard_id)
        if not damaged:
            return encoded
        letters = tuple(DeadLetter(record=item.record, reason=item.reason) for item in damaged)
        return replace(encoded, dead_letters=encoded.dead_letters + letters)

    @staticmethod
    def _finish(stopped: bool, next_iterator: str | None, any_records: bool, millis_behind: int) -> Finish | None:
        if stopped:
            return Finish.CAUGHT_UP
        if next_iterator is None:
            return Finish.ENDED
        if not any_records and millis_behind == 0:
            return Finish.CAUGHT_UP
        return None


def before(records: Sequence[Record], stop_at: int) -> tuple[Sequence[Record], bool]:
    """Records up to the first that arrived at or after ``stop_at`` (ms), and whether there was one.

    Everything from that record on stays in the stream, whatever its arrival time, so that no later drain
    has to look behind its checkpoint.
    """
    limit = stop_at / 1000
    if not records or all(record.approximate_arrival < limit for record in records):
        return records, False
    cut = next(index for index, record in enumerate(records) if record.approximate_arrival >= limit)
    return records[:cut], True
