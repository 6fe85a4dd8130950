"""The rows of Snowflake's Openflow connector.

They are in the same table as this package's, so nothing has to be imported to go on under the same name. An
import copies them for another name.
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
    start_of,
)
from airflow_kinesis_snowflake.state.attributes import KEYS, is_note
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.maintenance.takeover.source import Circumstances, Item


class Openflow(CheckpointSource):
    """The Openflow Connector for Amazon Kinesis Data Streams, or another application of this package."""

    name = "Openflow"
    keys = KEYS

    def read(self, item: Item, circumstances: Circumstances) -> ImportedShard:
        """Read a row, as a drain would read it."""
        stream, shard_id = key_text(item, "streamName"), key_text(item, "shardId")
        if stream != circumstances.stream:
            raise ItemSkippedError(f"rows of stream {stream}")
        if is_note(shard_id):
            raise ItemSkippedError("rows of workers")
        arn = held(item, "streamArn", "S")
        if arn is not None and circumstances.stream_arn not in {None, arn}:
            raise ItemSkippedError(f"rows of {arn}")
        number = held(item, "sequenceNumber", "S")
        ended = held(item, "shardEnded", "BOOL") or False
        start_at = start_of(held(item, "startAt", "S") or str(TRIM_HORIZON), shard_id)
        parents = tuple(sorted(held(item, "parentShardIds", "SS") or ()))
        if number is None:
            return ImportedShard(shard_id, start_at=start_at, ended=ended, parents=parents, note="not begun")
        sub = held(item, "subSequenceNumber", "N")
        if held(item, "subSequenceOf", "S") not in {None, number}:
            sub = None
        return ImportedShard(
            shard_id, position_of(number, sub, shard_id), start_at=start_at, ended=ended, parents=parents
        )

    def sign_of_life(self, item: Item) -> tuple[str, str] | None:
        """Its rows say until when a lease is valid."""
        return None
