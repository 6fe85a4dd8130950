"""An audit's queries to Snowflake. All are read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.audit.counts import Incarnation, ShardCounts
from airflow_kinesis_snowflake.exceptions import CorruptStateError
from airflow_kinesis_snowflake.sinks.snowflake import audit_statements as statements
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.statements import CLOSED
from airflow_kinesis_snowflake.stream.positions import decode_position

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

_OF_INCARNATION = 5
_PAGE_ROWS = 10_000


class SnowflakeAuditSession(SnowflakeSession):
    """A session for an audit. Raises what :class:`SnowflakeSession` raises.

    A table that isn't there raises :class:`SnowflakeObjectNotFoundError`: it is never taken for an empty one.
    """

    def list_applications(self, offsets: TableName, *, stream: str) -> tuple[str, ...]:
        """Names of the applications that have loaded a stream with this offsets table, sorted."""
        statement = statements.list_applications(offsets, stream=stream)
        return tuple(str(row[0]) for row in self._rows(statement, doing="read", target=offsets))

    def count_records(
        self,
        target: LandingTarget,
        *,
        stream: str,
        applications: Sequence[str],
        several_documents: bool = False,
    ) -> tuple[ShardCounts, ...]:
        """Count the records of each shard in one statement, which reads the landing table once.

        :param applications: whose offsets and dead letters; not empty
        :param several_documents: a record may become several rows
        :raises CorruptStateError: the offsets table has a position that no load wrote
        """
        statement = statements.count_records(
            target, stream=stream, applications=applications, several_documents=several_documents
        )
        rows = self._rows(statement, doing="count records in", target=target.table)
        shards: dict[str, ShardCounts] = {}
        for row in rows:
            shard_id = row[4] or ""
            counts = shards.get(shard_id) or _counts(shard_id, row[_OF_INCARNATION:])
            shards[shard_id] = counts.with_incarnation(_incarnation(row, target.offsets))
        return tuple(shards[shard_id] for shard_id in sorted(shards))

    def list_coordinates(
        self, target: LandingTarget, *, stream: str, applications: Sequence[str], since: int
    ) -> Generator[tuple[str, str]]:
        """Shard id and code of every record that is present, in order of both; see ``audit_statements.py``.

        Rows arrive a page at a time, so memory doesn't grow with their number. Close the generator before the
        session.

        :param since: only records that arrived at this moment or later, in milliseconds since the epoch
        """
        statement = statements.list_coordinates(target, stream=stream, applications=applications, since=since)
        with self._cursor(statement, doing="list records in", target=str(target.table)) as cursor:
            while rows := cursor.fetchmany(_PAGE_ROWS):
                yield from rows


def _counts(shard_id: str, values: Sequence[Any]) -> ShardCounts:
    counted = dict(zip(statements.COUNTED, values, strict=True))
    values_of: dict[str, Any] = {
        name: value if name in statements.CODES else int(value or 0) for name, value in counted.items()
    }
    return ShardCounts(shard_id=shard_id, **values_of)


def _incarnation(row: Sequence[Any], offsets: TableName) -> Incarnation | None:
    application, incarnation, text, records, shard_id = row[:_OF_INCARNATION]
    if application is None:
        return None
    try:
        position = decode_position(text.removeprefix(CLOSED) or text)
    except ValueError as error:
        raise CorruptStateError(
            f"Correct the row: {offsets} holds {text!r:.80} as the position of shard {shard_id} (incarnation "
            f"{incarnation}), which no load wrote"
        ) from error
    return Incarnation(
        application=application,
        incarnation=incarnation,
        position=position,
        records=int(records),
        closed=text.startswith(CLOSED),
    )
