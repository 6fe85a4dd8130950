"""The type of a new column, inferred from the values seen for its key."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import isfinite

from airflow_kinesis_snowflake.formats.cells import TypeMismatch, digits_of, kind_of, moment, number, text_of
from airflow_kinesis_snowflake.formats.column_types import MAX_DIGITS, ColumnType, DataType

NUMBERS = ("wide", "exact", "double")
"""What numbers of new columns become: NUMBER with room for decimals, or with those that were seen; FLOAT."""
_ROOM_FOR_DECIMALS = 18
_MAX_DECIMALS = 9
_DIGITS_OF_A_DOUBLE = 17
# As many as the longest integer of 64 bits has, so that none of these changes what was inferred.
_WHOLE_DIGITS = 19


@dataclass(frozen=True)
class ObservedTypes:
    """What the values of a key have had in common so far.

    :param kinds: JSON types, with times told apart from other text if asked for; null isn't one
    :param whole: most digits before the point, at least 19
    :param decimals: most digits after it
    :param beyond_doubles: a double, which is what FLOAT is, would change a digit of one of them
    """

    kinds: frozenset[str] = frozenset()
    whole: int = _WHOLE_DIGITS
    decimals: int = 0
    beyond_doubles: bool = False

    def __or__(self, other: ObservedTypes) -> ObservedTypes:
        return ObservedTypes(
            self.kinds | other.kinds,
            max(self.whole, other.whole),
            max(self.decimals, other.decimals),
            self.beyond_doubles or other.beyond_doubles,
        )

    def type(self, numbers: str) -> ColumnType | None:
        """The type of a column that takes all of them; ``None`` if there was nothing but null.

        Values of one JSON type make a column of it, a mixture makes VARIANT. Numbers make NUMBER with the
        decimals that were written, up to 9; with more they are measurements and make FLOAT, unless that would
        change a digit.

        :param numbers: one of :data:`NUMBERS`: leave room for up to 18 decimals in a NUMBER, as far as the
            digits before the point allow; or no more than were seen; or make FLOAT of all numbers
        """
        if not self.kinds:
            return None
        if self.kinds == {"number"}:
            return self._numeric(numbers)
        if self.kinds == {"boolean"}:
            return ColumnType.of(DataType.BOOLEAN)
        if self.kinds == {"local time"}:
            return ColumnType.of(DataType.TIMESTAMP_NTZ)
        if self.kinds == {"moment"}:
            return ColumnType.of(DataType.TIMESTAMP_TZ)
        if self.kinds <= {"text", "local time", "moment"}:
            return ColumnType.of(DataType.VARCHAR)
        return ColumnType.of(DataType.VARIANT)

    def checked(self, numbers: str) -> ColumnType | None:
        """The type that further values are checked against while the column doesn't exist: a NUMBER is no
        wider than what was seen, so that it can still take more decimals."""
        found = self.type(numbers)
        if found is not None and found.kind is DataType.NUMBER:
            return ColumnType.number(self.whole + self.decimals, self.decimals)
        return found

    def _numeric(self, numbers: str) -> ColumnType:
        if numbers == "double":
            return ColumnType.of(DataType.FLOAT)
        exact = self.whole + self.decimals <= MAX_DIGITS
        if exact and (self.decimals <= _MAX_DECIMALS or self.beyond_doubles):
            room = min(_ROOM_FOR_DECIMALS, MAX_DIGITS - self.whole) if numbers == "wide" else 0
            return ColumnType.number(MAX_DIGITS, max(self.decimals, room))
        return ColumnType.of(DataType.VARIANT if self.beyond_doubles else DataType.FLOAT)


def observe(text: str, *, times: int | None, numbers: str) -> ObservedTypes:
    """What one value says about the type of its column.

    :param text: one JSON value
    :param times: tell ISO-8601 moments with at most so many decimals of a second from other text;
        ``None``: tell none
    :param numbers: what numbers become, one of :data:`NUMBERS`
    :raises TypeMismatch: a number that no column can hold: it fits neither 38 digits nor a double
    """
    kind = kind_of(text)
    if kind == "null":
        return ObservedTypes()
    if kind == "number":
        return _see_number(text, numbers)
    if kind == "text" and times is not None:
        return ObservedTypes(frozenset({_time_kind(text_of(text), decimals=times)}))
    return ObservedTypes(frozenset({kind}))


def _see_number(text: str, numbers: str) -> ObservedTypes:
    value = number(text)
    if value is not None:
        digits = digits_of(value, written=True)
        exact = digits.whole + digits.decimals <= MAX_DIGITS
        rounded = numbers == "double" or digits.significant <= _DIGITS_OF_A_DOUBLE
        if (exact and numbers != "double") or (rounded and isfinite(float(value))):
            whole = max(_WHOLE_DIGITS, digits.whole)
            beyond = exact and not _is_double(value)
            return ObservedTypes(frozenset({"number"}), whole, digits.decimals, beyond)
    raise TypeMismatch("the number is too large or has more digits than Snowflake keeps (38)")


def _is_double(value: Decimal) -> bool:
    """Whether a double is written like that: with as few digits as tell it from others, or with 17."""
    double = float(value)
    return value in (Decimal(repr(double)), Decimal(f"{double:.{_DIGITS_OF_A_DOUBLE}g}"))


def _time_kind(text: str, *, decimals: int) -> str:
    value = moment(text)
    if value is None or not value.time or len(value.fraction) > decimals:
        return "text"
    return "moment" if value.zone else "local time"
