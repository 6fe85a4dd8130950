"""How far behind an application is, according to its state rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.engine.rows import caught_up_by, contradiction, missing_rows
from airflow_kinesis_snowflake.exceptions import AnotherStreamError
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from airflow_kinesis_snowflake.stream.retention import read_until, why_foreign
from airflow_kinesis_snowflake.stream.times import moment, now_millis

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState, TableFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard


class Lister(Protocol):
    """Lists the shards of a stream."""

    @property
    def stream_name(self) -> str: ...
    def may_be(self, arn: str) -> bool: ...
    def list_shards(self) -> tuple[Shard, ...]: ...


class StateReader(Protocol):
    """Reads the state of an application, if there is any."""

    def describe_table(self) -> TableFacts: ...
    def read_state(self, stream_name: str) -> StreamState: ...


def read_drained_until(kinesis: Lister, store: StateReader) -> datetime | None:
    """The moment up to which everything in a stream is certainly loaded. Reads no records.

    Needs ``dynamodb:DescribeTable``, ``dynamodb:Query`` and ``kinesis:ListShards``.

    :return: in UTC; ``None``: not known yet
    :raises AnotherStreamError: the rows are those of a stream of the same name elsewhere
    """
    if not store.describe_table().exists:
        return None
    state = store.read_state(kinesis.stream_name)
    arns = {row.stream_arn for row in state.shards.values() if row.stream_arn is not None}
    if others := sorted(arn for arn in arns if not kinesis.may_be(arn)):
        raise AnotherStreamError(
            f"Check the stream's account and region: the application has the checkpoints of {others[0]}"
        )
    return drained_until(kinesis.list_shards(), state, now=now_millis()) if state.shards else None


def drained_until(listed: Sequence[Shard], state: StreamState, *, now: int) -> datetime | None:
    """The moment up to which everything in a stream is loaded.

    Each shard is loaded up to its last loaded record, or up to when a drain reached its end, if that is
    later; the shard furthest behind decides.

    :param listed: as Kinesis lists them, taken after the rows
    :param now: milliseconds since the epoch; later times in a row are ignored
    :return: ``None`` if a shard hasn't been started, has no row yet, or has an implausible one
    """
    if missing_rows(listed, state, initial=TRIM_HORIZON):
        return None
    rows = state.shards
    if any(_is_wrong(rows[shard.shard_id], shard, now=now) for shard in listed if shard.shard_id in rows):
        return None
    moments = []
    for row in rows.values():
        caught_up = caught_up_by(row, now=now)
        if not row.ended:
            moments.append(
                read_until(row.checkpoint, caught_up_at=None if caught_up is None else moment(caught_up))
            )
    known = [when for when in moments if when is not None]
    return min(known, default=None) if len(known) == len(moments) else None


def _is_wrong(row: ShardState, shard: Shard, *, now: int) -> bool:
    """Whether a drain would refuse to continue from a row."""
    doubt = why_foreign(row.checkpoint, shard, now=moment(now)) if row.checkpoint else None
    return contradiction(row, shard, now=now) is not None or (doubt is not None and doubt.certain)
