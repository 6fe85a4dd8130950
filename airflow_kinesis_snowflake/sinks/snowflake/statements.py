"""Every SQL statement the package sends to Snowflake.

Values are bound in the connector's default style (``%s``); names are quoted. The path of a file and the
folder on a stage can't be bound, so they are escaped here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.dead_letters import GAP
from airflow_kinesis_snowflake.formats.dead_letters import SCHEMA as DEAD_LETTER_SCHEMA
from airflow_kinesis_snowflake.formats.envelope import METADATA_STRUCTURE
from airflow_kinesis_snowflake.identifiers import TableName, quote
from airflow_kinesis_snowflake.sinks.snowflake.files import DEAD_LETTERS, LANDING, NOT_IN_PATH
from airflow_kinesis_snowflake.sinks.snowflake.table_options import PLAIN, TableOptions
from airflow_kinesis_snowflake.stream.positions import BEFORE_THE_FIRST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter

Value = str | int

# Two dashes would start a comment.
_ESCAPED_IN_FOLDER = re.compile(r"[^A-Za-z0-9_.-]|^\.|(?<=-)-")
_FOLDER = re.compile(r"(?!.*--)[A-Za-z0-9_.=-]+(?:/[A-Za-z0-9_.=-]+)*")

_OFFSETS_COLUMNS = (
    ("APPLICATION", "VARCHAR NOT NULL"),
    ("STREAM", "VARCHAR NOT NULL"),
    ("SHARD_ID", "VARCHAR NOT NULL"),
    ("INCARNATION", "VARCHAR NOT NULL"),
    ("POSITION", "VARCHAR NOT NULL"),
    ("BATCH_ID", "VARCHAR"),
    ("RECORDS", "NUMBER(38, 0) NOT NULL"),
    ("UPDATED_AT", "TIMESTAMP_LTZ NOT NULL"),
)
_OFFSETS_KEY = ("APPLICATION", "STREAM", "SHARD_ID", "INCARNATION")
# The arrival stays a number of milliseconds, as in KINESISMETADATA: the two compare without conversion, and
# neither depends on a session's time zone.
_DEAD_LETTER_COLUMNS = (
    ("ID", "VARCHAR NOT NULL"),
    ("KIND", "VARCHAR NOT NULL"),
    ("APPLICATION", "VARCHAR NOT NULL"),
    ("STREAM", "VARCHAR NOT NULL"),
    ("SHARD_ID", "VARCHAR NOT NULL"),
    ("SEQUENCE_NUMBER", "VARCHAR NOT NULL"),
    ("SUB_SEQUENCE_NUMBER", "NUMBER(38, 0)"),
    ("PARTITION_KEY", "VARCHAR NOT NULL"),
    ("APPROXIMATE_ARRIVAL", "NUMBER(38, 0) NOT NULL"),
    ("REASON", "VARCHAR NOT NULL"),
    ("COLUMN_NAME", "VARCHAR"),
    ("PAYLOAD", "VARCHAR NOT NULL"),
    ("PAYLOAD_ENCODING", "VARCHAR NOT NULL"),
    ("FAILED_AT", "TIMESTAMP_LTZ NOT NULL DEFAULT CURRENT_TIMESTAMP"),
)


_THESE_LETTERS = 'WHERE "APPLICATION" = %s AND "STREAM" = %s AND "ID" IN'

CLOSED = "~"
"""Prefix of a position whose incarnation a reset closed. Sorts after every digit."""

LOCK = ("*lock*", "")
"""Shard id and incarnation of the row that :func:`lock_offsets` locks: no shard's."""

# Iceberg tables have no OBJECT without a structure.
_STRUCTURED = {"OBJECT": METADATA_STRUCTURE}


@dataclass(frozen=True)
class Statement:
    """SQL text and the values bound to its ``%s``; without values, a ``%`` in the text stands for itself."""

    sql: str
    params: tuple[Value, ...] = ()


class CopyMapping(Protocol):
    """What a COPY needs to know.

    ``columns`` are names and Snowflake types, ``copy_select`` the expression for each of them over ``$1``,
    one row of a landing file.
    """

    @property
    def columns(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def copy_select(self) -> tuple[str, ...]: ...


class TableMapping(Protocol):
    """What is needed to create or check a landing table.

    ``columns`` are names and Snowflake types of a new table, ``required`` those that an existing table must
    have; ``can_create`` tells whether enough is known to create one.
    """

    @property
    def columns(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def required(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def can_create(self) -> bool: ...


# --- objects -----------------------------------------------------------------------------------------------


def list_columns(table: TableName) -> Statement:
    """Columns of a table: the third column of each row is the name, the fourth JSON with the ``type``."""
    return Statement(f"SHOW COLUMNS IN TABLE {table.sql}")


def create_landing_table(
    table: TableName, columns: Iterable[tuple[str, str]], options: TableOptions = PLAIN
) -> Statement:
    """A landing table with the columns of a mapping."""
    typed = [(name, _STRUCTURED.get(sql_type, sql_type)) for name, sql_type in columns]
    definitions = ", ".join(
        f"{quote(name)} {sql_type}" for name, sql_type in (typed if options.iceberg else columns)
    )
    kind = "ICEBERG TABLE" if options.iceberg else "TRANSIENT TABLE" if options.transient else "TABLE"
    clauses = " ".join(_clauses(options))
    return Statement(f"CREATE {kind} IF NOT EXISTS {table.sql} ({definitions}) {clauses}")


def _clauses(options: TableOptions) -> Iterator[str]:
    if options.cluster_by:
        yield f"CLUSTER BY ({', '.join(options.cluster_by)})"
    if options.iceberg:
        if options.external_volume:
            yield f"EXTERNAL_VOLUME = {_literal(options.external_volume)}"
        yield "CATALOG = 'SNOWFLAKE'"
        if options.base_location:
            yield f"BASE_LOCATION = {_literal(options.base_location)}"
        yield "ICEBERG_VERSION = 3"
    if options.enable_schema_evolution:
        yield "ENABLE_SCHEMA_EVOLUTION = TRUE"
    if options.error_logging:
        yield "ERROR_LOGGING = TRUE"
    if options.data_retention_days is not None:
        yield f"DATA_RETENTION_TIME_IN_DAYS = {options.data_retention_days}"
    yield f"COMMENT = {_literal(options.comment or 'Records of Amazon Kinesis Data Streams')}"


def create_offsets_table(table: TableName) -> Statement:
    """The offsets table: through which position each application has loaded each shard.

    One row per application, stream, shard and incarnation, and one to lock (:func:`lock_offsets`). Snowflake
    doesn't enforce that key: every load checks its rows. ``POSITION`` is an encoded position (see
    ``stream/positions.py``), ``RECORDS`` the number of records loaded under this key so far, dead letters
    included.
    """
    key = f"PRIMARY KEY ({_names(_OFFSETS_KEY)})"
    return _create_table(table, _OFFSETS_COLUMNS, "Positions loaded from Amazon Kinesis Data Streams", key)


def create_dead_letter_table(table: TableName) -> Statement:
    """The dead-letter table.

    ``ID`` is a UUID, ``KIND`` ``record`` or ``gap``, ``APPROXIMATE_ARRIVAL`` in milliseconds since the epoch.
    """
    comment = "Records of Amazon Kinesis Data Streams that could not be loaded"
    return _create_table(table, _DEAD_LETTER_COLUMNS, comment)


def list_stages(stage: TableName) -> Statement:
    """Stages of the schema with a name like this one; ``name`` is the second column."""
    return Statement(f"SHOW STAGES LIKE %s IN SCHEMA {_escape_percent(stage.schema_sql)}", (stage.name,))


def create_stage(stage: TableName) -> Statement:
    """The internal stage that takes the files."""
    comment = "Files on their way from Amazon Kinesis Data Streams"
    return Statement(f"CREATE STAGE IF NOT EXISTS {stage.sql} COMMENT = '{comment}'")


def add_column(table: TableName, column: str, sql_type: str, *, options: TableOptions = PLAIN) -> Statement:
    """Another column at the end of a table; does nothing if somebody else has added it."""
    return Statement(f"{_alter(table, options)} ADD COLUMN IF NOT EXISTS {quote(column)} {sql_type}")


def widen_column(table: TableName, column: str, sql_type: str, *, options: TableOptions = PLAIN) -> Statement:
    """Let a NUMBER take more digits.

    Snowflake's documentation of ``ALTER TABLE ... ALTER COLUMN``: the precision of a NUMBER may grow, its
    scale can't change, and no column can be altered to a type of another kind.
    """
    return Statement(f"{_alter(table, options)} ALTER COLUMN {quote(column)} SET DATA TYPE {sql_type}")


def drop_not_null(table: TableName, column: str, *, options: TableOptions = PLAIN) -> Statement:
    """Let a column take NULL."""
    return Statement(f"{_alter(table, options)} ALTER COLUMN {quote(column)} DROP NOT NULL")


def add_dead_letter_column(table: TableName, column: str) -> Statement:
    """A column that dead-letter tables of earlier versions lack: ``ID`` or ``KIND``.

    Existing rows then have no kind, which means ``record`` (Snowflake allows no DEFAULT beside
    IF NOT EXISTS), and get an id by :func:`name_dead_letters`.
    """
    return Statement(f"ALTER TABLE {table.sql} ADD COLUMN IF NOT EXISTS {quote(column)} VARCHAR")


# --- files -------------------------------------------------------------------------------------------------


def stage_folder(*parts: str) -> str:
    """Build the path of a folder on a stage from any names.

    Letters, digits and ``_ . -`` stay, except for a leading dot and a dash after another. Each byte of any
    other character becomes ``=`` and two hexadecimal digits, so different names give different folders.

    :raises InvalidSettingError: a part is empty
    """
    if not all(parts):
        raise InvalidSettingError("a folder of a stage needs a name")
    return "/".join(_ESCAPED_IN_FOLDER.sub(_hexadecimal, part) for part in parts)


def put(file: Path, *, stage: TableName, folder: str) -> Statement:
    """Upload one file to a folder of the stage.

    :param file: absolute; the connector would expand ``* ? [ ]``, so a path that contains them is refused
    :param folder: as :func:`stage_folder` makes it
    :raises InvalidSettingError: the path can't be written in a PUT
    """
    path = file.as_posix()
    if not file.is_absolute() or NOT_IN_PATH.search(path):
        raise InvalidSettingError(
            f"can't upload {path!r}: use an absolute path without control characters and without * ? [ ]"
        )
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    return Statement(
        f"PUT 'file://{escaped}' {_location(stage, folder)} AUTO_COMPRESS = FALSE OVERWRITE = TRUE"
    )


def copy_landing(
    table: TableName,
    *,
    mapping: CopyMapping,
    stage: TableName,
    folder: str,
    options: TableOptions = PLAIN,
) -> Statement:
    """Load the landing files of a folder; result rows have the columns ``file`` and ``rows_loaded``.

    The files are removed from the stage. A folder is loaded once: no other attempt may have used it.
    """
    columns = [name for name, _ in mapping.columns]
    select = mapping.copy_select
    if options.iceberg:
        select = tuple(
            f"{expression}::{_STRUCTURED[sql_type]}" if sql_type in _STRUCTURED else expression
            for expression, (_, sql_type) in zip(select, mapping.columns, strict=True)
        )
    return _copy(table, columns, select, _location(stage, folder, LANDING))


def copy_dead_letters(table: TableName, *, stage: TableName, folder: str) -> Statement:
    """Load the dead-letter file of a folder; the result is as in :func:`copy_landing`."""
    types = dict(_DEAD_LETTER_COLUMNS)
    columns = DEAD_LETTER_SCHEMA.names
    select = [f"$1:{name}::{types[name].removesuffix(' NOT NULL')}" for name in columns]
    return _copy(table, columns, select, _location(stage, folder, DEAD_LETTERS))


def list_files(stage: TableName, *, folder: str) -> Statement:
    """The files of a folder and its subfolders: a row for each."""
    return Statement(f"LIST {_location(stage, folder)}")


def remove_files(stage: TableName, *, folder: str) -> Statement:
    """Remove all files of a folder and its subfolders from the stage."""
    return Statement(f"REMOVE {_location(stage, folder)}")


# --- offsets -----------------------------------------------------------------------------------------------


def ensure_offsets(
    table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]]
) -> Statement:
    """Add the rows that are missing, at the position before the first record.

    A MERGE, because INSERT ... WHERE NOT EXISTS isn't safe against a concurrent one. It isn't documented
    whether the second of two MERGEs always sees the rows of the first, so the rows are read afterwards, and a
    key that exists twice is refused by :meth:`SnowflakeSession.read_offsets`.

    :param keys: shard id and incarnation; not empty
    """
    new = [(application, stream, shard_id, incarnation) for shard_id, incarnation in keys]
    matches = " AND ".join(f"o.{quote(name)} = n.{quote(name)}" for name in _OFFSETS_KEY)
    inserted = ", ".join(f"n.{quote(name)}" for name in _OFFSETS_KEY)
    return Statement(
        f"MERGE INTO {_escape_percent(table.sql)} o USING ({_values(_OFFSETS_KEY, len(new))}) n ON {matches} "
        f'WHEN NOT MATCHED THEN INSERT ({_names(_OFFSETS_KEY)}, "POSITION", "RECORDS", "UPDATED_AT") '
        f"VALUES ({inserted}, %s, 0, CURRENT_TIMESTAMP)",
        (*_flat(new), BEFORE_THE_FIRST),
    )


def read_offsets(
    table: TableName, *, application: str, stream: str, keys: Sequence[tuple[str, str]]
) -> Statement:
    """The rows with these keys: shard id, incarnation, position, batch id.

    :param keys: shard id and incarnation; not empty
    """
    names = ("OF_SHARD", "OF_INCARNATION")
    return Statement(
        f'SELECT "SHARD_ID", "INCARNATION", "POSITION", "BATCH_ID" FROM {_escape_percent(table.sql)} '
        f'JOIN ({_values(names, len(keys))}) k ON "SHARD_ID" = k."OF_SHARD" '
        'AND "INCARNATION" = k."OF_INCARNATION" WHERE "APPLICATION" = %s AND "STREAM" = %s',
        (*_flat(keys), application, stream),
    )


def lock_offsets(table: TableName, *, application: str, stream: str) -> Statement:
    """Lock the offsets of an application on a stream until the transaction ends.

    Every transaction that bases a decision on offsets or dead letters does this first. So it reads them by a
    statement that begins after the last other such transaction has ended, and "a statement sees only data
    that was committed before the statement began" (Snowflake's documentation of READ COMMITTED). So it
    doesn't matter whether an UPDATE that waited for a lock reads its rows again, which isn't documented. The
    row that it writes holds nothing.
    """
    shard_id, incarnation = LOCK
    return Statement(
        f'UPDATE {_escape_percent(table.sql)} SET "UPDATED_AT" = CURRENT_TIMESTAMP '
        'WHERE "APPLICATION" = %s AND "STREAM" = %s AND "SHARD_ID" = %s AND "INCARNATION" = %s',
        (application, stream, shard_id, incarnation),
    )


def move_offsets(
    table: TableName,
    *,
    application: str,
    stream: str,
    batch_id: str,
    transaction: str,
    moves: Sequence[tuple[str, str, str, str, int]],
) -> Statement:
    """Move each shard's row, if its position is as expected, within one transaction.

    The compare-and-set that makes a load happen once. In any transaction other than the one named, and
    outside transactions, it does nothing: Snowflake may have ended the transaction silently, and what follows
    would commit on its own.

    :param transaction: as CURRENT_TRANSACTION() gave it after BEGIN
    :param moves: shard id, incarnation, encoded position that is expected, encoded position to move to,
        number of records; not empty
    """
    names = ("OF_SHARD", "OF_INCARNATION", "EXPECTED", "THROUGH", "LOADED")
    # As bytes, because a default collation of the account would change how text compares. The target has no
    # alias, because the documented syntax of UPDATE allows none.
    as_expected = """TO_BINARY("POSITION", 'UTF-8') = TO_BINARY(n."EXPECTED", 'UTF-8')"""
    return Statement(
        f'UPDATE {_escape_percent(table.sql)} SET "POSITION" = n."THROUGH", "BATCH_ID" = %s, '
        '"RECORDS" = "RECORDS" + n."LOADED", "UPDATED_AT" = CURRENT_TIMESTAMP '
        f"FROM ({_values(names, len(moves))}) n "
        'WHERE "APPLICATION" = %s AND "STREAM" = %s AND "SHARD_ID" = n."OF_SHARD" '
        f'AND "INCARNATION" = n."OF_INCARNATION" AND {as_expected} AND CURRENT_TRANSACTION() = %s',
        (batch_id, *_flat(moves), application, stream, transaction),
    )


# --- dead letters ------------------------------------------------------------------------------------------


def name_dead_letters(table: TableName) -> Statement:
    """Give an id to the dead letters of earlier versions, which have none."""
    return Statement(f'UPDATE {table.sql} SET "ID" = UUID_STRING() WHERE "ID" IS NULL')


def read_dead_letters(table: TableName, chosen: LetterFilter, *, most: int) -> Statement:
    """The selected dead letters, in the order of their shards.

    Rows are id, shard id, sequence number, sub-sequence number, partition key, arrival, payload and encoding.
    """
    conditions = {
        '"APPLICATION" = %s': chosen.application,
        '"STREAM" = %s': chosen.stream,
        """NVL("KIND", 'record') <> %s""": GAP,
        'CONTAINS("REASON", %s)': chosen.reason,
        '"COLUMN_NAME" = %s': chosen.column,
        '"FAILED_AT" >= %s::TIMESTAMP_LTZ': chosen.since and chosen.since.isoformat(),
        '"FAILED_AT" <= %s::TIMESTAMP_LTZ': chosen.until and chosen.until.isoformat(),
    }
    given = {condition: value for condition, value in conditions.items() if value}
    return Statement(
        'SELECT "ID", "SHARD_ID", "SEQUENCE_NUMBER", "SUB_SEQUENCE_NUMBER", "PARTITION_KEY", '
        f'"APPROXIMATE_ARRIVAL", "PAYLOAD", "PAYLOAD_ENCODING" FROM {_escape_percent(table.sql)} '
        f"WHERE {' AND '.join(given)} "
        'ORDER BY "SHARD_ID", LENGTH("SEQUENCE_NUMBER"), "SEQUENCE_NUMBER", "SUB_SEQUENCE_NUMBER" LIMIT %s',
        (*given.values(), most),
    )


def unnamed_dead_letters(table: TableName) -> Statement:
    """How many dead letters have no id."""
    return Statement(f'SELECT COUNT(*) FROM {table.sql} WHERE "ID" IS NULL')


def list_dead_letters(table: TableName, *, application: str, stream: str, ids: Sequence[str]) -> Statement:
    """Ids of the dead letters that still exist, each as often as it occurs.

    :param ids: not empty, at most 16,384, which Snowflake takes in a list
    """
    return Statement(
        f'SELECT "ID" FROM {_escape_percent(table.sql)} {_THESE_LETTERS} ({_marks(ids)})',
        (application, stream, *ids),
    )


def delete_dead_letters(
    table: TableName, *, application: str, stream: str, transaction: str, ids: Sequence[str]
) -> Statement:
    """Delete dead letters within one transaction; outside it, this does nothing.

    :param transaction: as CURRENT_TRANSACTION() gave it after BEGIN
    :param ids: not empty, at most 16,384, which Snowflake takes in a list
    """
    return Statement(
        f"DELETE FROM {_escape_percent(table.sql)} {_THESE_LETTERS} ({_marks(ids)}) "
        "AND CURRENT_TRANSACTION() = %s",
        (application, stream, *ids, transaction),
    )


# --- parts -------------------------------------------------------------------------------------------------


def _alter(table: TableName, options: TableOptions) -> str:
    # Snowflake's documentation: columns of an Iceberg table are altered by a separate statement.
    return f"ALTER {'ICEBERG TABLE' if options.iceberg else 'TABLE'} {table.sql}"


def _create_table(
    table: TableName, columns: Iterable[tuple[str, str]], comment: str, constraint: str | None = None
) -> Statement:
    parts = [f"{quote(name)} {sql_type}" for name, sql_type in columns]
    parts += [constraint] if constraint else []
    return Statement(f"CREATE TABLE IF NOT EXISTS {table.sql} ({', '.join(parts)}) COMMENT = '{comment}'")


def _copy(table: TableName, columns: Sequence[str], select: Iterable[str], location: str) -> Statement:
    # Without FORCE: if the statement arrives twice, the second finds its files already loaded. NULL_IF: a
    # partition key may be the text that stands for NULL by default. The vectorized scanner takes a third of
    # the time, and requires this ON_ERROR (Snowflake's documentation of USE_VECTORIZED_SCANNER).
    return Statement(
        f"COPY INTO {table.sql} ({_names(columns)}) FROM (SELECT {', '.join(select)} FROM {location}) "
        "FILE_FORMAT = (TYPE = PARQUET NULL_IF = () USE_VECTORIZED_SCANNER = TRUE) "
        "ON_ERROR = ABORT_STATEMENT PURGE = TRUE"
    )


def _location(stage: TableName, folder: str, prefix: str = "") -> str:
    if not _FOLDER.fullmatch(folder):
        raise InvalidSettingError(f"{folder!r} isn't a folder as stage_folder() makes it")
    # Snowflake wants a location in single quotes as soon as it has special characters, "=" and "-" included.
    escaped = f"@{stage.sql}/{folder}/{prefix}".replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _hexadecimal(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match.group().encode())


def _escape_percent(sql: str) -> str:
    return sql.replace("%", "%%")


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))


def _values(names: Sequence[str], rows: int) -> str:
    columns = ", ".join(f"column{number} AS {quote(name)}" for number, name in enumerate(names, start=1))
    row = f"({_marks(names)})"
    return f"SELECT {columns} FROM VALUES {', '.join([row] * rows)}"


def _marks(values: Sequence[Value]) -> str:
    return ", ".join(["%s"] * len(values))


def _literal(value: str) -> str:
    """A text literal; it can't be bound, because it is part of a definition."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _flat(rows: Iterable[Sequence[Value]]) -> tuple[Value, ...]:
    return tuple(value for row in rows for value in row)
