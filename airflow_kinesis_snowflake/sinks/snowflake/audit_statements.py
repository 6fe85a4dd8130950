"""The SQL statements of an audit. Values are bound and names quoted, as in ``statements.py``.

A record is known by its coordinates: stream, shard, sequence number and sub-sequence number. Its code is the
position inside an aggregate as ``encode_position`` writes it, with sub-sequence number 0 where there is none,
so that it compares with the positions of the offsets table. Text compares as bytes, because a default
collation of the account would change how it compares. No alias has the name of a column that the same SELECT
reads, so that it doesn't matter which of the two Snowflake takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.formats.dead_letters import GAP
from airflow_kinesis_snowflake.identifiers import quote
from airflow_kinesis_snowflake.sinks.snowflake.statements import CLOSED, LOCK, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

COUNTED = (
    "records",
    "landed",
    "dead_letters",
    "gaps",
    "repeated",
    "doubled",
    "in_both",
    "beyond",
    "missing_inside",
    "first",
    "doubled_example",
    "beyond_example",
    "missing_example",
)
"""What :func:`count_records` counts of a shard, in the order of its columns."""

CODES = ("first", "doubled_example", "beyond_example", "missing_example")
"""Those of :data:`COUNTED` that are codes of records, or NULL: the first record, and examples."""

_METADATA = f"{quote('KINESISMETADATA')}:"
_CODE = """LPAD(LENGTH("NUMBER")::VARCHAR, 3, '0') || "NUMBER" || '.' || LPAD("SUB"::VARCHAR, 10, '0')"""
_THERE = '"COPIES" > 0'


def list_applications(offsets: TableName, *, stream: str) -> Statement:
    """Names of the applications that load a stream, by their offsets."""
    return Statement(
        f'SELECT DISTINCT "APPLICATION" FROM {_text(offsets)} WHERE "STREAM" = %s ORDER BY 1', (stream,)
    )


def count_records(
    target: LandingTarget, *, stream: str, applications: Sequence[str], several_documents: bool
) -> Statement:
    """Count the records of each shard, and judge each by the offsets, in one pass over the landing table.

    One statement, so that rows, dead letters and offsets share one moment ("a statement sees only data that
    was committed before the statement began", Snowflake's documentation of READ COMMITTED).

    A record may be present once for each incarnation whose position is at or after it. The incarnations of a
    shard are ranked by their positions, the furthest first: so a record may be present ``n`` times if it is
    at or before the position of rank ``n``, which an equality join decides.

    Rows have application, incarnation, position and number of records of an incarnation (NULL where a shard
    has none), the shard id, and :data:`COUNTED` of the shard (NULL where nothing of it is present), repeated
    for each of its incarnations:

    - ``records``: distinct coordinates, ``landed``: rows, ``dead_letters`` without gaps, and ``gaps``
    - ``repeated``: coordinates that are present more than once, ``doubled``: those of them for which there
      aren't enough incarnations, ``in_both``: those of ``doubled`` that both landed and are dead letters
    - ``beyond``: coordinates after every position
    - ``missing_inside``: numbers missing inside aggregates, before the last that is present. What is missing
      before the first of a shard doesn't count: an import may begin inside an aggregate

    :param applications: whose offsets and dead letters; not empty
    :param several_documents: a record may become several rows, so they count as one
    """
    landed = 'LEAST("LANDED", 1)' if several_documents else '"LANDED"'
    named = f'"STREAM" = %s AND "APPLICATION" IN ({", ".join(["%s"] * len(applications))})'
    position = f"""IFF("POSITION" LIKE '{CLOSED}%%', SUBSTR("POSITION", 2), "POSITION")"""
    rank = (
        f'ROW_NUMBER() OVER (PARTITION BY "SHARD_ID" ORDER BY {_bytes(position)} DESC, "INCARNATION") AS '
        '"PLACE"'
    )
    doubled = f'"COPIES" > 1 AND ({_after("OWED")})'
    beyond = f"{_THERE} AND ({_after('FURTHEST')})"
    sql = f"""
WITH "INCARNATIONS" AS (
  SELECT "APPLICATION", "SHARD_ID", "INCARNATION", "POSITION", "RECORDS", {position} AS "THROUGH", {rank}
  FROM {_text(target.offsets)} WHERE {named} AND "SHARD_ID" <> %s
), "PLACED" AS (
  {_landed(target.table)} WHERE {_METADATA}stream::VARCHAR = %s
  UNION ALL
  {_dead(target.dead_letters)} WHERE {named}
), "COORDINATES" AS (
  SELECT "SHARD", "NUMBER", "SUB", SUM("IS_ROW") AS "LANDED", SUM("IS_LETTER") AS "DEAD",
    SUM("IS_GAP") AS "GAPS"
  FROM "PLACED" GROUP BY "SHARD", "NUMBER", "SUB"
), "CODED" AS (
  SELECT *, {_CODE} AS "CODE", {landed} + "DEAD" AS "COPIES" FROM "COORDINATES"
), "JUDGED" AS (
  SELECT c.*, {doubled} AS "DOUBLED", {beyond} AS "BEYOND" FROM "CODED" c
  LEFT JOIN "INCARNATIONS" f ON f."SHARD_ID" = c."SHARD" AND f."PLACE" = 1
  LEFT JOIN "INCARNATIONS" o ON o."SHARD_ID" = c."SHARD" AND o."PLACE" = c."COPIES"
), "WHOLE" AS (
  SELECT "SHARD", MIN(IFF({_THERE}, "CODE", NULL)) AS "FIRST", MIN(IFF({_THERE}, "SUB", NULL)) AS "FRONT",
    MAX(IFF({_THERE}, "SUB", NULL)) + 1 - COUNT_IF({_THERE}) AS "MISSING", COUNT_IF({_THERE}) AS "USERS",
    SUM("LANDED") AS "ROWS_OF", SUM("DEAD") AS "DEAD_OF", SUM("GAPS") AS "GAPS_OF",
    COUNT_IF("COPIES" > 1) AS "REPEATED_OF", COUNT_IF("DOUBLED") AS "DOUBLED_OF",
    COUNT_IF("DOUBLED" AND "LANDED" > 0 AND "DEAD" > 0) AS "BOTH_OF", COUNT_IF("BEYOND") AS "BEYOND_OF",
    MIN(IFF("DOUBLED", "CODE", NULL)) AS "A_DOUBLED", MIN(IFF("BEYOND", "CODE", NULL)) AS "A_BEYOND"
  FROM "JUDGED" GROUP BY "SHARD", "NUMBER"
), "SHARDS" AS (
  SELECT "SHARD", SUM("USERS") AS "SUM_RECORDS", SUM("ROWS_OF") AS "SUM_LANDED", SUM("DEAD_OF") AS "SUM_DEAD",
    SUM("GAPS_OF") AS "SUM_GAPS", SUM("REPEATED_OF") AS "SUM_REPEATED", SUM("DOUBLED_OF") AS "SUM_DOUBLED",
    SUM("BOTH_OF") AS "SUM_IN_BOTH", SUM("BEYOND_OF") AS "SUM_BEYOND",
    NVL(SUM("MISSING"), 0) - NVL(MIN_BY("FRONT", "FIRST"), 0) AS "SUM_MISSING", MIN("FIRST") AS "FIRST_CODE",
    MIN("A_DOUBLED") AS "ONE_DOUBLED", MIN("A_BEYOND") AS "ONE_BEYOND",
    MAX(IFF("MISSING" > 0, "FIRST", NULL)) AS "ONE_MISSING"
  FROM "WHOLE" GROUP BY "SHARD"
)
SELECT i."APPLICATION", i."INCARNATION", i."POSITION", i."RECORDS", NVL(i."SHARD_ID", s."SHARD"),
  s."SUM_RECORDS", s."SUM_LANDED", s."SUM_DEAD", s."SUM_GAPS", s."SUM_REPEATED", s."SUM_DOUBLED",
  s."SUM_IN_BOTH", s."SUM_BEYOND", s."SUM_MISSING", s."FIRST_CODE", s."ONE_DOUBLED", s."ONE_BEYOND",
  s."ONE_MISSING"
FROM "INCARNATIONS" i FULL OUTER JOIN "SHARDS" s ON i."SHARD_ID" = s."SHARD"
ORDER BY 5, 1, 2
"""
    return Statement(
        " ".join(sql.split()),
        (stream, *applications, LOCK[0], stream, stream, *applications),
    )


def list_coordinates(
    target: LandingTarget, *, stream: str, applications: Sequence[str], since: int
) -> Statement:
    """Shard id and code of each record that arrived at or after a moment, ordered by shard.

    One pass over the landing table; a record is listed once, however often it is present.

    :param since: milliseconds since the epoch
    """
    named = f'"STREAM" = %s AND "APPLICATION" IN ({", ".join(["%s"] * len(applications))})'
    sql = f"""
WITH "PLACED" AS (
  {_landed(target.table)} WHERE {_METADATA}stream::VARCHAR = %s
  AND {_METADATA}approximateArrival::NUMBER >= %s
  UNION ALL
  {_dead(target.dead_letters)} WHERE {named} AND "APPROXIMATE_ARRIVAL" >= %s
), "CODED" AS (
  SELECT DISTINCT "SHARD", {_CODE} AS "CODE" FROM "PLACED" WHERE "IS_GAP" = 0
)
SELECT "SHARD", "CODE" FROM "CODED" ORDER BY {_bytes('"SHARD"')}, {_bytes('"CODE"')}
"""
    return Statement(" ".join(sql.split()), (stream, since, stream, *applications, since))


def _landed(table: TableName) -> str:
    return (
        f'SELECT {_METADATA}shardId::VARCHAR AS "SHARD", {_METADATA}sequenceNumber::VARCHAR AS "NUMBER", '
        f'{_METADATA}subSequenceNumber::NUMBER AS "SUB", 1 AS "IS_ROW", 0 AS "IS_LETTER", 0 AS "IS_GAP" '
        f"FROM {_text(table)}"
    )


def _dead(table: TableName) -> str:
    is_gap = f"""NVL("KIND", 'record') = '{GAP}'"""
    return (
        f'SELECT "SHARD_ID", "SEQUENCE_NUMBER", NVL("SUB_SEQUENCE_NUMBER", 0), 0, IFF({is_gap}, 0, 1), '
        f"IFF({is_gap}, 1, 0) FROM {_text(table)}"
    )


def _after(name: str) -> str:
    """Whether a code is after a position, or there is none: ``FURTHEST`` or ``OWED`` of the shard."""
    through = f'{name[0].lower()}."THROUGH"'
    return f"{through} IS NULL OR {_bytes('c.' + quote('CODE'))} > {_bytes(through)}"


def _bytes(text: str) -> str:
    return f"TO_BINARY({text}, 'UTF-8')"


def _text(table: TableName) -> str:
    return table.sql.replace("%", "%%")
