"""A stream with a past, and what its drains made of it."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.errors import ProgrammingError

from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, initial_position
from airflow_kinesis_snowflake.stream.times import millis
from local.services import wait_until_active
from tests.integration.drain.conftest import Pipeline

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.engine.report import DrainReport
    from airflow_kinesis_snowflake.stream.positions import Position, StartAt
    from tests.faults.proxy import Action, Answer, Forward, Request


@dataclass
class History(Pipeline):
    """A pipeline whose stream is resharded; knows which number was written to which shard."""

    shard_of: dict[int, str] = field(default_factory=dict)

    @property
    def listed(self) -> dict[str, dict[str, Any]]:
        """The shards as Kinesis lists them, by id."""
        return {
            shard["ShardId"]: dict(shard)
            for shard in self.kinesis.list_shards(StreamName=self.stream)["Shards"]
        }

    @property
    def open_shards(self) -> list[str]:
        return [
            shard_id
            for shard_id, shard in self.listed.items()
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]

    def put(self, shard_id: str, count: int = 1) -> list[str]:
        """Write the next ``count`` numbers to one shard; returns their sequence numbers."""
        numbers = range(len(self.sent), len(self.sent) + count)
        sequence_numbers = self.put_payloads(
            shard_id, *(json.dumps({"n": number}).encode() for number in numbers)
        )
        self.sent += numbers
        self.shard_of |= dict.fromkeys(numbers, shard_id)
        return sequence_numbers

    def put_payloads(self, shard_id: str, *payloads: bytes) -> list[str]:
        """Write payloads as they are to one shard; returns their sequence numbers."""
        key = self.listed[shard_id]["HashKeyRange"]["StartingHashKey"]
        answer = self.kinesis.put_records(
            StreamName=self.stream,
            Records=[
                {"PartitionKey": "key", "ExplicitHashKey": key, "Data": payload} for payload in payloads
            ],
        )
        assert {record["ShardId"] for record in answer["Records"]} == {shard_id}
        return [record["SequenceNumber"] for record in answer["Records"]]

    def arrivals(self, shard_id: str) -> list[datetime]:
        """When each record of a shard arrived, in order."""
        iterator = self.kinesis.get_shard_iterator(
            StreamName=self.stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        page = self.kinesis.get_records(ShardIterator=iterator)
        return [record["ApproximateArrivalTimestamp"].astimezone(UTC) for record in page["Records"]]

    def put_apart(self, shard_id: str, count: int) -> list[datetime]:
        """Write numbers that arrive in different milliseconds, and return when."""
        arrivals: list[datetime] = []
        for _ in range(count):
            while arrivals and datetime.now(UTC) - arrivals[-1] < timedelta(milliseconds=2):
                time.sleep(0.001)
            self.put(shard_id)
            arrivals = self.arrivals(shard_id)[-len(arrivals) - 1 :]
        return arrivals

    def split(self, shard_id: str) -> list[str]:
        """Split a shard in the middle; returns its children."""
        keys = self.listed[shard_id]["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"]) + 1) // 2
        return self._reshard(
            lambda: self.kinesis.split_shard(
                StreamName=self.stream, ShardToSplit=shard_id, NewStartingHashKey=str(middle)
            )
        )

    def merge(self, one: str, other: str) -> str:
        """Merge two neighbours; returns their child."""
        (child,) = self._reshard(
            lambda: self.kinesis.merge_shards(
                StreamName=self.stream, ShardToMerge=one, AdjacentShardToMerge=other
            )
        )
        return child

    def reshard_somewhere(self, chance: random.Random) -> None:
        """Split any open shard, or merge any two neighbours."""
        by_key = sorted(
            self.open_shards, key=lambda shard: int(self.listed[shard]["HashKeyRange"]["StartingHashKey"])
        )
        if len(by_key) > 1 and chance.random() < 0.5:
            self.merge(*chance.choice(list(pairwise(by_key))))
        else:
            self.split(chance.choice(by_key))

    def _reshard(self, change: Callable[[], object]) -> list[str]:
        before = self.listed.keys()
        change()
        wait_until_active(self.kinesis, self.stream)
        return sorted(self.listed.keys() - before)

    def import_checkpoint(self, shard_id: str, checkpoint: Position) -> None:
        """Write a row as an import makes it."""
        self.store.create_table()
        shard = ShardState(
            shard_id,
            checkpoint=checkpoint,
            start_at=TRIM_HORIZON,
            incarnation=uuid.uuid4().hex,
            stream_created=millis(KinesisStreamHook(self.stream).describe().created),
        )
        assert self.store.reset_shard(self.stream, shard, owner="import", now=0, made_until=0)
        assert self.store.release_lease(self.stream, shard_id, owner="import", now=0)

    @staticmethod
    def latest() -> StartAt:
        """The initial position ``LATEST``, asked for once the millisecond of the last record has passed."""
        before = datetime.now(UTC)
        while datetime.now(UTC) - before < timedelta(milliseconds=2):
            time.sleep(0.001)
        return initial_position("LATEST", now=datetime.now(UTC))

    def run(self, **settings: Any) -> DrainReport:
        """Drain to the tips of the shards, and check what must be true after every drain."""
        report = self.drain(**{"stop_at": later()} | settings).run()
        self.check_order()
        return report

    @property
    def landed_in_order(self) -> list[int]:
        """The numbers in the landing table in the order in which they came there."""
        return [
            int(row[0]) for row in self.query('SELECT "RECORD_CONTENT":n::NUMBER FROM {table} ORDER BY rowid')
        ]

    def wait_until_landed(self, count: int, drain: Future[DrainReport]) -> None:
        """Return when so many records are in the landing table, or the drain has ended."""
        while not drain.done():
            with contextlib.suppress(ProgrammingError):  # the table doesn't exist yet
                if len(self.landed) >= count:
                    return
            time.sleep(0.05)

    def check_order(self) -> None:
        """No number landed twice, those of a shard in order, all of them behind those of its ancestors."""
        landed = self.landed_in_order
        assert len(set(landed)) == len(landed)
        places = defaultdict(list)
        for place, number in enumerate(landed):
            places[self.shard_of[number]].append((place, number))
        listed = self.listed
        for shard_id, numbers in places.items():
            assert numbers == sorted(numbers, key=lambda number: number[1])
            for ancestor in ancestors(listed, shard_id):
                assert not places.get(ancestor) or max(places[ancestor]) < min(numbers)


def later() -> datetime:
    """A stop behind all records, even those that kinesalite dates ahead of its clock after a reshard."""
    return datetime.now(UTC) + timedelta(minutes=1)


def ancestors(listed: dict[str, dict[str, Any]], shard_id: str) -> set[str]:
    names = ("ParentShardId", "AdjacentParentShardId")
    parents = {listed[shard_id][name] for name in names if name in listed[shard_id]}
    return parents.union(*(ancestors(listed, parent) for parent in parents))


def pages_of(records: int) -> Action:
    """Answer GetRecords with small pages. Goes with ``operation="GetRecords"``."""

    async def action(request: Request, forward: Forward) -> Answer:
        return await forward(request.with_json({**request.json, "Limit": records}))

    return action


def rows_of_another_consumer(
    dynamodb: DynamoDBClient, history: History, checkpoints: Mapping[str, str | None], **more: dict[str, str]
) -> None:
    """Make rows as the Openflow connector does, which says nothing of the stream."""
    history.store.create_table()
    for shard_id, sequence_number in checkpoints.items():
        number = {} if sequence_number is None else {"sequenceNumber": {"S": sequence_number}}
        dynamodb.put_item(
            TableName=history.application,
            Item={"streamName": {"S": history.stream}, "shardId": {"S": shard_id}, **number, **more},
        )


@pytest.fixture
def make_history(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
) -> Callable[..., History]:
    """Function that makes a history that begins with so many shards."""

    def make(shards: int = 1) -> History:
        return History(
            kinesis, snowflake_connection, make_stream(shards), application_name, TableName.parse(table)
        )

    return make
