"""Avro schemas as fastavro takes them, with logical types that are read without loss."""

from __future__ import annotations

import json
import math
import struct
import uuid
from dataclasses import dataclass, replace
from functools import partial
from threading import local
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.avro_bounds import (
    NOTHING_BUILT,
    bound,
    has_doubled_fields,
    is_recursive,
)
from airflow_kinesis_snowflake.formats.engine import check_output
from airflow_kinesis_snowflake.formats.schema_registry import AVRO, RegisteredSchema, of_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import msgspec

    from airflow_kinesis_snowflake.formats.avro_bounds import Bound

_OURS = "airflow-kinesis-snowflake-"
# What fastavro and this module raise on an invalid schema: registries hold whatever was put there.
_INVALID_SCHEMA = (ArithmeticError, AttributeError, AssertionError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class AvroSchema:
    """A schema that data can be read with.

    :param parsed: as fastavro takes it
    :param wrapped: it is the only field of a record, which adds no bytes
    :param bound: the most that a datum may become
    """

    parsed: Any
    wrapped: bool = False
    bound: Bound = NOTHING_BUILT

    def read(self, source: Any) -> Any:
        """Read one datum; raises what fastavro raises.

        :raises UndecodableError: a value that no calendar has, or too much text of logical types
        """
        from fastavro import schemaless_reader

        _text.length = 0
        value: Any = schemaless_reader(source, self.parsed, None)
        return value["value"] if self.wrapped else value


def parse(schema: Any) -> AvroSchema:
    """Parse a schema, and have its logical types read by the functions below.

    :param schema: JSON, as text or parsed, or a :class:`RegisteredSchema`
    :raises InvalidSettingError: it isn't a schema; or it is recursive, so that deeply nested data would end
        the whole process; or it has an array of items that take no bytes, so that a count of a few bytes
        would stand for any number of them; or a record has two fields of one name
    :raises UndecodableError: a registered schema of another kind
    """
    named: dict[str, Any] = {}
    if not isinstance(schema, RegisteredSchema):
        return _parsed(schema, named)
    for definition in _referred_to(of_kind(AVRO, schema)):
        _parsed(definition, named)
    if not named:
        return _parsed(schema.definition, named)
    # Only a record can carry the schemas that it refers to.
    try:
        inner = {"name": "value", "type": _tree(schema.definition)}
    except (ValueError, RecursionError) as error:
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}") from None
    wrapper = {"type": "record", "name": "_Wrapper", "fields": [inner]}
    return replace(_parsed(wrapper, named), wrapped=True)


def fingerprint(schema: Any) -> bytes:
    """The fingerprint that identifies the schema of a single object: CRC-64-AVRO of its canonical form.

    :raises InvalidSettingError: not a schema
    """
    from fastavro.schema import SchemaParseException, to_parsing_canonical_form
    from fastavro.schema import fingerprint as of_canonical

    try:
        return bytes.fromhex(of_canonical(to_parsing_canonical_form(_tree(schema)), "CRC-64-AVRO"))
    except (SchemaParseException, RecursionError, *_INVALID_SCHEMA) as error:
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}") from None


def _referred_to(schema: RegisteredSchema) -> Iterator[str]:
    """The definitions that a schema refers to, each once and after those that it refers to itself."""
    seen: set[str] = set()

    def of(references: Mapping[str, RegisteredSchema]) -> Iterator[str]:
        for each in references.values():
            yield from of(each.references)
            if each.definition not in seen:
                seen.add(each.definition)
                yield of_kind(AVRO, each).definition

    return of(schema.references)


def _tree(schema: Any) -> Any:
    return json.loads(schema) if isinstance(schema, (str, bytes)) else schema


def _parsed(schema: Any, named: dict[str, Any]) -> AvroSchema:
    """Parse a schema that may refer to named ones, and add it to these."""
    import fastavro
    from fastavro.read import LOGICAL_READERS
    from fastavro.schema import SchemaParseException

    LOGICAL_READERS.update(_READERS)
    try:
        parsed = fastavro.parse_schema(_with_our_types(_tree(schema)), named)
        recursive = is_recursive(parsed, within=frozenset())
        most = NOTHING_BUILT if recursive else bound(parsed, named)
        doubled = has_doubled_fields(parsed)
    except (SchemaParseException, *_INVALID_SCHEMA) as error:
        # What the error says quotes the schema, which a payload may have brought.
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}") from error
    except RecursionError:
        raise InvalidSettingError("not an Avro schema: nested too deeply") from None
    if recursive:
        raise InvalidSettingError("an Avro schema that contains itself can't be read")
    if math.isinf(most.objects.per_byte):
        raise InvalidSettingError("an Avro schema with an array of items that take no bytes can't be read")
    if doubled:
        raise InvalidSettingError("an Avro schema with two fields of one name in a record can't be read")
    return AvroSchema(parsed, bound=most)


def _with_our_types(schema: Any) -> Any:
    """The schema with logical types renamed, so that fastavro leaves them to the functions below."""
    if isinstance(schema, list):
        return [_with_our_types(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {name: _with_our_types(item) for name, item in schema.items()}
    if isinstance(schema.get("logicalType"), str):
        renamed["logicalType"] = _OURS + schema["logicalType"]
    return renamed


# --- logical types -----------------------------------------------------------------------------------------


class _Text(local):
    """What logical types have made of the datum that this thread reads."""

    length = 0


_text = _Text()


def _counted(read: Callable[..., msgspec.Raw | str]) -> Callable[..., msgspec.Raw | str]:
    """A reader that stops before the text that it makes of a byte or of none fills the memory."""

    def counted(value: Any, *schemas: Any) -> msgspec.Raw | str:
        made = read(value, *schemas)
        _text.length += len(made if isinstance(made, str) else memoryview(made))
        check_output(_text.length)
        return made

    return counted


def _decimal(data: bytes, schema: Any, _: Any = None) -> msgspec.Raw | str:
    return values.decimal(int.from_bytes(data, signed=True), schema.get("scale", 0))


def _date(days: int, *_: Any) -> str:
    return values.day(days)


def _time(digits: int, count: int, *_: Any) -> str:
    return values.time_of_day(count, digits)


def _timestamp(digits: int, zone: str, count: int, *_: Any) -> str:
    return values.timestamp(count, digits, zone)


def _duration(data: bytes, *_: Any) -> dict[str, int]:
    months, days, millis = struct.unpack("<III", data)
    return {"months": months, "days": days, "millis": millis}


def _uuid(data: bytes, *_: Any) -> str:
    return str(uuid.UUID(bytes=data))


_READERS: dict[str, Callable[..., Any]] = {
    f"bytes-{_OURS}decimal": _counted(_decimal),
    f"fixed-{_OURS}decimal": _counted(_decimal),
    f"fixed-{_OURS}duration": _duration,
    f"fixed-{_OURS}uuid": _uuid,
    f"int-{_OURS}date": _counted(_date),
    f"int-{_OURS}time-millis": _counted(partial(_time, 3)),
    f"long-{_OURS}time-micros": _counted(partial(_time, 6)),
    f"long-{_OURS}time-nanos": _counted(partial(_time, 9)),
    **{
        f"long-{_OURS}{prefix}timestamp-{unit}": _counted(partial(_timestamp, digits, zone))
        for prefix, zone in (("", "Z"), ("local-", ""))
        for unit, digits in (("millis", 3), ("micros", 6), ("nanos", 9))
    },
}
