"""The SQL statements of maintenance. Values are bound and names quoted, as in ``statements.py``.

An incarnation is closed by a ``~`` in front of its position. That sorts behind every digit, so the
compare-and-set of a load finds the row further on than any batch can begin, and the load rolls back; and no
drain takes it for a position. Without the ``~`` it is what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.landing.identifiers import quote
from airflow_kinesis_snowflake.landing.statements import CLOSED, LOCK, Statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.landing.identifiers import TableName


class OffsetsStatement(Protocol):
    """A statement about some rows of the offsets table.

    ``keys`` are shard ids and incarnations; not empty.
    """

    def __call__(
        self, table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]]
    ) -> Statement: ...


def count_landed(table: TableName, *, stream: str, first: Mapping[str, str]) -> Statement:
    """Rows of a landing table from a record on: shard id and number.

    :param first: shard id to sequence number; not empty
    """
    metadata = f"{quote('KINESISMETADATA')}:"
    return _count(
        table,
        f"{metadata}stream::VARCHAR",
        f"{metadata}shardId::VARCHAR",
        f"{metadata}sequenceNumber::VARCHAR",
        stream=stream,
        first=first,
    )


def count_dead_letters(table: TableName, *, stream: str, first: Mapping[str, str]) -> Statement:
    """Dead letters from a record on, as :func:`count_landed`."""
    columns = (quote(name) for name in ("STREAM", "SHARD_ID", "SEQUENCE_NUMBER"))
    return _count(table, *columns, stream=stream, first=first)


def list_offsets(table: TableName, *, application: str) -> Statement:
    """The rows of an application's shards: stream, shard, incarnation, position, seconds since the epoch."""
    return Statement(
        'SELECT "STREAM", "SHARD_ID", "INCARNATION", "POSITION", DATE_PART(EPOCH_SECOND, "UPDATED_AT") '
        f'FROM {_text(table)} WHERE "APPLICATION" = %s AND "SHARD_ID" <> %s',
        (application, LOCK[0]),
    )


def close_offsets(
    table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]]
) -> Statement:
    """Put a ``~`` in front of positions that have none."""
    return _change(
        table,
        f""""POSITION" = '{CLOSED}' || "POSITION\"""",
        f""""POSITION" NOT LIKE '{CLOSED}%%'""",
        application=application,
        stream=stream,
        keys=keys,
    )


def reopen_offsets(
    table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]]
) -> Statement:
    """Take the ``~`` away again."""
    return _change(
        table,
        '"POSITION" = SUBSTR("POSITION", 2)',
        f""""POSITION" LIKE '{CLOSED}%%'""",
        application=application,
        stream=stream,
        keys=keys,
    )


def forget_offsets(table: TableName, *, application: str) -> Statement:
    """Delete all rows of an application."""
    return Statement(f'DELETE FROM {_text(table)} WHERE "APPLICATION" = %s', (application,))


def _count(
    table: TableName,
    stream_column: str,
    shard_column: str,
    number_column: str,
    *,
    stream: str,
    first: Mapping[str, str],
) -> Statement:
    # Sequence numbers differ in length, and those of the same length compare as text.
    digits = f"LENGTH({number_column})"
    behind = (
        f"({shard_column} = %s AND ({digits} > %s OR ({digits} = %s AND "
        f"TO_BINARY({number_column}, 'UTF-8') >= TO_BINARY(%s, 'UTF-8'))))"
    )
    params = [
        value for shard_id, number in first.items() for value in (shard_id, len(number), len(number), number)
    ]
    return Statement(
        f"SELECT {shard_column}, COUNT(*) FROM {_text(table)} WHERE {stream_column} = %s "
        f"AND ({' OR '.join([behind] * len(first))}) GROUP BY 1",
        (stream, *params),
    )


def _change(
    table: TableName,
    change: str,
    condition: str,
    *,
    application: str,
    stream: str,
    keys: Sequence[tuple[str, str]],
) -> Statement:
    key = '("SHARD_ID" = %s AND "INCARNATION" = %s)'
    return Statement(
        f'UPDATE {_text(table)} SET {change}, "UPDATED_AT" = CURRENT_TIMESTAMP '
        f'WHERE "APPLICATION" = %s AND "STREAM" = %s AND {condition} AND ({" OR ".join([key] * len(keys))})',
        (application, stream, *(value for pair in keys for value in pair)),
    )


def _text(table: TableName) -> str:
    return table.sql.replace("%", "%%")
