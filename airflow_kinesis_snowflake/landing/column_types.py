"""Types of Snowflake columns, as far as JSON values can fill them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

MOST_DIGITS = 38
"""Precision of the widest NUMBER. Snowflake's documentation of numeric types: the precision has no impact on
storage, so nothing is saved by a narrower one."""
_MOST_CHARACTERS = 16_777_216
_FRACTION_DIGITS = 9


class Kind(StrEnum):
    """What a column holds; ``OTHER`` is what JSON values can't fill, such as BINARY and GEOGRAPHY."""

    NUMBER = "NUMBER"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    VARCHAR = "VARCHAR"
    VARIANT = "VARIANT"
    OBJECT = "OBJECT"
    ARRAY = "ARRAY"
    DATE = "DATE"
    TIMESTAMP_NTZ = "TIMESTAMP_NTZ"
    TIMESTAMP_LTZ = "TIMESTAMP_LTZ"
    TIMESTAMP_TZ = "TIMESTAMP_TZ"
    OTHER = "OTHER"


TIMESTAMPS = frozenset({Kind.TIMESTAMP_NTZ, Kind.TIMESTAMP_LTZ, Kind.TIMESTAMP_TZ})
TIMES = TIMESTAMPS | {Kind.DATE}
SEMI_STRUCTURED = frozenset({Kind.VARIANT, Kind.OBJECT, Kind.ARRAY})

_SHOWN = {kind.value: kind for kind in Kind} | {
    "FIXED": Kind.NUMBER,
    "REAL": Kind.FLOAT,
    "TEXT": Kind.VARCHAR,
}
_SYNONYMS = {
    "NUMBER": Kind.NUMBER,
    "DECIMAL": Kind.NUMBER,
    "NUMERIC": Kind.NUMBER,
    "DEC": Kind.NUMBER,
    "INT": Kind.NUMBER,
    "INTEGER": Kind.NUMBER,
    "BIGINT": Kind.NUMBER,
    "SMALLINT": Kind.NUMBER,
    "TINYINT": Kind.NUMBER,
    "FLOAT": Kind.FLOAT,
    "DOUBLE": Kind.FLOAT,
    "REAL": Kind.FLOAT,
    "BOOLEAN": Kind.BOOLEAN,
    "VARCHAR": Kind.VARCHAR,
    "STRING": Kind.VARCHAR,
    "TEXT": Kind.VARCHAR,
    "DATE": Kind.DATE,
    "DATETIME": Kind.TIMESTAMP_NTZ,
} | {kind.value: kind for kind in TIMESTAMPS | SEMI_STRUCTURED}
_WRITTEN = re.compile(r"\s*([A-Za-z_]+)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*")


@dataclass(frozen=True)
class ColumnType:
    """One type.

    :param precision: of a NUMBER: how many digits in all
    :param scale: of a NUMBER: how many of them behind the point; of a time: digits of a second's fraction
    :param length: of a VARCHAR: how many characters
    :param name: of a type of another kind
    """

    kind: Kind
    precision: int = 0
    scale: int = 0
    length: int = 0
    name: str = ""

    @classmethod
    def number(cls, precision: int = MOST_DIGITS, scale: int = 0) -> ColumnType:
        """NUMBER with so many digits, so many of them behind the point."""
        return cls(Kind.NUMBER, precision=precision, scale=scale)

    @classmethod
    def of(cls, kind: Kind) -> ColumnType:
        """The widest type of a kind."""
        if kind is Kind.NUMBER:
            return cls.number()
        return cls(
            kind,
            scale=_FRACTION_DIGITS if kind in TIMESTAMPS else 0,
            length=_MOST_CHARACTERS if kind is Kind.VARCHAR else 0,
        )

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """Read a type as users write it, such as ``NUMBER(12,2)``, ``VARCHAR`` or ``TIMESTAMP_TZ``.

        :raises InvalidSettingError: not a type that JSON values can fill
        """
        match = _WRITTEN.fullmatch(text)
        kind = _SYNONYMS.get(match[1].upper()) if match else None
        if match is None or kind is None:
            raise InvalidSettingError(
                f"{text!r} isn't a type for a column: use NUMBER(precision, scale), FLOAT, BOOLEAN, "
                "VARCHAR(length), DATE, TIMESTAMP_NTZ, TIMESTAMP_LTZ, TIMESTAMP_TZ, VARIANT, OBJECT or ARRAY"
            )
        return cls.of(kind)._sized(text, match[2], match[3])

    def _sized(self, text: str, first: str | None, second: str | None) -> ColumnType:
        """The type with the numbers in its parentheses, within what Snowflake allows."""
        if first is None:
            return self
        size, scale = int(first), int(second or 0)
        if self.kind is Kind.NUMBER and 1 <= size <= MOST_DIGITS and scale <= min(size, MOST_DIGITS - 1):
            return ColumnType.number(size, scale)
        if second is None and self.kind is Kind.VARCHAR and size >= 1:
            return ColumnType(self.kind, length=size)
        if second is None and self.kind in TIMESTAMPS and size <= _FRACTION_DIGITS:
            return ColumnType(self.kind, scale=size)
        raise InvalidSettingError(f"{text!r} isn't a type of Snowflake: check the numbers in parentheses")

    @classmethod
    def shown(cls, data_type: str) -> ColumnType:
        """Read a type as ``SHOW COLUMNS`` writes it: JSON."""
        facts: dict[str, Any] = json.loads(data_type)
        name = str(facts["type"])
        kind = _SHOWN.get(name, Kind.OTHER)
        return cls(
            kind,
            precision=int(facts.get("precision") or 0) if kind is Kind.NUMBER else 0,
            scale=int(facts.get("scale") or 0) if kind is Kind.NUMBER or kind in TIMESTAMPS else 0,
            length=int(facts.get("length") or _MOST_CHARACTERS) if kind is Kind.VARCHAR else 0,
            name=name if kind is Kind.OTHER else "",
        )

    @property
    def sql(self) -> str:
        """The type as SQL."""
        if self.kind is Kind.NUMBER:
            return f"NUMBER({self.precision}, {self.scale})"
        if self.kind is Kind.VARCHAR and self.length != _MOST_CHARACTERS:
            return f"VARCHAR({self.length})"
        if self.kind in TIMESTAMPS and self.scale != _FRACTION_DIGITS:
            return f"{self.kind}({self.scale})"
        return self.name or str(self.kind)

    def covers(self, other: ColumnType) -> bool:
        """Whether values that were checked against another type all fit this one, written the same way."""
        if self.kind is Kind.NUMBER and other.kind is Kind.NUMBER:
            digits, others = self.precision - self.scale, other.precision - other.scale
            return self.scale >= other.scale and digits >= others
        return (
            self.kind is other.kind
            and self.name == other.name
            and self.scale >= other.scale
            and self.length >= other.length
        )


@dataclass(frozen=True)
class Column:
    """A column of a table that exists.

    :param nullable: NULL may land in it
    :param default: it gets a value by itself in rows that don't name it
    """

    type: ColumnType
    nullable: bool = True
    default: bool = False
