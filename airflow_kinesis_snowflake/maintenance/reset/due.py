"""Which shards the next drain makes rows for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.lineage import Shard, ShardProgress, new_shards

if TYPE_CHECKING:
    from collections.abc import Set

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection


def due_shards(inspection: Inspection, *, made: Set[str] = frozenset()) -> frozenset[str]:
    """Listed shards without a row for which the next drain makes one.

    :param made: shards that get a row before it
    """
    listed = [Shard(shard.shard_id, parents=shard.parents) for shard in inspection.shards if shard.listed]
    known = {
        shard.shard_id: ShardProgress(
            shard.shard_id,
            shard.parents,
            ended=shard.ended,
            foreign=shard.row and shard.readable and shard.stream_created is None,
        )
        for shard in inspection.shards
        if shard.row or shard.shard_id in made
    }
    return frozenset(shard.shard_id for shard in new_shards(listed, known))
