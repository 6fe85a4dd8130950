"""The checkpoints of Redpanda Connect.

A row has the last acknowledged ``SequenceNumber`` by ``StreamID`` and ``ShardID``; the row of a finished
shard is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.takeover.source import (
    CheckpointSource,
    ImportedShard,
    ItemSkippedError,
    held,
    key_text,
    position_of,
)

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.maintenance.takeover.source import Circumstances, Item


class RedpandaConnect(CheckpointSource):
    """The input ``aws_kinesis`` of Redpanda Connect."""

    name = "Redpanda Connect"
    keys = {"HASH": "StreamID", "RANGE": "ShardID"}  # noqa: RUF012 -- the protocol says that it isn't changed

    def read(self, item: Item, circumstances: Circumstances) -> ImportedShard:
        """Read a row; without a number nobody has begun the shard."""
        stream, shard_id = key_text(item, "StreamID"), key_text(item, "ShardID")
        if stream != circumstances.stream:
            raise ItemSkippedError(f"rows of stream {stream}")
        number = held(item, "SequenceNumber", "S")
        if not number:
            return ImportedShard(shard_id, note="not begun")
        return ImportedShard(shard_id, position_of(number, None, shard_id))

    def sign_of_life(self, item: Item) -> tuple[str, str] | None:
        """A live worker moves the time on until which it holds a lease."""
        if "ClientID" in item and "LeaseTimeout" in item:
            return key_text(item, "ShardID"), str(item["LeaseTimeout"])
        return None
