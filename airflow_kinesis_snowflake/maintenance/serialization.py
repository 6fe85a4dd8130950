"""Plans and reports as JSON, for XCom and other programs, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


def as_json(value: Any) -> dict[str, Any]:
    """A dataclass as a dictionary of what JSON knows: lists, dictionaries, texts, numbers and the like."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain


def from_json(kind: type[T], plain: Mapping[str, Any], *, what: str) -> T:
    """Read what :func:`as_json` made.

    :param what: what it should be, for the message
    :raises InvalidSettingError: it isn't that
    """
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise InvalidSettingError(f"this isn't the {what}: {error}") from error
