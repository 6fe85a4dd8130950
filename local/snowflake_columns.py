"""What SHOW COLUMNS tells of a table, in place of fakesnow's answer.

fakesnow joins views about the columns of all databases, which takes three times as long, and each drain asks
a dozen times. Snowflake tells of identity columns without a default, and says twice that a column isn't null.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

NAMES = (
    "table_name",
    "schema_name",
    "column_name",
    "data_type",
    "null?",
    "default",
    "kind",
    "expression",
    "comment",
    "database_name",
    "autoincrement",
    "schema_evolution_record",
)
LONGEST_TEXT = 16_777_216
TYPES: dict[str, dict[str, Any]] = {
    "BLOB": {"type": "BINARY", "length": 8_388_608, "byteLength": 8_388_608, "fixed": True},
    "DOUBLE": {"type": "REAL"},
    "JSON": {"type": "VARIANT"},
    "TIME": {"type": "TIME", "precision": 0, "scale": 9},
    "TIMESTAMP": {"type": "TIMESTAMP_NTZ", "precision": 0, "scale": 9},
    "TIMESTAMP WITH TIME ZONE": {"type": "TIMESTAMP_TZ", "precision": 0, "scale": 9},
}
_COLUMNS = """
SELECT column_name, data_type, numeric_precision, numeric_scale, is_nullable,
    coalesce(column_default, ''), coalesce(comment, '')
FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index
"""
_TEXT_LENGTHS = """
SELECT ext_column_name, ext_character_maximum_length FROM _fs_global._fs_information_schema._fs_columns_ext
WHERE ext_table_catalog = ? AND ext_table_schema = ? AND ext_table_name = ?
"""


def columns_of(table: tuple[str, str, str], duck: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """A row of :data:`NAMES` for each column; none if the table doesn't exist."""
    lengths = dict(duck.execute(_TEXT_LENGTHS, table).fetchall())
    columns = duck.execute(_COLUMNS, table).fetchall()
    for name, kind, precision, scale, nullable, default, comment in columns:
        about = type_of(kind, precision=precision, scale=scale, length=lengths.get(name))
        identity = default.startswith("nextval(")
        yield (
            *(table[2], table[1], name),
            json.dumps({**about, "nullable": nullable}, separators=(",", ":")),
            "true" if nullable else "NOT_NULL",
            *("" if identity else default, "COLUMN", "", comment, table[0]),
            *("IDENTITY START 1 INCREMENT 1 NOORDER" if identity else "", None),
        )


def type_of(kind: str, *, precision: int | None, scale: int | None, length: int | None) -> dict[str, Any]:
    """A type of DuckDB as Snowflake describes it.

    :param length: of text, if it has a limit
    """
    if kind == "VARCHAR":
        length = length or LONGEST_TEXT
        bytes_ = min(4 * length, LONGEST_TEXT)
        return {"type": "TEXT", "length": length, "byteLength": bytes_, "fixed": False}
    if kind == "BIGINT" or kind.startswith("DECIMAL"):
        return {"type": "FIXED", "precision": 38 if kind == "BIGINT" else precision, "scale": scale}
    return TYPES.get(kind, {"type": kind})
