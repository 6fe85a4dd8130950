"""The stream: numbered records go in while its shards split and merge."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_kinesis_agg.aggregator import RecordAggregator

if TYPE_CHECKING:
    from random import Random

    from mypy_boto3_kinesis import KinesisClient

    from tests.torture.journal import Journal

KEYS = 40
FEWEST_SHARDS, MOST_SHARDS = 2, 5


class Producer:
    """Writes the numbers from 0 on; some in KPL aggregates, some as payloads that can't land.

    The numbers of one partition key ascend in the stream: one request never holds two entries of a key.
    """

    def __init__(self, kinesis: KinesisClient, stream: str, random: Random) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._random = random
        self.produced = 0

    def act(self) -> float:
        """Write some more, and say after how many seconds to do it again."""
        keys = [f"key-{key}" for key in self._random.sample(range(KEYS), self._random.randint(1, 8))]
        entries: list[Any] = [{"PartitionKey": key, "Data": self._data(key)} for key in keys]
        answer = self._kinesis.put_records(StreamName=self._stream, Records=entries)
        assert answer["FailedRecordCount"] == 0, answer
        return self._random.uniform(0.2, 0.8)

    def _data(self, key: str) -> bytes:
        if self._random.random() >= 0.3:
            return self._payload()
        aggregate = RecordAggregator()
        for _ in range(self._random.randint(1, 12)):
            aggregate.add_user_record(key, self._payload())
        _, _, data = aggregate.clear_and_get().get_contents()
        return bytes(data)

    def _payload(self) -> bytes:
        number, self.produced = self.produced, self.produced + 1
        document = json.dumps({"n": number})
        return (document if self._random.random() >= 0.03 else document[:-1]).encode()


class Resharder:
    """Splits and merges shards at random."""

    def __init__(self, kinesis: KinesisClient, stream: str, random: Random, journal: Journal) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._random = random
        self._journal = journal
        self.reshards = 0

    def act(self) -> float:
        """Change the shards once if the stream is ready for it, and say when to do it again."""
        description = self._kinesis.describe_stream_summary(StreamName=self._stream)
        if description["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
            return 0.3
        shards = self._kinesis.list_shards(StreamName=self._stream)["Shards"]
        shards = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
        few, many = len(shards) <= FEWEST_SHARDS, len(shards) >= MOST_SHARDS
        if few or (not many and self._random.random() < 0.5):
            self._split(self._random.choice(shards))
        else:
            place = self._random.randrange(len(shards) - 1)
            self._merge(shards[place], shards[place + 1])
        self.reshards += 1
        return self._random.uniform(6, 18)

    def _split(self, shard: Any) -> None:
        middle = sum(int(bound) for bound in shard["HashKeyRange"].values()) // 2
        self._journal.write("split", shard=shard["ShardId"])
        self._kinesis.split_shard(
            StreamName=self._stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle)
        )

    def _merge(self, left: Any, right: Any) -> None:
        self._journal.write("merge", left=left["ShardId"], right=right["ShardId"])
        self._kinesis.merge_shards(
            StreamName=self._stream, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"]
        )
