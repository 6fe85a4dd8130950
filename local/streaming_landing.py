"""Lands rows of Snowpipe Streaming in fakesnow's tables. Runs in fakesnow's own environment.

As a default pipe does it: keys of a row are names of columns, and ON_ERROR is CONTINUE. A row is rejected,
and the others land, if it isn't a JSON object, has a key that is no column, has no value for a column that
needs one, or has a value that its column can't take.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import fakesnow.server
import pyarrow
from snowflake_sessions import LOCKS
from streaming_channels import Landed, RefusedError

if TYPE_CHECKING:
    from streaming_channels import Name

DEFAULT_PIPE = "-STREAMING"
TRIES = 20
# Of pipes that take bytes as hexadecimal digits, and not as base64.
HEXADECIMAL: set[Name] = set()
MOST_BYTES_OF_A_ROW = 16 * 2**20
_COLUMNS = """
SELECT column_name, data_type, NOT is_nullable, column_default
FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index
"""


@dataclass(frozen=True)
class Column:
    """A column of a table, with DuckDB's type."""

    name: str
    type: str
    required: bool
    default: str | None

    def sql(self, *, hexadecimal: bool) -> str:
        """The value of a line of JSON for this column; NULL if there is none, or if it doesn't fit."""
        path = _literal('$."' + self.name.replace('"', '\\"') + '"')
        text = f"json_extract_string(line, {path})"
        if self.type == "JSON":
            return f"NULLIF(json_extract(line, {path}), 'null'::JSON)"
        if self.type == "BLOB":
            return f"TRY({'unhex' if hexadecimal else 'from_base64'}({text}))"
        return text if self.type == "VARCHAR" else f"TRY_CAST({text} AS {self.type})"

    @property
    def given(self) -> str:
        """Whether a line of JSON has a value for it."""
        path = _literal('$."' + self.name.replace('"', '\\"') + '"')
        return f"json_extract_string(line, {path}) IS NOT NULL"


def find_table(pipe: Name) -> tuple[str, str, str]:
    """The table that a default pipe fills.

    :raises RefusedError: there is none
    """
    found = None
    if pipe.pipe.upper().endswith(DEFAULT_PIPE):
        with fakesnow.server.shared_fs.duck_conn.cursor() as duck:
            found = duck.execute(
                "SELECT database_name, schema_name, table_name FROM duckdb_tables() "
                "WHERE upper(database_name) = upper(?) AND upper(schema_name) = upper(?) "
                "AND table_name IN (?, upper(?)) ORDER BY table_name = ? DESC",
                [pipe.database, pipe.schema, *[pipe.pipe[: -len(DEFAULT_PIPE)]] * 3],
            ).fetchone()
    if found is None:
        message = f"Pipe {pipe} does not exist or not authorized"
        raise RefusedError(404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED", message)
    return found  # type: ignore[no-any-return]


def land(pipe: Name, lines: bytes) -> Landed:
    """Put rows into the table of a pipe, in one transaction.

    :param lines: NDJSON
    """
    table = find_table(pipe)
    texts = [line for line in lines.decode().split("\n") if line.strip()]
    rows = pyarrow.table({"line": pyarrow.array(texts, pyarrow.string())})
    for tries_left in reversed(range(TRIES)):
        with fakesnow.server.shared_fs.duck_conn.cursor() as duck:
            try:
                landed = _land(duck, table, rows, hexadecimal=pipe in HEXADECIMAL)
                break
            except duckdb.TransactionException:
                if not tries_left:
                    raise
                time.sleep(0.02)
    LOCKS.note([table])
    return landed


def _land(
    duck: duckdb.DuckDBPyConnection, table: tuple[str, str, str], rows: pyarrow.Table, *, hexadecimal: bool
) -> Landed:
    duck.begin()
    columns = [Column(*row) for row in duck.execute(_COLUMNS, list(table)).fetchall()]
    duck.register("_given", rows)
    # What is no JSON would fail the functions for JSON, wherever they stand.
    duck.execute(
        "CREATE TEMP TABLE _rows AS "
        "SELECT CASE WHEN json_valid(line) THEN line ELSE 'null' END AS line FROM _given"
    )
    keys = duck.execute("SELECT DISTINCT unnest(json_keys(line)) FROM _rows").fetchall()
    present = {key for (key,) in keys}
    filled = [column for column in columns if column.name in present]
    sql = {each.name: each.sql(hexadecimal=hexadecimal) for each in filled}
    values = ", ".join(f"{value} AS {_quoted(name)}" for name, value in sql.items())
    duck.execute(
        f"CREATE TEMP TABLE _judged AS SELECT {_judgement(columns, sql)} AS _why"
        f"{', ' if values else ''}{values} FROM _rows"
    )
    names = ", ".join(_quoted(each.name) for each in filled)
    if filled:
        target = ".".join(_quoted(part) for part in table)
        duck.execute(f"INSERT INTO {target} ({names}) SELECT {names} FROM _judged WHERE _why IS NULL")
    rejected, why = duck.execute(
        "SELECT count(*), max(_why) FROM _judged WHERE _why IS NOT NULL"
    ).fetchone() or (0, None)
    duck.execute("DROP TABLE _judged")
    duck.execute("DROP TABLE _rows")
    duck.commit()
    return Landed(rows.num_rows, rejected, why)


def _judgement(columns: list[Column], sql: dict[str, str]) -> str:
    """SQL that says why a line is rejected, or NULL.

    :param sql: the values of columns that lines have keys for, by name
    """
    known = "[" + ", ".join(_literal(column.name) for column in columns) + "]::VARCHAR[]"
    cases = [
        ("json_type(line) <> 'OBJECT'", "A row is not a JSON object"),
        (f"strlen(line) > {MOST_BYTES_OF_A_ROW}", "A row is larger than 16 MB"),
        (
            f"NOT list_has_all({known}, json_keys(line))",
            "A row has a field that is not a column of the table",
        ),
    ]
    for column in columns:
        if column.name in sql:
            refused = f"{column.given} AND ({sql[column.name]}) IS NULL"
            cases.append((refused, f"Column {column.name}: a value does not fit"))
            if column.required:
                cases.append((f"NOT ({column.given})", f"Column {column.name}: NULL is not allowed"))
        elif column.required and column.default is None:
            cases.append(("TRUE", f"Column {column.name}: NULL is not allowed"))
    whens = " ".join(f"WHEN {condition} THEN {_literal(why)}" for condition, why in cases)
    return f"CASE {whens} END"


def decompressed(body: bytes, encoding: str) -> bytes:
    """The rows of a request."""
    if encoding in {"zstd", "gzip"}:
        return pyarrow.CompressedInputStream(io.BytesIO(body), encoding).read()  # type: ignore[no-any-return]
    return body


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
