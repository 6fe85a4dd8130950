"""Where records land and in which form, with either sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.formats.columns import ColumnsMapping, make_mapping
from airflow_kinesis_snowflake.formats.decoding import ROOM_BYTES, DecodingEncoder
from airflow_kinesis_snowflake.sinks.snowflake.table_options import PLAIN
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_kinesis_snowflake.engine.ports import Sink, SinkContext
    from airflow_kinesis_snowflake.engine.runtime import Event
    from airflow_kinesis_snowflake.formats.column_types import Column
    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.engine import Decoder
    from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
    from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions

    OpenSession = Callable[[], SnowflakeSession]
    """Logs in to Snowflake."""

    OpenChannels = Callable[[TableName], "ChannelOwner"]
    """Logs in to stream into a table."""

COPY = "copy"
STREAMING = "streaming"


class ChannelStatus(Protocol):
    """What Snowflake reports about a channel; ``channels.ChannelState`` is one."""

    @property
    def committed(self) -> str | None: ...
    @property
    def rejected(self) -> int: ...
    @property
    def rejected_through(self) -> str | None: ...
    @property
    def why(self) -> str | None: ...


class OwnedChannel(Protocol):
    """An open channel; ``channels.Channel`` is one."""

    @property
    def opened(self) -> ChannelStatus: ...
    def append(self, rows: Sequence[bytes], start_token: str, end_token: str) -> None: ...
    def flush(self) -> None: ...
    def wait(self, token: str, *, timeout: float, stopping: Event) -> ChannelStatus | None: ...
    def close(self) -> None: ...


class ChannelOwner(Protocol):
    """Opens channels; ``channels.ChannelClient`` is one."""

    @property
    def hexadecimal(self) -> bool: ...
    def open(self, name: str) -> OwnedChannel: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Landing:
    """A landing table, and how records become its rows.

    :param columns: how keys become columns; ``None`` lands each record as a whole (``envelope``)
    :param metadata_columns: facts about a record that get columns of their own
    :param decoder: takes payloads apart; ``None``: each is its JSON document
    :param options: how the table is created if it doesn't exist
    """

    table: TableName
    columns: ColumnsSettings | None = None
    metadata_columns: tuple[str, ...] = ()
    decoder: Decoder | None = None
    options: TableOptions = PLAIN

    @property
    def target(self) -> LandingTarget:
        """The table and its companions."""
        return LandingTarget.beside(self.table, self.options)

    def mapping(self, read_columns: Callable[[], Mapping[str, Column]]) -> EnvelopeMapping | ColumnsMapping:
        """How documents become rows.

        :param read_columns: the columns of the table as they are now
        """
        return make_mapping(self.columns, metadata_columns=self.metadata_columns, read_columns=read_columns)

    def encoder(self, mapping: EnvelopeMapping | ColumnsMapping, *, room: int = ROOM_BYTES) -> Encoder:
        """How records become rows.

        :param room: bytes of documents that one call produces, not counting its last record
        """
        return DecodingEncoder(self.decoder, mapping, room=room) if self.decoder else mapping


@dataclass(frozen=True)
class Copy:
    """Loads by COPY, in batches, with a warehouse.

    :param landing: where records land, and as what
    :param open_session: logs in to Snowflake
    """

    landing: Landing
    open_session: OpenSession
    name: str = COPY

    def open(self, context: SinkContext) -> Sink:
        """The sink; nothing is connected yet."""
        from airflow_kinesis_snowflake.sinks.snowflake.copy import CopySink

        return CopySink(self.landing, self.open_session, context)


@dataclass(frozen=True)
class Streaming:
    """Streams, within seconds and without a warehouse.

    :param landing: where records land, and as what
    :param open_session: logs in for DDL
    :param open_channels: logs in to stream into a table
    """

    landing: Landing
    open_session: OpenSession
    open_channels: OpenChannels
    name: str = STREAMING

    def open(self, context: SinkContext) -> Sink:
        """The sink; nothing is connected yet."""
        from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink

        return StreamingSink(self.landing, self.open_session, self.open_channels, context)
