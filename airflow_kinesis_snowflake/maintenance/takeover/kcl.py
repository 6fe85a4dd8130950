"""The leases of the Kinesis Client Library.

Versions 1, 2, 3 and 3.5, whose table also holds items that aren't leases. ``checkpoint`` and
``checkpointSubSequenceNumber`` name the last record that was processed, inside an aggregate or not; or
``checkpoint`` says where the shard starts (``TRIM_HORIZON``, ``LATEST``, ``AT_TIMESTAMP``) or that it is
finished (``SHARD_END``). A pending checkpoint hasn't been processed yet, and is left out. See
``leases/dynamodb/DynamoDBLeaseSerializer.java`` of the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.takeover.source import (
    CheckpointSource,
    ImportedShard,
    ItemSkippedError,
    held,
    key_text,
    position_of,
)
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.maintenance.takeover.source import Circumstances, Item


class KinesisClientLibrary(CheckpointSource):
    """The Kinesis Client Library, and what is built on it."""

    name = "Kinesis Client Library"
    keys = {"HASH": "leaseKey"}  # noqa: RUF012 -- the protocol says that it isn't changed

    def read(self, item: Item, circumstances: Circumstances) -> ImportedShard:
        """Read a lease; one that nobody has begun starts where it says."""
        kind = held(item, "entityType", "S") or "LEASE"
        if kind != "LEASE":
            raise ItemSkippedError(f"{kind} items")
        key = key_text(item, "leaseKey")
        shard_id = _shard_of_lease(key, circumstances)
        parents = tuple(sorted(held(item, "parentShardId", "SS") or ()))
        checkpoint = held(item, "checkpoint", "S") or ""
        if checkpoint.isdigit():
            sub = held(item, "checkpointSubSequenceNumber", "N") or "0"
            return ImportedShard(shard_id, position_of(checkpoint, sub, key), parents=parents)
        if checkpoint == "SHARD_END":
            return ImportedShard(shard_id, ended=True, parents=parents, note="finished")
        if checkpoint == "TRIM_HORIZON":
            return ImportedShard(shard_id, parents=parents, note="not begun")
        if checkpoint == "LATEST":
            return ImportedShard(
                shard_id,
                start_at=str(circumstances.now),
                parents=parents,
                note="not begun: reads what arrives from now on, as the source would",
            )
        if checkpoint == "AT_TIMESTAMP":
            if circumstances.timestamp is None:
                raise InvalidSettingError(
                    f"give the timestamp that the consumer is configured with: lease {key} stands at "
                    "AT_TIMESTAMP, and the table doesn't say at which"
                )
            return ImportedShard(
                shard_id, start_at=str(circumstances.timestamp), parents=parents, note="not begun"
            )
        raise InvalidSettingError(
            f"correct the source: lease {key} has the checkpoint {checkpoint!r:.80}, which isn't one"
        )

    def sign_of_life(self, item: Item) -> tuple[str, str] | None:
        """A live worker makes the counter of its lease grow."""
        if "leaseOwner" in item and "leaseCounter" in item:
            return key_text(item, "leaseKey"), str(item["leaseCounter"])
        return None


def _shard_of_lease(key: str, circumstances: Circumstances) -> str:
    """The shard id in the key of a lease, which in the multi-stream mode names account and stream too."""
    account_stream, _, shard_id = key.rpartition(":")
    if not account_stream:
        return key
    account, stream, created = [*account_stream.split(":"), "", ""][:3]
    if stream != circumstances.stream:
        raise ItemSkippedError(f"leases of stream {stream}")
    if circumstances.stream_arn is not None and account != StreamRef.parse(circumstances.stream_arn).account:
        raise ItemSkippedError(f"leases of stream {stream} of account {account}")
    # The Kinesis Client Library rounds the creation time down to the second.
    if created.isdigit() and int(created) != circumstances.stream_created:
        raise ItemSkippedError(f"leases of a deleted stream {stream}")
    return shard_id
