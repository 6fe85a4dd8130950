"""Avro schemas as fastavro takes them, with logical types read without losing anything."""

from __future__ import annotations

import json
import struct
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.avro_bounds import density, is_endless, is_recursive
from airflow_kinesis_snowflake.formats.schema_registry import AVRO, RegisteredSchema, of_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import msgspec

_OURS = "airflow-kinesis-snowflake-"
# What fastavro and we raise on a schema that is none: registries hold whatever was put there.
_NO_SCHEMA = (ArithmeticError, AttributeError, AssertionError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class AvroSchema:
    """A schema that data can be read by.

    :param parsed: as fastavro takes it
    :param wrapped: a record around it has it as its only field, which takes no bytes
    :param density: objects and arrays that a byte of data may stand for
    """

    parsed: Any
    wrapped: bool = False
    density: float = 0.0

    def read(self, source: Any) -> Any:
        """One datum; raises what fastavro raises."""
        from fastavro import schemaless_reader

        value: Any = schemaless_reader(source, self.parsed, None)
        return value["value"] if self.wrapped else value


def parse(schema: Any) -> AvroSchema:
    """The schema as data can be read by it, with logical types read by the functions below.

    :param schema: JSON, as text or parsed, or a :class:`RegisteredSchema`
    :raises InvalidSettingError: not a schema; or a recursive one: data that is nested too deeply ends the
        whole process then; or one with an array of items that take no bytes: a count of a few bytes stands
        for any number of them then
    :raises UndecodableError: a registered schema of another kind
    """
    named: dict[str, Any] = {}
    empty: dict[str, bool] = {}
    if not isinstance(schema, RegisteredSchema):
        return _parsed(schema, named=named, empty=empty)
    for definition in _referred_to(of_kind(AVRO, schema)):
        _parsed(definition, named=named, empty=empty)
    if not named:
        return _parsed(schema.definition, named=named, empty=empty)
    # Only a record can take along what it refers to.
    try:
        inner = {"name": "value", "type": _tree(schema.definition)}
    except (ValueError, RecursionError) as error:
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}") from None
    around = {"type": "record", "name": "_Around", "fields": [inner]}
    return replace(_parsed(around, named=named, empty=empty), wrapped=True)


def fingerprint(schema: Any) -> bytes:
    """What stands for a schema in front of a single object: CRC-64-AVRO of its canonical form.

    :raises InvalidSettingError: not a schema
    """
    from fastavro.schema import SchemaParseException, to_parsing_canonical_form
    from fastavro.schema import fingerprint as of_canonical

    try:
        return bytes.fromhex(of_canonical(to_parsing_canonical_form(_tree(schema)), "CRC-64-AVRO"))
    except (SchemaParseException, RecursionError, *_NO_SCHEMA) as error:
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}") from None


def _referred_to(schema: RegisteredSchema) -> Iterator[str]:
    """The definitions that a schema refers to, each behind those that it refers to itself, and once."""
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


def _parsed(schema: Any, *, named: dict[str, Any], empty: dict[str, bool]) -> AvroSchema:
    """A schema that may refer to those of some names, which it is put among.

    :param empty: for the names, whether data of them take no bytes
    """
    import fastavro
    from fastavro.read import LOGICAL_READERS
    from fastavro.schema import SchemaParseException

    LOGICAL_READERS.update(_READERS)
    try:
        parsed = fastavro.parse_schema(_with_our_types(_tree(schema)), named)
        recursive = is_recursive(parsed, within=frozenset())
        found = AvroSchema(parsed, density=0 if recursive else density(parsed, named))
        endless = not recursive and is_endless(parsed, empty=empty)
    except (SchemaParseException, *_NO_SCHEMA) as error:
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}: {error}") from error
    except RecursionError:
        raise InvalidSettingError("not an Avro schema: nested too deeply") from None
    if recursive:
        raise InvalidSettingError("an Avro schema that contains itself can't be read")
    if endless:
        raise InvalidSettingError("an Avro schema with an array of items without bytes can't be read")
    return found


def _with_our_types(schema: Any) -> Any:
    """The schema with logical types renamed, so that fastavro leaves them to us or lets them be."""
    if isinstance(schema, list):
        return [_with_our_types(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {name: _with_our_types(item) for name, item in schema.items()}
    if isinstance(schema.get("logicalType"), str):
        renamed["logicalType"] = _OURS + schema["logicalType"]
    return renamed


# --- logical types -----------------------------------------------------------------------------------------


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
    f"bytes-{_OURS}decimal": _decimal,
    f"fixed-{_OURS}decimal": _decimal,
    f"fixed-{_OURS}duration": _duration,
    f"fixed-{_OURS}uuid": _uuid,
    f"int-{_OURS}date": _date,
    f"int-{_OURS}time-millis": partial(_time, 3),
    f"long-{_OURS}time-micros": partial(_time, 6),
    f"long-{_OURS}time-nanos": partial(_time, 9),
    **{
        f"long-{_OURS}{prefix}timestamp-{unit}": partial(_timestamp, digits, zone)
        for prefix, zone in (("", "Z"), ("local-", ""))
        for unit, digits in (("millis", 3), ("micros", 6), ("nanos", 9))
    },
}
