"""Avro payloads as JSON documents, without losing anything. Needs fastavro, the extra ``avro``.

================================= ======================================================================
Avro                              JSON
================================= ======================================================================
null, boolean, int, long, string, as they are; an enum as its symbol, a record and a map as an object, of a
enum, array, map, record, union   union the value alone
float, double                     a number; ``"NaN"``, ``"inf"`` or ``"-inf"``, which a cast to FLOAT takes
bytes, fixed                      text in base64
decimal                           a number with all digits of its scale; as text where it has more than 38
                                  digits, because Snowflake would make a rounded DOUBLE of such a number
date, time-…, (local-)timestamp-… ISO 8601 with all digits of the type, timestamps in UTC with ``Z``, local
                                  ones without
uuid                              text
duration                          an object with ``months``, ``days`` and ``millis``
================================= ======================================================================
"""

from __future__ import annotations

import base64
import io
import json
import struct
import uuid
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.engine import MOST_BUILT, check_size
from airflow_kinesis_snowflake.formats.looks import hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.formats.engine import Decoder

_OURS = "airflow-kinesis-snowflake-"
_CONFLUENT, _GLUE = 0, 3
_GLUE_PLAIN, _GLUE_ZLIB = 0, 5
_MOST_SCHEMAS = 1000
_INNER = {"array": "items", "map": "values"}
# What fastavro and we raise on a schema that is none: registries hold whatever was put there.
_NO_SCHEMA = (ArithmeticError, AttributeError, AssertionError, LookupError, TypeError, ValueError)
# What fastavro raises on bytes that don't fit a schema; it has no class of its own for that.
_MISFITS = (EOFError, LookupError, OverflowError, TypeError, ValueError, struct.error)


@dataclass(frozen=True)
class Avro:
    """Avro, one datum per payload; exactly one of the settings must be given.

    :param schema: of payloads without a header: JSON, as text or parsed
    :param resolver: gives the schema for an id in the payload's header: see :func:`avro_decoder`
    """

    schema: Any = None
    resolver: Callable[[int | str], Any] | None = None
    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder.

        :raises InvalidSettingError: as :func:`avro_decoder`
        """
        return avro_decoder(schema=self.schema, resolver=self.resolver)


def avro_decoder(*, schema: Any, resolver: Callable[[int | str], Any] | None) -> Decoder:
    """A decoder of Avro payloads, one datum each.

    :param schema: of payloads that are nothing but the datum: JSON, as text or parsed
    :param resolver: for payloads with the header of a schema registry. Called with the id in it, an ``int``
        of Confluent's (header of a zero byte and 4 bytes of id) or the UUID as text of AWS Glue's (a byte 3,
        a byte that says whether zlib is used, 16 bytes of id), and gives the schema. A ``LookupError`` says
        that there is none, so that the record becomes a dead letter, as it does where what is given is no
        schema that can be read; any other error fails the drain. Each schema is asked for once
    :raises InvalidSettingError: not exactly one of them is given, the schema is none or can't be read with a
        bound (see :func:`_parse`), or fastavro isn't installed
    """
    if (schema is None) == (resolver is None):
        raise InvalidSettingError("payload_format='avro' needs either avro_schema or avro_schema_resolver")
    try:
        import fastavro  # noqa: F401
    except ImportError as error:
        raise InvalidSettingError(
            "payload_format='avro' needs fastavro: install airflow-kinesis-snowflake[avro]"
        ) from error
    if resolver is None:
        fixed = _parse(schema)

        def decode_bare(payload: bytes, _key: str = "", /) -> list[bytes]:
            return _decode(fixed, payload)

        return decode_bare
    resolve = resolver

    @lru_cache(maxsize=_MOST_SCHEMAS)
    def parsed(schema_id: int | str) -> Any:
        found = resolve(schema_id)
        try:
            return _parse(found)
        except InvalidSettingError as error:
            # Who registers schemas isn't who runs the drain, so it is no reason to stop. It is kept, too.
            return _Unreadable(str(error))

    def decode(payload: bytes, _key: str = "", /) -> list[bytes]:
        schema_id, datum = without_header(payload)
        try:
            found = parsed(schema_id)
        except LookupError:
            raise UndecodableError(f"there is no Avro schema {schema_id}") from None
        if isinstance(found, _Unreadable):
            raise UndecodableError(f"schema {schema_id} of the registry: {found.why}")
        return _decode(found, datum)

    return decode


@dataclass(frozen=True)
class _Unreadable:
    """In the place of a registered schema that can't be used."""

    why: str


def without_header(payload: bytes) -> tuple[int | str, bytes]:
    """The schema id in the header of a schema registry, and the datum behind it.

    :raises UndecodableError: no header of Confluent's or AWS Glue's
    """
    if len(payload) >= 5 and payload[0] == _CONFLUENT:
        return int.from_bytes(payload[1:5]), payload[5:]
    if len(payload) >= 18 and payload[0] == _GLUE and payload[1] in (_GLUE_PLAIN, _GLUE_ZLIB):
        datum = payload[18:]
        return str(uuid.UUID(bytes=payload[2:18])), _inflate(datum) if payload[1] == _GLUE_ZLIB else datum
    raise UndecodableError(f"no header of a schema registry in front{hint(payload)}")


def _inflate(data: bytes) -> bytes:
    inflating = zlib.decompressobj()
    try:
        inflated = inflating.decompress(data, MOST_BUILT)
    except zlib.error:
        raise UndecodableError("not the zlib data that its header says") from None
    if not inflating.eof:
        raise UndecodableError(f"zlib data that is cut off, or larger than {MOST_BUILT >> 20} MiB")
    return inflated


def _decode(schema: Any, datum: bytes) -> list[bytes]:
    from fastavro import schemaless_reader

    check_size(datum)
    source = io.BytesIO(datum)
    try:
        value = schemaless_reader(source, schema, None)
    except (*_MISFITS, RecursionError, MemoryError) as error:
        raise UndecodableError(f"doesn't fit the Avro schema ({type(error).__name__}){hint(datum)}") from None
    left = len(datum) - source.tell()
    if left:
        raise UndecodableError(f"doesn't fit the Avro schema: {left} bytes are left over")
    return [msgspec.json.encode(_plain(value))]


def _plain(value: Any) -> Any:
    """The value with bytes and the special floats as text; everything else goes into JSON as it is."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return values.floating(value) if isinstance(value, float) else value


# --- schemas -----------------------------------------------------------------------------------------------


def _parse(schema: Any) -> Any:
    """The schema as fastavro takes it, with logical types read by the functions below.

    :raises InvalidSettingError: not a schema; or a recursive one: data that is nested too deeply ends the
        whole process then; or one with an array of items that take no bytes: a count of a few bytes stands
        for any number of them then
    """
    import fastavro
    from fastavro.read import LOGICAL_READERS
    from fastavro.schema import SchemaParseException

    LOGICAL_READERS.update(_READERS)
    try:
        tree = json.loads(schema) if isinstance(schema, (str, bytes)) else schema
        parsed = fastavro.parse_schema(_with_our_types(tree))
    except (SchemaParseException, *_NO_SCHEMA) as error:
        raise InvalidSettingError(f"not an Avro schema: {type(error).__name__}: {error}") from error
    except RecursionError:
        raise InvalidSettingError("not an Avro schema: nested too deeply") from None
    if _recursive(parsed, within=frozenset()):
        raise InvalidSettingError("an Avro schema that contains itself can't be read")
    if _endless(parsed, empty={}):
        raise InvalidSettingError("an Avro schema with an array of items without bytes can't be read")
    return parsed


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


def _recursive(schema: Any, *, within: frozenset[str]) -> bool:
    """Whether a parsed schema contains itself, or one of the records that it is within."""
    if isinstance(schema, str):
        return schema in within
    if isinstance(schema, list):
        return any(_recursive(branch, within=within) for branch in schema)
    kind = schema["type"]
    if not isinstance(kind, str):
        return _recursive(kind, within=within)
    if kind in ("record", "error"):
        inside = within | {schema["name"]}
        return any(_recursive(field["type"], within=inside) for field in schema["fields"])
    return kind in _INNER and _recursive(schema[_INNER[kind]], within=within)


def _endless(schema: Any, *, empty: dict[str, bool]) -> bool:
    """Whether a parsed schema has an array of items that take no bytes.

    :param empty: for names that were met, whether they take none; filled in
    """
    if isinstance(schema, str):
        return False
    if isinstance(schema, list):
        return any(_endless(branch, empty=empty) for branch in schema)
    kind = schema["type"]
    if not isinstance(kind, str):
        return _endless(kind, empty=empty)
    if kind in ("record", "error"):
        endless = any(_endless(field["type"], empty=empty) for field in schema["fields"])
        empty[schema["name"]] = _takes_nothing(schema, empty=empty)
        return endless
    if kind == "fixed":
        empty[schema["name"]] = schema["size"] == 0
    inner = schema[_INNER[kind]] if kind in _INNER else None
    if inner is None:
        return False
    endless = _endless(inner, empty=empty)
    return endless or (kind == "array" and _takes_nothing(inner, empty=empty))


def _takes_nothing(schema: Any, *, empty: dict[str, bool]) -> bool:
    if isinstance(schema, str):
        return schema == "null" or empty.get(schema, False)
    if isinstance(schema, list):
        return False
    kind = schema["type"]
    if kind in ("record", "error"):
        return all(_takes_nothing(field["type"], empty=empty) for field in schema["fields"])
    if kind == "fixed":
        return bool(schema["size"] == 0)
    return kind not in _INNER and _takes_nothing(kind, empty=empty)


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
