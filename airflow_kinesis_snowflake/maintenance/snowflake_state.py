"""Where maintenance looks up what Snowflake has."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.channel_state import ShardChannels
from airflow_kinesis_snowflake.sinks.snowflake.state import SnowflakeStateSession
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SnowflakeState:
    """A landing table and the tables, stage and channels that belong to it, over an open session.

    :param channels: into these tables; they log in when they are needed
    :param count: whether to count records that will be loaded again, which reads the landing table
    """

    session: SnowflakeStateSession
    target: LandingTarget
    channels: ShardChannels
    count: bool = True


@contextmanager
def open_snowflake_state(
    table: str, *, snowflake_conn_id: str, count: bool = True
) -> Iterator[SnowflakeState]:
    """Open a session that ends with the block.

    :param table: the landing table as ``DATABASE.SCHEMA.TABLE``
    :param snowflake_conn_id: Airflow connection of type ``snowflake``
    :raises InvalidSettingError: not a full name
    """
    target = LandingTarget.beside(TableName.parse(table))
    hook = SnowflakeLoadHook(
        snowflake_conn_id=snowflake_conn_id, database=target.table.database, schema=target.table.schema
    )
    with (
        SnowflakeStateSession(hook.get_conn, name=snowflake_conn_id) as session,
        ShardChannels(session, target, hook.open_channels) as channels,
    ):
        yield SnowflakeState(session, target, channels, count)
