"""Protobuf payloads as JSON documents, without loss. No code is generated.

================================= ======================================================================
Protobuf                          JSON
================================= ======================================================================
a message                         an object whose keys are the names of the fields in the schema. A field
                                  that isn't set is left out if the schema tracks its presence, otherwise
                                  it has its default, which is what it stands for
integers of all sizes, bool,      as they are
string
float, double                     a number; ``"NaN"``, ``"inf"`` or ``"-inf"``, which a cast to FLOAT accepts
bytes                             text in base64
enum                              the name of the value; its number if the schema has no name for it
repeated, map                     an array, an object
Timestamp                         ISO 8601 in UTC with 9 decimals
Duration                          a number of seconds with 9 decimals
wrappers such as Int64Value       their value
Struct, Value, ListValue          the JSON that they stand for
FieldMask                         text, the paths separated by commas
Any                               the object with ``@type``; ``value`` has the bytes of an unknown type, and
                                  whatever isn't an object
confluent.type.Decimal            a number with all digits of its scale; text if it has more than 38
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
    """Protobuf messages, of one type that is given here, or of those in a registry.

    :param descriptors: what ``protoc --include_imports --descriptor_set_out`` writes: the path of such a
        file, which is read when the task runs, or its content, as bytes or in base64
    :param message: full name of the type, such as ``shop.v1.Order``, for ``descriptors``
    :param framing: for ``descriptors``, what precedes a message. ``none`` (default): nothing, a payload is
        one message; ``delimited``: its length, and a payload is one message or more; ``header``: the header
        of Confluent's or AWS Glue's registry, which is removed
    :param registry: holds the schemas of payloads with such a header, which also says which message it is
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
            raise InvalidSettingError("Give Protobuf descriptors and message together, or neither of them")
        if self.descriptors is not None and self.registry is not None:
            raise InvalidSettingError("Give Protobuf either descriptors or a registry, not both")

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
                "Set registry_conn_id, or payload_format=Protobuf(descriptors=..., message=...): Protobuf "
                "needs a schema"
            )
        from airflow_kinesis_snowflake.formats.protobuf_messages import reader_of_set

        reader = reader_of_set(_content(self.descriptors), self.message, strict=strict)
        return partial({"none": _one, "delimited": _delimited, "header": _after_header}[self.framing], reader)


def _content(descriptors: str | bytes) -> bytes:
    """The bytes of a descriptor set.

    :raises InvalidSettingError: text that is neither base64 nor the path of a file
    """
    if isinstance(descriptors, bytes):
        return descriptors
    try:
        # No path of a file that protoc writes is base64 of a descriptor set, which begins with field 1.
        content = base64.b64decode(descriptors, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if content.startswith(b"\n"):
        return content
    try:
        return Path(descriptors).read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidSettingError(
            "Protobuf descriptors must be the path of a file that protoc wrote, or its content in base64: "
            f"{type(error).__name__}"
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


def _after_header(reader: Reader, payload: bytes, _key: str = "", /) -> list[bytes]:
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
    """Which message of the schema it is, as the serializers of a registry write it, and the message.

    AWS Glue's write an index among all messages in the order of their names. Confluent's write how many
    indexes there are, then the index in the file and in each message, all in zigzag; 0 stands for the first
    of the file.
    """
    number, end = _varint(rest, 0)
    if isinstance(schema_id, str):
        return number, rest[end:]
    count = _zigzag(number)
    if not 0 <= count <= _MAX_INDEXES:
        raise UndecodableError("no message indexes after the header of the registry")
    indexes = []
    for _ in range(count):
        number, end = _varint(rest, end)
        indexes.append(_zigzag(number))
    return tuple(indexes) or (0,), rest[end:]


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)


def _varint(payload: bytes, begin: int) -> tuple[int, int]:
    """A varint, and where it ends.

    :raises UndecodableError: there is none
    """
    number = 0
    for place, byte in enumerate(payload[begin : begin + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, begin + place + 1
    raise UndecodableError("a varint that is cut off or too long")
