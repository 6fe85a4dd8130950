"""How a shard is read by iterators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.exceptions import IteratorExpiredError, ThrottledError
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt
from airflow_kinesis_snowflake.stream.records import Page, Record

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard


def record(number: str) -> Record:
    return Record(sequence_number=number, approximate_arrival=1.0, data=b"{}")


@dataclass
class StubKinesis:
    """Answers with pages and errors in order, and remembers what was asked for."""

    answers: list[Page | Exception]
    stream_name: str = "orders"
    asked: list[object] = field(default_factory=list)

    def describe(self) -> StreamFacts:
        raise NotImplementedError

    def list_shards(self) -> tuple[Shard, ...]:
        raise NotImplementedError

    def get_iterator(self, shard_id: str, start: Position | StartAt) -> str:
        self.asked.append(start)
        return f"iterator {len(self.asked)}"

    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str:
        self.asked.append(("at", sequence_number))
        return f"iterator {len(self.asked)}"

    def get_page(self, iterator: str, *, limit: int = 10_000) -> Page:
        self.asked.append(iterator)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_expired_iterator_is_replaced_where_the_last_page_ended() -> None:
    kinesis = StubKinesis(
        [Page((record("10"), record("12")), "next", 5), IteratorExpiredError("old"), Page((), None, 0)]
    )
    cursor = PollingSource(kinesis).open("shard", TRIM_HORIZON)
    cursor.read(limit=10)
    with pytest.raises(IteratorExpiredError):
        cursor.read(limit=10)

    assert cursor.read(limit=10).ended
    assert kinesis.asked == [TRIM_HORIZON, "iterator 1", "next", Position("12"), "iterator 4"]


def test_an_iterator_that_expires_before_its_first_record_begins_with_the_same_record() -> None:
    kinesis = StubKinesis([Page((), "next", 5), IteratorExpiredError("old"), Page((), "further", 0)])
    cursor = PollingSource(kinesis).open("shard", Position("10"), with_start=True)
    cursor.read(limit=10)
    with pytest.raises(IteratorExpiredError):
        cursor.read(limit=10)
    cursor.read(limit=10)

    assert kinesis.asked == [("at", "10"), "iterator 1", "next", ("at", "10"), "iterator 4"]


def test_an_iterator_survives_a_throttled_call() -> None:
    kinesis = StubKinesis([ThrottledError("slower"), Page((), "next", 0)])
    cursor = PollingSource(kinesis).open("shard", TRIM_HORIZON)
    with pytest.raises(ThrottledError):
        cursor.read(limit=10)
    cursor.read(limit=10)

    assert kinesis.asked == [TRIM_HORIZON, "iterator 1", "iterator 1"]


def test_a_record_is_read_again_by_its_number() -> None:
    kinesis = StubKinesis([Page((), "next", 5), Page((record("10"),), "further", 0)])
    assert [found.sequence_number for found in PollingSource(kinesis).read_again("shard", "10")] == ["10"]


def test_a_record_that_is_gone_is_none() -> None:
    kinesis = StubKinesis([Page((record("11"),), "further", 0)])
    assert list(PollingSource(kinesis).read_again("shard", "10")) == []
