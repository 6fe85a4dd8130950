"""Changes of a DynamoDB table, as it streams them to Kinesis.

DynamoDB's typed values become plain ones: numbers keep all their digits, sets become arrays, binary stays
base64 ("Using Kinesis Data Streams to capture changes to DynamoDB" in the DynamoDB developer guide,
"AttributeValue" in its API reference). DynamoDB may send a change twice, and changes out of order: merge by
``__key``, in the order of ``__order``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.changes import DELETE, INSERT, UPDATE, Change, sortable
from airflow_kinesis_snowflake.formats.engine import of_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

_OPERATIONS = {"INSERT": INSERT, "MODIFY": UPDATE, "REMOVE": DELETE}
_MICROS_OF_A_UNIT = {"MILLISECOND": 1000, "MICROSECOND": 1}
# DynamoDB nests attributes up to 32 levels.
_MAX_DEPTH = 100


@dataclass(frozen=True)
class DynamoDB:
    """Records of a Kinesis data stream that captures the changes of a DynamoDB table."""

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder."""
        return of_json(_document)


class _Images(msgspec.Struct):
    keys: dict[str, Any] = msgspec.field(name="Keys")
    created: int = msgspec.field(name="ApproximateCreationDateTime")
    precision: str = msgspec.field(default="MILLISECOND", name="ApproximateCreationDateTimePrecision")
    new: dict[str, Any] | None = msgspec.field(default=None, name="NewImage")
    old: dict[str, Any] | None = msgspec.field(default=None, name="OldImage")


class _StreamRecord(msgspec.Struct):
    event: str = msgspec.field(name="eventName")
    images: _Images = msgspec.field(name="dynamodb")
    table: str | None = msgspec.field(default=None, name="tableName")


_decode = msgspec.json.Decoder(_StreamRecord).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _document(payload: bytes, _key: str = "", /) -> Documents:
    return [change(payload).document()]


def change(payload: bytes) -> Change:
    """The change that a record describes.

    :raises msgspec.DecodeError: it isn't a DynamoDB record
    """
    record = _decode(payload)
    images = record.images
    if record.event not in _OPERATIONS or images.precision not in _MICROS_OF_A_UNIT:
        raise UndecodableError("a DynamoDB change of an unknown kind or precision")
    source = _decode_members(payload)
    del source["dynamodb"]
    unit = _MICROS_OF_A_UNIT[images.precision]
    key = plain_item(images.keys)
    old = None if images.old is None else plain_item(images.old)
    new = None if images.new is None else plain_item(images.new)
    if record.event != "REMOVE" and new is None:
        new = key  # A table may send keys only.
    return Change(
        operation=_OPERATIONS[record.event],
        key=key,
        before=old,
        after=None if record.event == "REMOVE" else new,
        order=sortable(images.created * unit),
        time=values.timestamp(images.created, 3 if unit == 1000 else 6),
        table=record.table,
        source=source,
    )


def plain_item(item: dict[str, Any], *, depth: int = 0) -> dict[str, Any]:
    """An item without DynamoDB's types.

    :raises UndecodableError: an attribute isn't as DynamoDB writes it
    """
    return {name: _plain(attribute, depth) for name, attribute in item.items()}


def _plain(attribute: Any, depth: int) -> Any:
    if not isinstance(attribute, dict) or len(attribute) != 1:
        raise UndecodableError("an attribute that doesn't have exactly one DynamoDB type")
    if depth > _MAX_DEPTH:
        raise UndecodableError("nested too deeply")
    ((kind, value),) = attribute.items()
    expected, read = _KINDS.get(kind, (None, None))
    if expected is None or read is None or not isinstance(value, expected):
        raise UndecodableError("an attribute that doesn't fit its DynamoDB type")
    return read(value, depth + 1)


def _text(value: str, _: int) -> str:
    return value


def _texts(value: list[Any], _: int) -> list[str]:
    if not all(isinstance(item, str) for item in value):
        raise UndecodableError("a DynamoDB set with an item that isn't text")
    return value


_KINDS: dict[str, tuple[type, Callable[[Any, int], Any]]] = {
    "S": (str, _text),
    "B": (str, _text),
    "N": (str, lambda value, _: values.number(value)),
    "BOOL": (bool, lambda value, _: value),
    "NULL": (bool, lambda *_: None),
    "SS": (list, _texts),
    "BS": (list, _texts),
    "NS": (list, lambda value, depth: [values.number(item) for item in _texts(value, depth)]),
    "L": (list, lambda value, depth: [_plain(item, depth) for item in value]),
    "M": (dict, lambda value, depth: plain_item(value, depth=depth)),
}
