"""Protobuf payloads as JSON documents, without losing anything. No code is generated.

================================= ======================================================================
Protobuf                          JSON
================================= ======================================================================
a message                         an object, its keys the names of the fields as the schema has them. A
                                  field that wasn't set is left out where the schema lets that be told,
                                  else it has its default, which is what it stands for
integers of all sizes, bool,      as they are
string
float, double                     a number; ``"NaN"``, ``"inf"`` or ``"-inf"``, which a cast to FLOAT takes
bytes                             text in base64
enum                              the name of the value; its number if the schema has none for it
repeated, map                     an array, an object
Timestamp                         ISO 8601 in UTC with 9 decimals
Duration                          a number of seconds with 9 decimals
wrappers such as Int64Value       their value
Struct, Value, ListValue          the JSON that they stand for
FieldMask                         text, the paths with commas between them
Any                               the object with ``@type``; one of an unknown type has its bytes in
                                  ``value``, and what isn't an object is there too
confluent.type.Decimal            a number with all digits of its scale; text where it has more than 38
================================= ======================================================================
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.engine import check_size, made
from airflow_kinesis_snowflake.formats.schema_registry import (
    PROTOBUF,
    SchemaRegistry,
    made_once,
    of_kind,
    without_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.formats.engine import Decoder
    from airflow_kinesis_snowflake.formats.protobuf_messages import Reader
    from airflow_kinesis_snowflake.formats.schema_registry import RegisteredSchema

FRAMINGS = ("none", "delimited", "header")
UNKNOWN_FIELDS = ("dead_letter", "ignore")

_MAX_VARINT_BYTES = 10
_MAX_INDEXES = 100


@dataclass(frozen=True)
class Protobuf:
    """Protobuf messages: of one type that is given here, or of those that a registry has.

    :param descriptors: what ``protoc --include_imports --descriptor_set_out`` writes: the path of such a
        file, which is read when the task runs, or its content, as bytes or in base64
    :param message: full name of the type, such as ``shop.v1.Order``, for ``descriptors``
    :param framing: for ``descriptors``, what is around a message. ``none`` (default): nothing, a payload is
        one; ``delimited``: its length in front, and a payload is one or more; ``header``: the header of
        Confluent's or AWS Glue's registry, which is taken off
    :param registry: has the schemas of payloads with such a header, which then says which message it is
    :param unknown_fields: what becomes of a message with fields that the schema doesn't have: a
        ``dead_letter`` (default), or they are dropped (``ignore``)
    :raises InvalidSettingError: the settings don't go together
    """

    descriptors: str | bytes | None = None
    message: str | None = None
    framing: str = "none"
    registry: SchemaRegistry | None = None
    unknown_fields: str = "dead_letter"
    has_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.framing not in FRAMINGS:
            raise InvalidSettingError(f"framing must be one of {', '.join(FRAMINGS)}, not {self.framing!r}")
        if self.unknown_fields not in UNKNOWN_FIELDS:
            raise InvalidSettingError(
                f"unknown_fields must be one of {', '.join(UNKNOWN_FIELDS)}, not {self.unknown_fields!r}"
            )
        if (self.descriptors is None) != (self.message is None):
            raise InvalidSettingError("Protobuf needs descriptors and message together")
        if self.descriptors is not None and self.registry is not None:
            raise InvalidSettingError("Protobuf needs either descriptors or a registry, not both")

    def decoder(self) -> Decoder:
        """The decoder.

        :raises InvalidSettingError: neither descriptors nor a registry is given, or the descriptors can't be
            read
        """
        strict = self.unknown_fields == "dead_letter"
        if self.registry is not None:
            return _registered(self.registry, strict=strict)
        if self.descriptors is None or self.message is None:
            raise InvalidSettingError(
                "payload_format='protobuf' needs registry_conn_id, or Protobuf(descriptors=..., message=...)"
            )
        from airflow_kinesis_snowflake.formats.protobuf_messages import reader_of_set

        reader = reader_of_set(_content(self.descriptors), self.message, strict=strict)
        return partial(
            {"none": _one, "delimited": _delimited, "header": _behind_header}[self.framing], reader
        )


def _content(descriptors: str | bytes) -> bytes:
    """The bytes of a descriptor set.

    :raises InvalidSettingError: text that is neither base64 nor the path of a file
    """
    if isinstance(descriptors, bytes):
        return descriptors
    try:
        # No path of a file that protoc writes is base64 of a descriptor set, which begins with a field 1.
        content = base64.b64decode(descriptors, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if content.startswith(b"\n"):
        return content
    try:
        return Path(descriptors).read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidSettingError(
            f"Protobuf descriptors must be a file of protoc, or its content in base64: {type(error).__name__}"
        ) from None


def _one(reader: Reader, payload: bytes, _key: str = "", /) -> list[bytes]:
    check_size(payload)
    return [reader(payload)]


def _delimited(reader: Reader, payload: bytes, _key: str = "", /) -> list[bytes]:
    check_size(payload)
    if not payload:
        raise UndecodableError("empty")
    return made(map(reader, _messages(payload)))


def _messages(payload: bytes) -> Iterator[bytes]:
    begin = 0
    while begin < len(payload):
        length, begin = _varint(payload, begin)
        if begin + length > len(payload):
            raise UndecodableError("a message that is longer than what is left of the payload")
        yield payload[begin : begin + length]
        begin += length


def _behind_header(reader: Reader, payload: bytes, _key: str = "", /) -> list[bytes]:
    schema_id, rest = without_header(payload)
    _, message = _index(schema_id, rest)
    return _one(reader, message)


def _registered(registry: SchemaRegistry, *, strict: bool) -> Decoder:
    from airflow_kinesis_snowflake.formats.protobuf_messages import Types

    def types_of(schema: RegisteredSchema) -> Types:
        return Types.registered(of_kind(PROTOBUF, schema), strict=strict)

    look_up: Callable[[int | str], Types] = made_once(registry.schema, types_of)

    def decode(payload: bytes, _key: str = "", /) -> list[bytes]:
        schema_id, rest = without_header(payload)
        types = look_up(schema_id)
        index, message = _index(schema_id, rest)
        return _one(types.at(index), message)

    return decode


def _index(schema_id: int | str, rest: bytes) -> tuple[int | tuple[int, ...], bytes]:
    """Which message of a schema it is, as the serializers of a registry say it, and the message.

    AWS Glue's write the place among all messages in the order of their names; Confluent's the place in the
    file and then in each message, behind their count, all in zigzag; 0 stands for the first of a file.
    """
    number, end = _varint(rest, 0)
    if isinstance(schema_id, str):
        return number, rest[end:]
    count = _zigzag(number)
    if not 0 <= count <= _MAX_INDEXES:
        raise UndecodableError("no message indexes behind the header of the registry")
    indexes = []
    for _ in range(count):
        number, end = _varint(rest, end)
        indexes.append(_zigzag(number))
    return tuple(indexes) or (0,), rest[end:]


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _varint(payload: bytes, begin: int) -> tuple[int, int]:
    """A number of as many bytes as it needs, and where it ends.

    :raises UndecodableError: there is none
    """
    number = 0
    for place, byte in enumerate(payload[begin : begin + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, begin + place + 1
    raise UndecodableError("a number is cut off where the format has one")
