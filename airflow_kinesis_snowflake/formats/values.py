"""Values of other systems in JSON, as Snowflake takes them without loss.

A number stays one up to 38 digits with a scale of up to 37, because that is NUMBER in Snowflake; a longer one
would be rounded to a DOUBLE there, so it becomes text. Times are ISO 8601 with all digits of their type.
"""

from __future__ import annotations

import math
import re
import sys
from datetime import UTC, date, datetime, timedelta

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError

_MAX_DIGITS, _MAX_SCALE = 38, 37
_DAYS_TO_1970 = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_OF_A_DAY = 86_400
# More than any database has: a byte must not stand for any number of zeros.
_LARGEST_SCALE, _MAX_BITS = 256, 3400
_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]+))?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")
_DIGITS_OF_A_DOUBLE = 15
# Below it, doubles have fewer digits, and at last none.
_SMALLEST_DOUBLE = sys.float_info.min


def decimal(unscaled: int, scale: int) -> msgspec.Raw | str:
    """``unscaled / 10**scale`` with all digits of its scale; as text where NUMBER can't hold it.

    :param scale: digits behind the point; a negative one stands for zeros in front of it
    :raises UndecodableError: the scale is out of range, or there are too many digits
    """
    if -_LARGEST_SCALE <= scale < 0 and unscaled.bit_length() <= _MAX_BITS:
        unscaled, scale = unscaled * 10**-scale, 0
    if not 0 <= scale <= _LARGEST_SCALE or unscaled.bit_length() > _MAX_BITS:
        raise UndecodableError(f"a decimal of more than 1,000 digits, or of a scale beyond {_LARGEST_SCALE}")
    digits = str(abs(unscaled)).zfill(scale + 1)
    whole, fraction = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    number = f"{'-' if unscaled < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"
    fits = len(digits) <= _MAX_DIGITS and scale <= _MAX_SCALE
    return msgspec.Raw(number.encode()) if fits else number


def number(text: str) -> msgspec.Raw | str:
    """A number that is written as text; it stays text if neither NUMBER nor a double holds it exactly.

    :raises UndecodableError: not a number
    """
    if plain := _PLAIN.fullmatch(text):
        fraction = plain[2] or ""
        if len(plain[1]) + len(fraction) <= _MAX_DIGITS and len(fraction) <= _MAX_SCALE:
            return msgspec.Raw(text.encode())
        return text
    if not _NUMBER.fullmatch(text):
        raise UndecodableError("not a number where the format requires one")
    digits = re.sub(r"[eE].*|[-.]", "", text).strip("0")
    in_range = not digits or _SMALLEST_DOUBLE <= abs(float(text)) < math.inf
    return msgspec.Raw(text.encode()) if in_range and len(digits) <= _DIGITS_OF_A_DOUBLE else text


# As Snowflake's FLOAT takes them from text.
NOT_FINITE = ("NaN", "inf", "-inf")


def floating(value: float) -> float | str:
    """A double; NaN and the infinities as text that a cast to FLOAT accepts."""
    if math.isfinite(value):
        return value
    not_a_number, infinity, negative = NOT_FINITE
    return not_a_number if math.isnan(value) else infinity if value > 0 else negative


def day(days: int) -> str:
    """A date, by its days since 1970.

    :raises UndecodableError: outside the years 1 to 9999
    """
    try:
        return date.fromordinal(_DAYS_TO_1970 + days).isoformat()
    except (ValueError, OverflowError):
        raise UndecodableError("a date outside the years 1 to 9999") from None


def time_of_day(count: int, digits: int) -> str:
    """A time of day, by its units since midnight.

    :param digits: decimals of a second in a unit: 3 for milliseconds, 6, or 9
    :raises UndecodableError: not within a day
    """
    if not 0 <= count < _SECONDS_OF_A_DAY * 10**digits:
        raise UndecodableError("a time of day outside 00:00 to 24:00")
    return time_span(count, digits)


def time_span(count: int, digits: int) -> str:
    """A span of time in hours, minutes and seconds, which may be negative or longer than a day.

    :param digits: decimals of a second in a unit: 3 for milliseconds, 6, or 9
    """
    seconds, fraction = divmod(abs(count), 10**digits)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:0{digits}d}"
    return f"-{clock}" if count < 0 else clock


def timestamp(count: int, digits: int, zone: str = "Z") -> str:
    """A moment, by its units since 1970.

    :param digits: decimals of a second in a unit: 0 for seconds, 3 for milliseconds, 6, or 9
    :param zone: what to append; empty for local times
    :raises UndecodableError: outside the years 1 to 9999
    """
    seconds, fraction = divmod(count, 10**digits)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise UndecodableError("a timestamp outside the years 1 to 9999") from None
    decimals = f".{fraction:0{digits}d}" if digits else ""
    return f"{moment.replace(tzinfo=None).isoformat()}{decimals}{zone}"
