"""Attributes of DynamoDB items that anybody may have written, with any content."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# DynamoDB's numbers have up to 38 digits; a larger one would need an exponent.
_MAX_DIGITS = 38


def number_of(item: Mapping[str, Any], name: str) -> int | None:
    """A number, truncated to an integer; None: the attribute is missing or holds something else."""
    digits = item.get(name, {}).get("N")
    if digits is None:
        return None
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return None
    return int(number) if number.is_finite() and number.adjusted() < _MAX_DIGITS else None


def text_of(item: Mapping[str, Any], name: str) -> str | None:
    """A text, or a number as text; None: the attribute is missing or holds something else."""
    value = item.get(name, {})
    found = value.get("S", value.get("N"))
    return None if found is None else str(found)
