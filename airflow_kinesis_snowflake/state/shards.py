"""The state of a stream's shards, as drains use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_kinesis_snowflake.stream.positions import Position, StartAt


@dataclass(frozen=True)
class ShardState:
    """One state row. Times are milliseconds since the epoch; what a row doesn't hold is ``None``.

    Rows of the Openflow connector have ``checkpoint``, the lease and ``last_update`` only.

    :param checkpoint: everything up to here is committed in Snowflake
    :param start_at: where the shard starts while it has no checkpoint
    :param parents: of the shard, when the row was created
    :param ended: read to its end
    :param lease_owner: the worker that reads the shard; ``None`` when free
    :param incarnation: an id given to the row when it was created; ``None`` until the first lease of a row of
        the Openflow connector
    :param stream_created: creation time of the stream the row belongs to
    :param stream_arn: ARN of the stream the row belongs to; ``None``: no drain that knows ARNs has had the
        row
    :param unsettled: the last owner left a commit in doubt
    :param caught_up_at: the shard was drained up to this moment
    :param initial_shards: on the row that founded the application on this stream, the shards listed then
    :param initial_start: on the same row, where all of these were to begin; a reset may move its ``start_at``
    :param others_until: when the consumer that made the row last wrote it, before a drain took it
    :param offset: what COPY had committed for the shard when a drain last wrote this row; an earlier offset
        in Snowflake means that Snowflake went back in time
    :param offsets: the same of other sinks, by name
    :param committed_at: when sinks that forget had last committed something, by name
    :param sinks: the sinks that may have committed something the row doesn't show yet; after a clean release,
        that of the last owner
    :param oddities: implausible attributes of the row, such as a time that isn't a number; they are ignored
    """

    shard_id: str
    checkpoint: Position | None = None
    start_at: StartAt | None = None
    parents: tuple[str, ...] = ()
    ended: bool = False
    lease_owner: str | None = None
    lease_expiry: int | None = None
    incarnation: str | None = None
    stream_created: int | None = None
    stream_arn: str | None = None
    last_update: int | None = None
    millis_behind: int | None = None
    unsettled: bool = False
    caught_up_at: int | None = None
    initial_shards: frozenset[str] = frozenset()
    initial_start: StartAt | None = None
    others_until: int | None = None
    offset: Position | None = None
    offsets: Mapping[str, Position] = field(default_factory=dict)
    committed_at: Mapping[str, int] = field(default_factory=dict)
    sinks: frozenset[str] = frozenset()
    oddities: tuple[str, ...] = ()

    def committed_by(self, sink: str) -> Position | None:
        """What a sink had committed when a drain last recorded it."""
        return self.offset if sink == "copy" else self.offsets.get(sink)


@dataclass(frozen=True)
class StreamState:
    """All rows of one stream.

    :param shards: by shard id
    :param workers: worker id to its last heartbeat, in milliseconds since the epoch; 0: the row has none, as
        the Openflow connector leaves it when it stops. Rows whose heartbeat can't be read are left out
    """

    shards: Mapping[str, ShardState] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TableFacts:
    """What DescribeTable reports about the application's table.

    :param protected: against deletion
    """

    exists: bool
    arn: str | None = None
    created: datetime | None = None
    status: str | None = None
    protected: bool = False
