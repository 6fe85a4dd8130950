"""Maintenance calls to channels: which exist, how far they are committed, and whose they are.

Names come from SHOW CHANNELS, which needs neither a key pair nor a warehouse. Tokens come from the service
that drains use, so they need both the extra ``streaming`` and a key pair. Where there is no channel, no call
is made and nothing is needed.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import ServiceRefusedError, SnowflakeObjectNotFoundError
from airflow_kinesis_snowflake.sinks.snowflake.streaming import channel_name, position_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.channels import ChannelClient
    from airflow_kinesis_snowflake.sinks.snowflake.state import ListedChannel, SnowflakeStateSession
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)

MAX_CHANNELS = 2_000
"""Maximum number of channels of a pipe (Snowflake's documentation)."""
_MAX_ASKED = 500


@dataclass(frozen=True)
class ShardChannel:
    """The state of a shard's landing channel.

    :param position: of the last committed record; ``None`` before the first
    :param created: milliseconds since the epoch; 0: not known
    :param odd: its token, if no drain can have written it
    """

    shard_id: str
    incarnation: str
    position: Position | None
    created: int = 0
    odd: str | None = None


class ShardChannels:
    """The channels of a landing table and its dead letters. A context manager that logs out.

    :param session: lists channels
    :param target: the tables
    :param open_client: logs in to the channels of a table
    """

    def __init__(
        self,
        session: SnowflakeStateSession,
        target: LandingTarget,
        open_client: Callable[[TableName], ChannelClient],
    ) -> None:
        self._session = session
        self._target = target
        self._open_client = open_client
        self._clients: dict[TableName, ChannelClient] = {}
        self._closing = ExitStack()

    def try_login(self) -> None:
        """Log in, so that anything missing shows before something is changed.

        :raises InvalidSettingError: the extra ``streaming`` isn't installed, or the key pair is missing
        :raises KinesisSnowflakeError: as opening a channel raises it
        """
        self._client(self._target.table)

    def read(
        self, *, application: str, stream: str, keys: Iterable[OffsetKey], listed: bool
    ) -> list[ShardChannel]:
        """The state of the landing channels of a stream's shards, without opening them.

        :param keys: shards and incarnations that must have streamed
        :param listed: also look for channels of others
        """
        created: dict[OffsetKey, int] = dict.fromkeys(keys, 0)
        if listed:
            for channel in self.list(self._target.table):
                key = key_of_channel(channel.name, application=application, stream=stream)
                if key is not None:
                    created[key] = channel.created
        names = {channel_name(application, stream, key): key for key in created}
        tokens = self._tokens(self._target.table, list(names))
        return [_channel_of(key, tokens[name], created[key]) for name, key in names.items() if name in tokens]

    def fence(self, *, application: str, stream: str, keys: Iterable[OffsetKey]) -> int:
        """Open the landing and dead-letter channels of shards, so that no former owner can commit.

        Hold the leases of the shards when calling it: a worker confirms its lease right after it opens a
        channel. So whoever may still commit has already opened its channel, and a channel that doesn't exist
        needs no fence.

        :return: how many were opened
        """
        names = [channel_name(application, stream, key) for key in keys]
        opened = 0
        for table in (self._target.table, self._target.dead_letters) if names else ():
            for name in self._tokens(table, names):
                self._client(table).open(name).close()
                opened += 1
        return opened

    def list(self, table: TableName) -> list[ListedChannel]:
        """The channels into a table; none if there is no such table, or Snowflake won't list them."""
        try:
            return self._session.list_channels(table)
        except SnowflakeObjectNotFoundError:
            return []
        except ServiceRefusedError as error:
            log.warning("Channels into %s aren't checked: %s", table, error)
            return []

    def drop(self, table: TableName, names: Iterable[str]) -> int:
        """Drop channels with their tokens.

        :return: how many
        """
        dropped = 0
        try:
            for name in names:
                self._client(table).drop(name)
                dropped += 1
        except SnowflakeObjectNotFoundError as error:
            log.info("The channels into %s were dropped with it: %s", table, error)
        return dropped

    def _tokens(self, table: TableName, names: Sequence[str]) -> dict[str, str | None]:
        """The tokens of the channels that exist."""
        found: dict[str, str | None] = {}
        for start in range(0, len(names), _MAX_ASKED):
            try:
                states = self._client(table).states(names[start : start + _MAX_ASKED])
            except SnowflakeObjectNotFoundError:
                return {}
            found |= {name: state.committed for name, state in states.items()}
        return found

    def _client(self, table: TableName) -> ChannelClient:
        client = self._clients.get(table)
        if client is None:
            client = self._clients[table] = self._closing.enter_context(self._open_client(table))
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()


def key_of_channel(name: str, *, application: str, stream: str) -> OffsetKey | None:
    """The shard and incarnation in the name of a channel; ``None``: it is another's, or shortened."""
    match name.split(":"):
        case [of_application, of_stream, shard_id, incarnation] if (of_application, of_stream) == (
            application,
            stream,
        ):
            key = OffsetKey(shard_id, incarnation)
            return key if channel_name(application, stream, key) == name else None
    return None


def _channel_of(key: OffsetKey, token: str | None, created: int) -> ShardChannel:
    try:
        return ShardChannel(key.shard_id, key.incarnation, position_of(token), created)
    except ValueError:
        return ShardChannel(key.shard_id, key.incarnation, None, created, odd=token)
