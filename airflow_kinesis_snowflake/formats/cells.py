"""One JSON value on its way into one column: what lands, or why it can't."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_kinesis_snowflake.formats.column_types import SEMI_STRUCTURED, TIMES, ColumnType, DataType
from airflow_kinesis_snowflake.formats.values import NOT_FINITE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = str | int | float | bool | None
"""A value as it is written to a file: JSON text for NUMBER with decimals and for semi-structured columns."""

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_ZONE = r"([Zz]|[+-]\d\d(?::?\d\d)?)?"
_FRACTION = r"(?:[.,](\d+))?"
_MOMENT = re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d){_FRACTION})?\s?{_ZONE})?", re.ASCII)
_BASIC_MOMENT = re.compile(
    r"(\d{4})(\d\d)(\d\d)(?:[Tt](\d\d)(\d\d)(\d\d(?:[.,]\d+)?)?([Zz]|[+-]\d\d(?:\d\d)?)?)?", re.ASCII
)
_CLOCK = re.compile(rf"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d){_FRACTION})?", re.ASCII)
_WHITESPACE = " \t\r\n"
# Snowflake keeps nanoseconds.
_MAX_DECIMALS = 9
_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1)
EPOCH_UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Units of epochs, and which decimal of a second each is."""
_MAX_NUMBER_LENGTH = 1000
_EXACT = Context(prec=3 * _MAX_NUMBER_LENGTH)
_decode_text = msgspec.json.Decoder(str).decode


class TypeMismatch(ValueError):  # noqa: N818 -- not an error of the package: a verdict on one value
    """Why a value doesn't fit its column, in human-readable form; never quotes the value."""


class Digits(NamedTuple):
    """The size of a number.

    :param whole: digits before the point
    :param decimals: digits after it
    :param significant: digits from the first to the last that isn't zero
    """

    whole: int
    decimals: int
    significant: int


class Moment(NamedTuple):
    """A date, with its time of day and zone if it has them.

    :param time: ``HH:MM:SS``, or empty
    :param fraction: of the second: up to 9 digits, without trailing zeros
    :param zone: ``+HH:MM``, or empty
    """

    date: str
    time: str
    fraction: str
    zone: str

    @property
    def text(self) -> str:
        """The moment as Snowflake reads it, whatever its input formats."""
        fraction = f".{self.fraction}" if self.fraction else ""
        return f"{self.date}T{self.time or '00:00:00'}{fraction}{self.zone}"


def kind_of(text: str) -> str:
    """The JSON type of a value: ``text``, ``number``, ``boolean``, ``object``, ``array`` or ``null``."""
    return _KINDS.get(text[0], "number")


_KINDS = {'"': "text", "{": "object", "[": "array", "t": "boolean", "f": "boolean", "n": "null"}


def text_of(text: str) -> str:
    """The characters that a JSON string stands for."""
    return _decode_text(text.encode())


def number(text: str) -> Decimal | None:
    """A JSON number, exactly; ``None`` if the text isn't one, or is one that no column can hold."""
    if len(text) > _MAX_NUMBER_LENGTH or not _NUMBER.fullmatch(text):
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) <= _MAX_NUMBER_LENGTH else None


def digits_of(value: Decimal, *, written: bool = False) -> Digits:
    """The size of a number.

    :param written: count trailing zeros too: somebody who writes ``1.50`` needs two decimals
    """
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    trimmed = "".join(map(str, digits)).rstrip("0")
    if not trimmed:
        return Digits(0, max(0, -exponent) if written else 0, 0)
    end = exponent if written else exponent + len(digits) - len(trimmed)
    return Digits(max(0, len(digits) + exponent), max(0, -end), len(trimmed))


def moment(text: str) -> Moment | None:
    """A date or moment in ISO-8601 or RFC 3339; ``None`` if the text isn't one.

    The form may be extended or basic, ``T`` and ``Z`` in either case, and blanks may surround it. Decimals of
    a second beyond the ninth are cut off. A leap second (``23:59:60`` in UTC) becomes the second after it, as
    in POSIX time.
    """
    stripped = text.strip(_WHITESPACE)
    match = _MOMENT.fullmatch(stripped) or _MOMENT.fullmatch(_extended(stripped))
    if match is None:
        return None
    date, minute, second, fraction, zone = (part or "" for part in match.groups())
    zone = _zone(zone)
    leap = second == "60"
    clock = f"{minute}:{'59' if leap else second or '00'}" if minute else ""
    try:
        at = datetime.fromisoformat(f"{date}T{clock or '00:00:00'}{zone}")
        if leap:
            date, clock = _after_leap_second(at).isoformat()[: len("YYYY-MM-DDTHH:MM:SS")].split("T")
    except (ValueError, OverflowError):
        return None
    return Moment(date, clock, fraction[:_MAX_DECIMALS].rstrip("0"), zone)


def _extended(basic: str) -> str:
    """A moment in basic form, in extended form; other text as it is."""
    match = _BASIC_MOMENT.fullmatch(basic)
    if match is None:
        return basic
    year, month, day, hour, minute, second, zone = (part or "" for part in match.groups())
    clock = f"T{hour}:{minute}:{second or '00'}{zone}" if hour else ""
    return f"{year}-{month}-{day}{clock}"


def _after_leap_second(before: datetime) -> datetime:
    """The second that follows ``23:59:60``.

    :param before: ``23:59:59``
    :raises ValueError: a minute of 61 seconds can only end at midnight UTC
    """
    after = before + _SECOND
    utc = after if after.tzinfo is None else after.astimezone(UTC)
    if (utc.hour, utc.minute) != (0, 0):
        raise ValueError(before)
    return after


def epoch_moment(value: Decimal, unit: str) -> Moment | None:
    """The moment this many units after the start of 1970, in UTC; ``None`` outside the years 1 to 9999.

    :param unit: one of :data:`EPOCH_UNITS`
    """
    shift = _MAX_DECIMALS - EPOCH_UNITS[unit]
    nanos = int(value.scaleb(shift, _EXACT).to_integral_value(ROUND_FLOOR, _EXACT))
    seconds, nanos = divmod(nanos, 10**_MAX_DECIMALS)
    try:
        date, clock = (_EPOCH + timedelta(seconds=seconds)).isoformat().split("T")
    except OverflowError:
        return None
    return Moment(date, clock, f"{nanos:09}".rstrip("0"), "+00:00")


def _zone(zone: str) -> str:
    if zone in ("Z", "z"):
        return "+00:00"
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return f"{zone[0]}{digits[:2]}:{digits[2:]}" if zone else ""


def fit(column: ColumnType, text: str, *, epoch: str | None = None) -> Value:
    """Turn the JSON text of a value into what lands in a column of a table.

    VARCHAR takes everything: text as it is, other values as their JSON text. NUMBER and FLOAT take numbers,
    and text that is a number as JSON writes it (so not ``007``); FLOAT also ``"NaN"``, ``"inf"`` and
    ``"-inf"``, as formats with such values write them. Times take ISO-8601 text, BINARY base64.

    :param text: one JSON value, checked to be one; ``null`` becomes NULL
    :param epoch: for a column of times: numbers count these units since the start of 1970
    :raises TypeMismatch: it can't land there
    """
    kind = kind_of(text)
    if kind == "null":
        return None
    if column.kind in SEMI_STRUCTURED:
        return _fit_semi_structured(column, text, kind)
    if epoch is not None and column.kind in TIMES and (value := _number_of(text, kind)) is not None:
        return _fit_epoch(column, value, epoch)
    return _FITTING.get(column.kind, _fit_other)(column, text, kind)


def _fit_semi_structured(column: ColumnType, text: str, kind: str) -> str:
    if column.kind is not DataType.VARIANT and kind != column.kind.lower():
        raise TypeMismatch(f"{kind} doesn't fit {column.sql}")
    if kind == "number" and not _is_double(text):
        raise TypeMismatch(f"the number is too large for {column.sql}")
    return text


def _fit_number(column: ColumnType, text: str, kind: str) -> int | str:
    value = _numeric(column, text, kind)
    whole, decimals, _ = digits_of(value)
    if decimals > column.scale:
        raise TypeMismatch(f"the number has {decimals} decimals, {column.sql} takes {column.scale}")
    if whole > column.precision - column.scale:
        raise TypeMismatch(
            f"the number has {whole} digits before the point, {column.sql} takes "
            f"{column.precision - column.scale}"
        )
    return int(value) if column.scale == 0 else f"{value:f}"


def _fit_float(column: ColumnType, text: str, kind: str) -> float:
    if kind == "text" and text_of(text) in NOT_FINITE:
        return float(text_of(text))
    value = float(_numeric(column, text, kind))
    if not isfinite(value):
        raise TypeMismatch(f"the number is too large for {column.sql}")
    return value


def _numeric(column: ColumnType, text: str, kind: str) -> Decimal:
    if kind not in {"number", "text"}:
        raise TypeMismatch(f"{kind} doesn't fit {column.sql}")
    value = _number_of(text, kind)
    if value is None:
        raise TypeMismatch(
            f"text that isn't a number doesn't fit {column.sql}"
            if kind == "text"
            else f"the number is too large for {column.sql}"
        )
    return value


def _number_of(text: str, kind: str) -> Decimal | None:
    return number(text_of(text) if kind == "text" else text)


def _fit_boolean(column: ColumnType, text: str, kind: str) -> bool:
    if kind != "boolean":
        raise TypeMismatch(f"{kind} doesn't fit {column.sql}")
    return text == "true"


def _fit_varchar(column: ColumnType, text: str, kind: str) -> str:
    value = text_of(text) if kind == "text" else text
    if len(value) > column.length:
        raise TypeMismatch(f"the text has {len(value)} characters, {column.sql} takes {column.length}")
    return value


def _fit_binary(column: ColumnType, text: str, kind: str) -> str:
    if kind != "text":
        raise TypeMismatch(f"{kind} doesn't fit {column.sql}")
    return base64_text(column, text_of(text))


def base64_text(column: ColumnType, text: str) -> str:
    """Base64 as it lands in a BINARY column.

    :raises TypeMismatch: it isn't base64, or has too many bytes
    """
    try:
        size = len(base64.b64decode(text, validate=True))
    except ValueError:
        raise TypeMismatch(f"text that isn't base64 doesn't fit {column.sql}") from None
    if size > column.length:
        raise TypeMismatch(f"the value has {size} bytes, {column.sql} takes {column.length}")
    return text


def _fit_time(column: ColumnType, text: str, kind: str) -> str:
    if kind != "text":
        raise TypeMismatch(f"{kind} doesn't fit {column.sql}")
    return time_text(column, text_of(text))


def _fit_epoch(column: ColumnType, value: Decimal, unit: str) -> str:
    found = epoch_moment(value, unit)
    if found is None or column.kind is DataType.TIME:
        raise TypeMismatch(f"the number isn't an epoch in {unit} that {column.sql} takes")
    # An epoch is in UTC, so a column without a time zone keeps the time in UTC.
    zoned = column.kind in {DataType.TIMESTAMP_TZ, DataType.TIMESTAMP_LTZ}
    return _moment_text(column, found if zoned else found._replace(zone=""))


def time_text(column: ColumnType, text: str) -> str:
    """Text as it lands in a column of times.

    :raises TypeMismatch: it isn't a time; or the column would lose a part of it, or needs one that it lacks
    """
    if column.kind is DataType.TIME:
        return _clock_text(column, text)
    found = moment(text)
    if found is None:
        raise TypeMismatch(f"text that isn't an ISO-8601 date or time doesn't fit {column.sql}")
    return _moment_text(column, found)


def _clock_text(column: ColumnType, text: str) -> str:
    match = _CLOCK.fullmatch(text.strip(_WHITESPACE))
    if match is None:
        raise TypeMismatch(f"text that isn't a time of day doesn't fit {column.sql}")
    hour, minute, second, fraction = (part or "" for part in match.groups())
    fraction = _decimals(column, fraction[:_MAX_DECIMALS].rstrip("0"))
    return f"{hour}:{minute}:{second or '00'}{fraction and '.'}{fraction}"


def _moment_text(column: ColumnType, value: Moment) -> str:
    if column.kind is DataType.DATE:
        if value.time not in ("", "00:00:00") or value.fraction or value.zone:
            raise TypeMismatch("a moment with a time of day doesn't fit DATE")
        return value.date
    if column.kind is DataType.TIMESTAMP_NTZ and value.zone:
        raise TypeMismatch(f"a moment with a time zone doesn't fit {column.sql}")
    if column.kind is not DataType.TIMESTAMP_NTZ and not value.zone:
        raise TypeMismatch(f"a moment without a time zone doesn't fit {column.sql}")
    _decimals(column, value.fraction)
    return value.text


def _decimals(column: ColumnType, fraction: str) -> str:
    if len(fraction) > column.scale:
        raise TypeMismatch(f"the second has {len(fraction)} decimals, {column.sql} takes {column.scale}")
    return fraction


def _fit_other(column: ColumnType, text: str, kind: str) -> Value:
    raise TypeMismatch(
        f"exclude the key, or rename it to another column: {column.sql} can't be filled from JSON"
    )


_FITTING: Mapping[DataType, Callable[[ColumnType, str, str], Value]] = {
    DataType.NUMBER: _fit_number,
    DataType.FLOAT: _fit_float,
    DataType.BOOLEAN: _fit_boolean,
    DataType.VARCHAR: _fit_varchar,
    DataType.BINARY: _fit_binary,
    **dict.fromkeys(TIMES, _fit_time),
}


def _is_double(text: str) -> bool:
    return isfinite(float(text))
