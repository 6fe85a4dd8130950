"""One JSON value on its way into one column: what lands, or why it can't."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_kinesis_snowflake.landing.column_types import SEMI_STRUCTURED, TIMES, ColumnType, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = str | int | float | bool | None
"""A value as it goes into a file: JSON text for NUMBER with decimals and for semi-structured columns."""

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_LONGEST_NUMBER = 1000
_decode_text = msgspec.json.Decoder(str).decode


class Misfit(ValueError):  # noqa: N818 -- not an error of the package: a verdict on one value
    """Why a value doesn't fit its column; for a person to read, never quotes the value."""


class Digits(NamedTuple):
    """The size of a number.

    :param whole: digits in front of the point
    :param decimals: digits behind it
    :param significant: digits from the first to the last that isn't zero
    """

    whole: int
    decimals: int
    significant: int


class Moment(NamedTuple):
    """An ISO-8601 date, with its time of day and zone if it has them."""

    date: str
    time: str
    fraction: str
    zone: str

    @property
    def text(self) -> str:
        """The moment as Snowflake reads it, whatever its formats for input."""
        fraction = f".{self.fraction}" if self.fraction else ""
        return f"{self.date}T{self.time}{fraction}{self.zone}"


def kind_of(text: str) -> str:
    """The JSON type of a value: ``text``, ``number``, ``boolean``, ``object``, ``array`` or ``null``."""
    return _KINDS.get(text[0], "number")


_KINDS = {'"': "text", "{": "object", "[": "array", "t": "boolean", "f": "boolean", "n": "null"}


def text_of(text: str) -> str:
    """The characters that a JSON string stands for."""
    return _decode_text(text.encode())


def number(text: str) -> Decimal | None:
    """A JSON number, exactly; ``None`` if the text is none, or one that nothing can hold."""
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) <= _LONGEST_NUMBER else None


def digits_of(value: Decimal, *, written: bool = False) -> Digits:
    """The size of a number.

    :param written: count zeros at its end too: ``1.50`` was written by somebody who needs two decimals
    """
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    trimmed = "".join(map(str, digits)).rstrip("0")
    if not trimmed:
        return Digits(0, max(0, -exponent) if written else 0, 0)
    end = exponent if written else exponent + len(digits) - len(trimmed)
    return Digits(max(0, len(digits) + exponent), max(0, -end), len(trimmed))


def moment(text: str) -> Moment | None:
    """An ISO-8601 date or moment; ``None`` if the text is none."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    date, clock, seconds, fraction, zone = (part or "" for part in match.groups())
    clock = f"{clock or '00:00'}:{seconds or '00'}"
    zone = _zone(zone)
    try:
        datetime.fromisoformat(f"{date}T{clock}{zone}")
    except ValueError:
        return None
    return Moment(date, clock, fraction.rstrip("0"), zone)


def _zone(zone: str) -> str:
    if zone == "Z":
        return "+00:00"
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return f"{zone[0]}{digits[:2]}:{digits[2:]}" if zone else ""


def fit(column: ColumnType, text: str) -> Value:
    """Turn the JSON text of a value into what lands in a column of a table.

    VARCHAR takes everything: text as it is, other values as their JSON text. NUMBER and FLOAT take numbers,
    and text that is a number as JSON writes it (so not ``007``). Times take ISO-8601 text.

    :param text: one JSON value, checked to be one; ``null`` becomes NULL
    :raises Misfit: it can't land there
    """
    kind = kind_of(text)
    if kind == "null":
        return None
    if column.kind in SEMI_STRUCTURED:
        return _fit_semi_structured(column, text, kind)
    return _FITTING.get(column.kind, _fit_other)(column, text, kind)


def _fit_semi_structured(column: ColumnType, text: str, kind: str) -> str:
    if column.kind is not Kind.VARIANT and kind != column.kind.lower():
        raise Misfit(f"{kind} doesn't fit {column.sql}")
    if kind == "number" and not _is_double(text):
        raise Misfit(f"the number is too large for {column.sql}")
    return text


def _fit_number(column: ColumnType, text: str, kind: str) -> int | str:
    value = _numeric(column, text, kind)
    whole, decimals, _ = digits_of(value)
    if decimals > column.scale:
        raise Misfit(f"the number has {decimals} decimals, {column.sql} takes {column.scale}")
    if whole > column.precision - column.scale:
        raise Misfit(
            f"the number has {whole} digits before the point, {column.sql} takes "
            f"{column.precision - column.scale}"
        )
    return int(value) if column.scale == 0 else f"{value:f}"


def _fit_float(column: ColumnType, text: str, kind: str) -> float:
    value = float(_numeric(column, text, kind))
    if not isfinite(value):
        raise Misfit(f"the number is too large for {column.sql}")
    return value


def _numeric(column: ColumnType, text: str, kind: str) -> Decimal:
    if kind not in {"number", "text"}:
        raise Misfit(f"{kind} doesn't fit {column.sql}")
    value = number(text_of(text) if kind == "text" else text)
    if value is None:
        raise Misfit(
            f"text that isn't a number doesn't fit {column.sql}"
            if kind == "text"
            else f"the number is too large for {column.sql}"
        )
    return value


def _fit_boolean(column: ColumnType, text: str, kind: str) -> bool:
    if kind != "boolean":
        raise Misfit(f"{kind} doesn't fit {column.sql}")
    return text == "true"


def _fit_varchar(column: ColumnType, text: str, kind: str) -> str:
    value = text_of(text) if kind == "text" else text
    if len(value) > column.length:
        raise Misfit(f"the text has {len(value)} characters, {column.sql} takes {column.length}")
    return value


def _fit_time(column: ColumnType, text: str, kind: str) -> str:
    value = moment(text_of(text)) if kind == "text" else None
    if value is None:
        what = "text that isn't an ISO-8601 date or time" if kind == "text" else kind
        raise Misfit(f"{what} doesn't fit {column.sql}")
    return time_text(column, value)


def time_text(column: ColumnType, value: Moment) -> str:
    """A moment as text for a column of times.

    :raises Misfit: the column would lose a part of it, or needs one that it hasn't
    """
    if column.kind is Kind.DATE:
        if value.time != "00:00:00" or value.fraction or value.zone:
            raise Misfit("a moment with a time of day doesn't fit DATE")
        return value.date
    if column.kind is Kind.TIMESTAMP_NTZ and value.zone:
        raise Misfit(f"a moment with a time zone doesn't fit {column.sql}")
    if column.kind is not Kind.TIMESTAMP_NTZ and not value.zone:
        raise Misfit(f"a moment without a time zone doesn't fit {column.sql}")
    if len(value.fraction) > column.scale:
        raise Misfit(f"the second has {len(value.fraction)} decimals, {column.sql} takes {column.scale}")
    return value.text


def _fit_other(column: ColumnType, text: str, kind: str) -> Value:
    raise Misfit(f"{column.sql} can't be filled from JSON; exclude the key, or rename it to another column")


_FITTING: Mapping[Kind, Callable[[ColumnType, str, str], Value]] = {
    Kind.NUMBER: _fit_number,
    Kind.FLOAT: _fit_float,
    Kind.BOOLEAN: _fit_boolean,
    Kind.VARCHAR: _fit_varchar,
    **dict.fromkeys(TIMES, _fit_time),
}


def _is_double(text: str) -> bool:
    return isfinite(float(text))
