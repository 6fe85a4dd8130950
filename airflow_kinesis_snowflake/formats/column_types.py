"""Snowflake column types, as far as JSON values can fill them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DIGITS = 38
"""Precision of the widest NUMBER. According to Snowflake's documentation of numeric types, precision has no
impact on storage, so a narrower one saves nothing."""
_FRACTION_DIGITS = 9
_ICEBERG_FRACTION_DIGITS = 6


class DataType(StrEnum):
    """What a column holds; ``OTHER`` is what JSON values can't fill, such as GEOGRAPHY."""

    NUMBER = "NUMBER"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    VARCHAR = "VARCHAR"
    BINARY = "BINARY"
    VARIANT = "VARIANT"
    OBJECT = "OBJECT"
    ARRAY = "ARRAY"
    DATE = "DATE"
    TIME = "TIME"
    TIMESTAMP_NTZ = "TIMESTAMP_NTZ"
    TIMESTAMP_LTZ = "TIMESTAMP_LTZ"
    TIMESTAMP_TZ = "TIMESTAMP_TZ"
    OTHER = "OTHER"


TIMESTAMPS = frozenset({DataType.TIMESTAMP_NTZ, DataType.TIMESTAMP_LTZ, DataType.TIMESTAMP_TZ})
TIMES = TIMESTAMPS | {DataType.DATE, DataType.TIME}
SEMI_STRUCTURED = frozenset({DataType.VARIANT, DataType.OBJECT, DataType.ARRAY})
_WITH_FRACTIONS = TIMESTAMPS | {DataType.TIME}
_LONGEST = {DataType.VARCHAR: 16_777_216, DataType.BINARY: 8_388_608}
_WITH_LENGTH = _LONGEST.keys()

_SHOWN = {kind.value: kind for kind in DataType} | {
    "FIXED": DataType.NUMBER,
    "REAL": DataType.FLOAT,
    "TEXT": DataType.VARCHAR,
}
_INTEGERS = ("INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT")
_CHARACTERS = ("CHAR", "CHARACTER", "NCHAR")
_SYNONYMS: Mapping[str, DataType] = {
    **{kind.value: kind for kind in DataType if kind is not DataType.OTHER},
    **dict.fromkeys(("DECIMAL", "NUMERIC", "DEC", *_INTEGERS), DataType.NUMBER),
    **dict.fromkeys(("DOUBLE", "DOUBLE PRECISION", "REAL", "FLOAT4", "FLOAT8"), DataType.FLOAT),
    **dict.fromkeys(("STRING", "TEXT", "NVARCHAR", "NVARCHAR2", *_CHARACTERS), DataType.VARCHAR),
    **dict.fromkeys(("CHAR VARYING", "CHARACTER VARYING", "NCHAR VARYING"), DataType.VARCHAR),
    "VARBINARY": DataType.BINARY,
    **dict.fromkeys(("DATETIME", "TIMESTAMP", "TIMESTAMPNTZ"), DataType.TIMESTAMP_NTZ),
    "TIMESTAMP WITHOUT TIME ZONE": DataType.TIMESTAMP_NTZ,
    **dict.fromkeys(("TIMESTAMPLTZ", "TIMESTAMP WITH LOCAL TIME ZONE"), DataType.TIMESTAMP_LTZ),
    **dict.fromkeys(("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"), DataType.TIMESTAMP_TZ),
}
"""Names of types in Snowflake's documentation ("Summary of data types"). A plain TIMESTAMP is TIMESTAMP_NTZ,
the default of the parameter TIMESTAMP_TYPE_MAPPING."""
_WRITTEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_ ]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*")


@dataclass(frozen=True)
class ColumnType:
    """One type.

    :param precision: of a NUMBER: how many digits in all
    :param scale: of a NUMBER: how many of them after the point; of a time: decimals of a second
    :param length: of a VARCHAR: how many characters; of a BINARY: how many bytes
    :param name: of a type that is ``OTHER``
    """

    kind: DataType
    precision: int = 0
    scale: int = 0
    length: int = 0
    name: str = ""

    @classmethod
    def number(cls, precision: int = MAX_DIGITS, scale: int = 0) -> ColumnType:
        """NUMBER with a precision and a scale."""
        return cls(DataType.NUMBER, precision=precision, scale=scale)

    @classmethod
    def of(cls, kind: DataType) -> ColumnType:
        """The widest type of a kind."""
        if kind is DataType.NUMBER:
            return cls.number()
        return cls(
            kind,
            scale=_FRACTION_DIGITS if kind in _WITH_FRACTIONS else 0,
            length=_LONGEST.get(kind, 0),
        )

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """Read a type as users write it, by any name that Snowflake has for it.

        :raises InvalidSettingError: not a type that JSON values can fill
        """
        match = _WRITTEN.fullmatch(text)
        name = " ".join(match[1].upper().split()) if match else ""
        kind = _SYNONYMS.get(name)
        if match is None or kind is None:
            raise InvalidSettingError(
                "use NUMBER(precision, scale), FLOAT, BOOLEAN, VARCHAR(length), BINARY(length), DATE, "
                "TIME(decimals), TIMESTAMP_NTZ(decimals), TIMESTAMP_LTZ(decimals), TIMESTAMP_TZ(decimals), "
                f"VARIANT, OBJECT or ARRAY, or a synonym: {text!r} isn't a type for a column"
            )
        if match[2] is None and name in _CHARACTERS:
            return cls(kind, length=1)
        if match[2] is not None and name in _INTEGERS:
            raise InvalidSettingError(f"write {name} without parentheses: {text!r} isn't a Snowflake type")
        return cls.of(kind)._sized(text, match[2], match[3])

    def _sized(self, text: str, first: str | None, second: str | None) -> ColumnType:
        """The type with the numbers in its parentheses, within what Snowflake allows."""
        if first is None:
            return self
        size, scale = int(first), int(second or 0)
        if self.kind is DataType.NUMBER and 1 <= size <= MAX_DIGITS and scale <= min(size, MAX_DIGITS - 1):
            return ColumnType.number(size, scale)
        if second is None and self.kind in _WITH_LENGTH and 1 <= size <= self.length:
            return ColumnType(self.kind, length=size)
        if second is None and self.kind in _WITH_FRACTIONS and size <= _FRACTION_DIGITS:
            return ColumnType(self.kind, scale=size)
        raise InvalidSettingError(f"check the numbers in parentheses: {text!r} isn't a Snowflake type")

    @classmethod
    def shown(cls, data_type: str) -> ColumnType:
        """Read a type as ``SHOW COLUMNS`` writes it: JSON."""
        facts: dict[str, Any] = json.loads(data_type)
        name = str(facts["type"])
        kind = _SHOWN.get(name, DataType.OTHER)
        return cls(
            kind,
            precision=int(facts.get("precision") or 0) if kind is DataType.NUMBER else 0,
            scale=int(facts.get("scale") or 0) if kind is DataType.NUMBER or kind in _WITH_FRACTIONS else 0,
            length=int(facts.get("length") or _LONGEST[kind]) if kind in _WITH_LENGTH else 0,
            name=name if kind is DataType.OTHER else "",
        )

    @property
    def sql(self) -> str:
        """The type as SQL."""
        if self.kind is DataType.NUMBER:
            return f"NUMBER({self.precision}, {self.scale})"
        if self.kind in _WITH_LENGTH and self.length != _LONGEST[self.kind]:
            return f"{self.kind}({self.length})"
        if self.kind in _WITH_FRACTIONS and self.scale != _FRACTION_DIGITS:
            return f"{self.kind}({self.scale})"
        return self.name or str(self.kind)

    @property
    def in_iceberg(self) -> ColumnType:
        """The type that takes this one's place in an Iceberg table.

        According to Snowflake's documentation of data types for Iceberg tables, there is no TIMESTAMP_TZ,
        text and bytes have no length, and times have 6 decimals unless a table says otherwise.
        """
        kind = DataType.TIMESTAMP_LTZ if self.kind is DataType.TIMESTAMP_TZ else self.kind
        if kind in _WITH_FRACTIONS:
            return ColumnType(kind, scale=min(self.scale, _ICEBERG_FRACTION_DIGITS))
        return ColumnType.of(kind) if kind in _WITH_LENGTH else self

    @property
    def refused_by_iceberg(self) -> bool:
        """Whether a user must write another type for an Iceberg table."""
        limited = self.kind in _WITH_LENGTH and self.length < _LONGEST[self.kind]
        return limited or self.kind in {DataType.TIMESTAMP_TZ, DataType.OBJECT, DataType.ARRAY}

    def covers(self, other: ColumnType) -> bool:
        """Whether values that were checked against another type all fit this one, written the same way."""
        if self.kind is DataType.NUMBER and other.kind is DataType.NUMBER:
            digits, others = self.precision - self.scale, other.precision - other.scale
            return self.scale >= other.scale and digits >= others
        return (
            self.kind is other.kind
            and self.name == other.name
            and self.scale >= other.scale
            and self.length >= other.length
        )


def parse_types(columns: Mapping[str, str]) -> dict[str, ColumnType]:
    """Read the types of columns as users write them.

    :param columns: types by column
    :raises InvalidSettingError: one isn't a type that JSON values can fill; the message names the column
    """
    types = {}
    for name, text in columns.items():
        try:
            types[name] = ColumnType.parse(text)
        except InvalidSettingError as error:
            raise InvalidSettingError(f"column {name}: {error}") from error
    return types


@dataclass(frozen=True)
class Column:
    """A column of a table that exists.

    :param nullable: NULL may land in it
    :param default: rows that don't name it get a default value
    :param computed: its values are computed from other columns, and no row can name it
    """

    type: ColumnType
    nullable: bool = True
    default: bool = False
    computed: bool = False
