"""The SQL statements of maintenance. Values are bound and names quoted, as in ``statements.py``.

An incarnation is closed by a ``~`` in front of its position. It sorts after every digit, so to the
compare-and-set of a load the row is past the start of any batch, and the load rolls back; and no drain takes
it for a position. Removing the ``~`` restores the position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.formats.dead_letters import GAP
from airflow_kinesis_snowflake.identifiers import quote
from airflow_kinesis_snowflake.sinks.snowflake.statements import CLOSED, LOCK, Statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.statements import Value
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
    from airflow_kinesis_snowflake.stream.positions import Position


class OffsetsStatement(Protocol):
    """A statement about some rows of the offsets table.

    ``keys`` are shard ids and incarnations; not empty.
    """

    def __call__(
        self, table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]]
    ) -> Statement: ...


def count_loaded(
    target: LandingTarget, *, application: str, stream: str, first: Mapping[str, Position]
) -> Statement:
    """How many records of some shards have landed or are dead letters of an application: shard id and number.

    :param first: shard id to the first record that counts; or, if that is inside an aggregate, to the last
        one that doesn't; not empty
    """
    metadata = f"{quote('KINESISMETADATA')}:"
    landed = _coordinates(
        target.table,
        f"{metadata}shardId::VARCHAR",
        f"{metadata}sequenceNumber::VARCHAR",
        f"{metadata}subSequenceNumber::NUMBER",
        first=first,
        where={f"{metadata}stream::VARCHAR = %s": stream},
    )
    letters = _coordinates(
        target.dead_letters,
        *(quote(name) for name in ("SHARD_ID", "SEQUENCE_NUMBER", "SUB_SEQUENCE_NUMBER")),
        first=first,
        where={
            f"{quote('STREAM')} = %s": stream,
            f"{quote('APPLICATION')} = %s": application,
            f"NVL({quote('KIND')}, 'record') <> %s": GAP,
        },
    )
    # UNION removes duplicates.
    return Statement(
        f"SELECT OF_SHARD, COUNT(*) FROM ({landed.sql} UNION {letters.sql}) GROUP BY 1",
        (*landed.params, *letters.params),
    )


def list_offsets(table: TableName, *, application: str) -> Statement:
    """The rows of an application's shards: stream, shard, incarnation, position, seconds since the epoch."""
    return Statement(
        'SELECT "STREAM", "SHARD_ID", "INCARNATION", "POSITION", DATE_PART(EPOCH_SECOND, "UPDATED_AT") '
        f'FROM {_text(table)} WHERE "APPLICATION" = %s AND "SHARD_ID" <> %s',
        (application, LOCK[0]),
    )


def list_channels(table: TableName) -> Statement:
    """The channels into a table, with ``name`` and ``created_on``."""
    return Statement(f"SHOW CHANNELS IN TABLE {_text(table)}")


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


def forget_offsets(table: TableName, *, application: str, before: str) -> Statement:
    """Delete all rows of an application that haven't changed since a given moment.

    :param before: ISO-8601 with a time zone
    """
    return Statement(
        f'DELETE FROM {_text(table)} WHERE "APPLICATION" = %s AND "UPDATED_AT" < %s::TIMESTAMP_LTZ',
        (application, before),
    )


def prune_offsets(
    table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]], before: str
) -> Statement:
    """Delete rows that haven't changed since a given moment.

    :param keys: shard ids and incarnations; not empty
    :param before: ISO-8601 with a time zone
    """
    key = '("SHARD_ID" = %s AND "INCARNATION" = %s)'
    return Statement(
        f'DELETE FROM {_text(table)} WHERE "APPLICATION" = %s AND "STREAM" = %s '
        f'AND "UPDATED_AT" < %s::TIMESTAMP_LTZ AND ({" OR ".join([key] * len(keys))})',
        (application, stream, before, *(value for pair in keys for value in pair)),
    )


def _coordinates(
    table: TableName,
    shard: str,
    number: str,
    sub: str,
    *,
    first: Mapping[str, Position],
    where: Mapping[str, str],
) -> Statement:
    """Shard id, sequence number and sub-sequence number of the matching records of a table.

    :param where: conditions, each with the value bound in it
    """
    conditions: list[str] = []
    params: list[Value] = []
    for shard_id, position in first.items():
        digits = position.sequence_number
        # Sequence numbers differ in length, and those of the same length compare as text.
        after = (
            f"LENGTH({number}) > %s OR (LENGTH({number}) = %s AND "
            f"TO_BINARY({number}, 'UTF-8') > TO_BINARY(%s, 'UTF-8'))"
        )
        conditions.append(f"({shard} = %s AND ({after} OR ({number} = %s AND NVL({sub}, 0) > %s)))")
        params += [shard_id, len(digits), len(digits), digits, digits]
        params.append(-1 if position.sub_sequence_number is None else position.sub_sequence_number)
    return Statement(
        f"SELECT {shard} AS OF_SHARD, {number} AS OF_NUMBER, NVL({sub}, 0) AS OF_SUB FROM {_text(table)} "
        f"WHERE {' AND '.join(where)} AND ({' OR '.join(conditions)})",
        (*where.values(), *params),
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
