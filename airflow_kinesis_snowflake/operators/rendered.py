"""Parameters of operators that a template may have turned into text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.positions import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_SEPARATORS = re.compile(r"[\s,]+")


def truth(name: str, value: bool | str) -> bool:
    """A choice between yes and no.

    :raises InvalidSettingError: neither
    """
    found = {"true": True, "false": False}.get(str(value).strip().lower())
    if found is None:
        raise InvalidSettingError(f"{name} must be true or false, not {value!r}")
    return found


def words(value: Sequence[str] | str) -> list[str]:
    """A list; as text its items are divided by commas or blanks."""
    return [word for word in _SEPARATORS.split(value) if word] if isinstance(value, str) else list(value)


def optional_moment(name: str, value: str | datetime | None) -> datetime | None:
    """A moment that may be left out.

    :raises InvalidSettingError: not ISO-8601, or without a time zone
    """
    try:
        return parse_timestamp(value) if value else None
    except ValueError as error:
        raise InvalidSettingError(f"{name}: {error}") from error
