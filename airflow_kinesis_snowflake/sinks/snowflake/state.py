"""Maintenance calls to Snowflake: what is loaded, and the rows of the offsets table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.sinks.snowflake import state_statements as statements
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.statements import CLOSED, stage_folder
from airflow_kinesis_snowflake.stream.positions import Position, decode_position
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget


@dataclass(frozen=True)
class OffsetRow:
    """One row of the offsets table.

    :param position: of the last loaded record; ``None`` before the first
    :param closed: a reset ended the incarnation: nothing can be loaded under it
    :param updated: seconds since the epoch
    :param odd: its position as stored, if no load can have written it
    """

    stream: str
    shard_id: str
    incarnation: str
    position: Position | None
    closed: bool
    updated: float
    odd: str | None = None


class ListedChannel(NamedTuple):
    """A channel as SHOW CHANNELS lists it.

    :ivar created: milliseconds since the epoch; 0: unknown
    """

    name: str
    created: int


class SnowflakeStateSession(SnowflakeSession):
    """A session for maintenance. Raises what :class:`SnowflakeSession` raises."""

    def count_from(
        self, target: LandingTarget, *, application: str, stream: str, first: Mapping[str, Position]
    ) -> Mapping[str, int]:
        """Count the loaded records of some shards, from a given record on, including dead letters of the
        application.

        A record counts once, however often it is present. Landed rows don't say which application loaded
        them, so those of others count too.

        :param first: shard id to the first record that counts; or, if that is inside an aggregate, to the
            last one that doesn't
        :return: by shard id; 0 if there are none
        :raises SnowflakeObjectNotFoundError: the landing table or the dead-letter table isn't there, as far
            as the role can see
        """
        counts = dict.fromkeys(first, 0)
        if first:
            statement = statements.count_loaded(target, application=application, stream=stream, first=first)
            rows = self._rows(statement, doing="count in", target=target.table)
            counts |= {shard_id: int(count) for shard_id, count in rows}
        return counts

    def list_offsets(self, offsets: TableName, *, application: str) -> list[OffsetRow]:
        """All rows of an application, including those that no load wrote.

        :raises SnowflakeObjectNotFoundError: there is no offsets table, as far as the role can see
        """
        statement = statements.list_offsets(offsets, application=application)
        rows = self._rows(statement, doing="read", target=offsets)
        return [_offset_row(row) for row in rows]

    def close_offsets(
        self, target: LandingTarget, *, application: str, stream: str, keys: Sequence[OffsetKey]
    ) -> None:
        """Close incarnations for good, so that nothing is loaded under them any more.

        Adds missing rows, and waits for a load under way.

        :raises SnowflakeObjectNotFoundError: there is no offsets table, as far as the role can see
        """
        if not keys:
            return
        self.ensure_offsets(
            target,
            application=application,
            stream=stream,
            keys=self._missing(target, application=application, stream=stream, keys=keys),
        )
        self._change(statements.close_offsets, target, application=application, stream=stream, keys=keys)

    def _missing(
        self, target: LandingTarget, *, application: str, stream: str, keys: Sequence[OffsetKey]
    ) -> list[OffsetKey]:
        rows = self.list_offsets(target.offsets, application=application)
        there = {OffsetKey(row.shard_id, row.incarnation) for row in rows if row.stream == stream}
        return [key for key in keys if key not in there]

    def reopen_offsets(
        self, target: LandingTarget, *, application: str, stream: str, keys: Sequence[OffsetKey]
    ) -> None:
        """Undo :meth:`close_offsets`; the positions are as they were."""
        if keys:
            self._change(statements.reopen_offsets, target, application=application, stream=stream, keys=keys)

    def forget_offsets(self, offsets: TableName, *, application: str, before: datetime) -> int:
        """Delete all rows of an application that haven't changed since a given moment.

        :return: how many there were
        :raises SnowflakeObjectNotFoundError: there is no offsets table, as far as the role can see
        """
        statement = statements.forget_offsets(offsets, application=application, before=before.isoformat())
        with self._cursor(statement, doing="delete offsets from", target=str(offsets)) as cursor:
            return int(cursor.rowcount or 0)

    def prune_offsets(
        self,
        offsets: TableName,
        *,
        application: str,
        stream: str,
        keys: Sequence[OffsetKey],
        before: datetime,
    ) -> int:
        """Delete rows that haven't changed since a given moment.

        :return: how many there were
        """
        if not keys:
            return 0
        pairs = [(key.shard_id, key.incarnation) for key in keys]
        statement = statements.prune_offsets(
            offsets, application=application, stream=stream, keys=pairs, before=before.isoformat()
        )
        with self._cursor(statement, doing="delete offsets from", target=str(offsets)) as cursor:
            return int(cursor.rowcount or 0)

    def list_channels(self, table: TableName) -> list[ListedChannel]:
        """The channels of Snowpipe Streaming into a table. Needs no warehouse.

        :raises SnowflakeObjectNotFoundError: there is no such table, as far as the role can see
        """
        statement = statements.list_channels(table)
        with self._cursor(statement, doing="list the channels of", target=str(table)) as cursor:
            names = [str(column[0]).lower() for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [ListedChannel(str(row["name"]), _millis(row.get("created_on"))) for row in rows]

    def remove_files(self, stage: TableName, *, application: str) -> None:
        """Remove files that loads of an application left on the stage.

        :raises SnowflakeObjectNotFoundError: there is no stage, as far as the role can see
        """
        self.remove_folder(stage, folder=stage_folder(application))

    def _change(
        self,
        statement: statements.OffsetsStatement,
        target: LandingTarget,
        *,
        application: str,
        stream: str,
        keys: Sequence[OffsetKey],
    ) -> None:
        pairs = [(key.shard_id, key.incarnation) for key in keys]
        self._rows(
            statement(target.offsets, application=application, stream=stream, keys=pairs),
            doing="change offsets in",
            target=target.offsets,
        )


def _offset_row(row: tuple[Any, ...]) -> OffsetRow:
    stream, shard_id, incarnation, text, updated = row
    position, odd = None, None
    try:
        position = decode_position(text.removeprefix(CLOSED))
    except ValueError:
        odd = text
    return OffsetRow(
        stream=stream,
        shard_id=shard_id,
        incarnation=incarnation,
        position=position,
        closed=text.startswith(CLOSED),
        updated=float(updated),
        odd=odd,
    )


def _millis(created: Any) -> int:
    if isinstance(created, str):
        created = datetime.fromisoformat(created)
    if not isinstance(created, datetime):
        return 0
    return millis(created if created.tzinfo else created.replace(tzinfo=UTC))
