"""Fields of a landing file: how the values of a column are written, and read by COPY."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow_kinesis_snowflake.formats.column_types import SEMI_STRUCTURED, ColumnType, DataType


class Encoding(StrEnum):
    """How values are written in a file; ``TIME`` is ISO-8601 text, ``JSON`` the text of a JSON value."""

    INTEGER = "integer"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    TEXT = "text"
    TIME = "time"
    JSON = "json"


_SOURCES = {
    Encoding.INTEGER: "NUMBER(38, 0)",
    Encoding.BOOLEAN: "BOOLEAN",
    Encoding.TEXT: "VARCHAR",
}


@dataclass(frozen=True)
class FileColumn:
    """Values of one column in one encoding.

    Values of a column may be in several fields, because its type wasn't known when the first were written.
    The names of fields don't depend on those of columns, which may be anything.

    :param number: of the column, the same in all files of a drain
    :param type: what its values were checked against
    """

    column: str
    number: int
    encoding: Encoding
    type: ColumnType

    @property
    def name(self) -> str:
        """Name in the file."""
        return f"c{self.number}_{self.encoding}"

    def fits(self, column: ColumnType) -> bool:
        """Whether every value that may be in the field can land in a column of this type."""
        if column.kind is DataType.VARIANT:
            # VARIANT would keep what these two have lost: the digits and the spelling that were sent.
            return self.encoding not in {Encoding.TIME, Encoding.DOUBLE}
        return column.covers(self.type)

    def select(self, column: ColumnType) -> str:
        """What COPY selects to fill a column of this type."""
        source = f"$1:{self.name}"
        if column.kind is DataType.BINARY:
            return f"TO_BINARY({source}::VARCHAR, 'BASE64')"
        if column.kind in SEMI_STRUCTURED and self.encoding is Encoding.JSON:
            parsed = f"PARSE_JSON({source}::VARCHAR, 'd')"
            return parsed if column.kind is DataType.VARIANT else f"{parsed}::{column.sql}"
        if column.kind is DataType.VARIANT:
            return f"TO_VARIANT({source}::{_SOURCES[self.encoding]})"
        if self.encoding in {Encoding.JSON, Encoding.TIME}:
            return f"{source}::VARCHAR::{column.sql}"
        return f"{source}::{column.sql}"
