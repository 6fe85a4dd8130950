"""The source that asks for records: GetShardIterator and GetRecords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.exceptions import IteratorExpiredError
from airflow_kinesis_snowflake.stream.aggregation import deaggregate
from airflow_kinesis_snowflake.stream.positions import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import StartAt
    from airflow_kinesis_snowflake.stream.records import Delivery, Page, Record


class KinesisCalls(Protocol):
    """Calls for one stream; :class:`~airflow_kinesis_snowflake.hooks.kinesis.KinesisStreamHook` has them."""

    @property
    def stream_name(self) -> str: ...
    def describe(self) -> StreamFacts: ...
    def list_shards(self) -> tuple[Shard, ...]: ...
    def get_iterator(self, shard_id: str, start: Position | StartAt) -> str: ...
    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str: ...
    def get_page(self, iterator: str, *, limit: int = 10_000) -> Page: ...


class PollingSource:
    """Reads shards by GetRecords, each at most five times a second, which Kinesis allows to all consumers
    together.

    :param kinesis: the calls
    """

    pause_seconds = 0.2
    idle_seconds = 1.0

    def __init__(self, kinesis: KinesisCalls) -> None:
        self._kinesis = kinesis

    @property
    def stream_name(self) -> str:
        """The stream's name."""
        return self._kinesis.stream_name

    def describe(self) -> StreamFacts:
        """The facts of the stream, by DescribeStreamSummary."""
        return self._kinesis.describe()

    def list_shards(self) -> tuple[Shard, ...]:
        """All shards, by ListShards."""
        return self._kinesis.list_shards()

    def open(self, shard_id: str, start: Position | StartAt, *, with_start: bool = False) -> PollingCursor:
        """Ask for an iterator."""
        cursor = PollingCursor(self._kinesis, shard_id, start, with_start=with_start)
        cursor.renew()
        return cursor

    def read_again(self, shard_id: str, sequence_number: str) -> Sequence[Record]:
        """The user records of one Kinesis record; none if the stream no longer has it."""
        iterator: str | None = self._kinesis.get_iterator_at(shard_id, sequence_number)
        while iterator is not None:
            page = self._kinesis.get_page(iterator, limit=1)
            if page.records:
                users = deaggregate(page.records).users
                return [user for user in users if user.sequence_number == sequence_number]
            iterator = page.next_iterator if page.millis_behind else None
        return ()

    def close(self) -> None:
        """Nothing is held."""


class PollingCursor:
    """One shard, read by iterators. An expired one is replaced at the next read."""

    def __init__(
        self, kinesis: KinesisCalls, shard_id: str, start: Position | StartAt, *, with_start: bool
    ) -> None:
        self._kinesis = kinesis
        self._shard_id = shard_id
        self._start = start
        self._with_start = with_start
        self._iterator: str | None = None

    def read(self, *, limit: int) -> Delivery:
        """One page."""
        iterator = self._iterator or self.renew()
        try:
            page = self._kinesis.get_page(iterator, limit=limit)
        except IteratorExpiredError:
            self._iterator = None
            raise
        self._iterator = page.next_iterator
        if page.records:
            self._start, self._with_start = Position(page.records[-1].sequence_number), False
        return page.delivery

    def renew(self) -> str:
        """Request the iterator for where the last page ended."""
        if self._with_start and isinstance(self._start, Position):
            iterator = self._kinesis.get_iterator_at(self._shard_id, self._start.sequence_number)
        else:
            iterator = self._kinesis.get_iterator(self._shard_id, self._start)
        self._iterator = iterator
        return iterator

    def close(self) -> None:
        """Nothing is held."""
