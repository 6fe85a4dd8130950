"""Snowflake names: how users write them, and how SQL quotes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

_MAX_LENGTH = 255
_PART = re.compile(r'(?:"((?:[^"]|"")+)"|([A-Za-z_][A-Za-z0-9_$]*))(?:\.|\Z)')
_PARTS = 3
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_]")


def quote(name: str) -> str:
    """Quote an identifier so that Snowflake takes it literally: in double quotes, with quotes doubled.

    :param name: the name as Snowflake stores it; 1 to 255 characters
    :raises InvalidSettingError: the name is empty, too long, or contains a NUL character
    """
    if not 0 < len(name) <= _MAX_LENGTH or "\0" in name:
        raise InvalidSettingError(f"a Snowflake name has 1 to {_MAX_LENGTH} characters, not {name!r}")
    return '"' + name.replace('"', '""') + '"'


def table_of_stream(template: str, stream: str) -> str:
    """The name of a table with ``{stream}`` filled in: in upper case, with ``_`` for anything but letters and
    digits.

    :param stream: its name
    """
    return template.replace("{stream}", _NOT_IN_A_NAME.sub("_", stream).upper())


@dataclass(frozen=True)
class TableName:
    """The full name of a table, stage or other object of a schema, its parts as Snowflake stores them."""

    database: str
    schema: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.database, self.schema, self.name):
            quote(part)

    @classmethod
    def parse(cls, text: str) -> TableName:
        """Read ``DB.SCHEMA.TABLE`` by Snowflake's rules for identifiers.

        Unquoted parts fold to upper case; ``"quoted"`` parts keep theirs, with ``""`` for one quote.

        :raises InvalidSettingError: not three parts, or a part that would need quotes
        """
        parts, end = [], 0
        while match := _PART.match(text, end):
            quoted, plain = match.groups()
            parts.append(plain.upper() if quoted is None else quoted.replace('""', '"'))
            end = match.end()
        if len(parts) != _PARTS or end != len(text) or text.endswith("."):
            raise InvalidSettingError(
                "write DATABASE.SCHEMA.TABLE, and double quotes around parts with other characters than "
                f'A-Z, 0-9, "_" and "$": {text!r} isn\'t the full name of a table'
            )
        return cls(*parts)

    @property
    def sql(self) -> str:
        """The name as SQL, each part quoted."""
        return ".".join(map(quote, (self.database, self.schema, self.name)))

    @property
    def schema_sql(self) -> str:
        """The schema the object is in, as SQL."""
        return f"{quote(self.database)}.{quote(self.schema)}"

    def beside(self, name: str) -> TableName:
        """Another object of the same schema.

        :param name: as Snowflake stores it
        """
        return replace(self, name=name)

    def __str__(self) -> str:
        return self.sql
