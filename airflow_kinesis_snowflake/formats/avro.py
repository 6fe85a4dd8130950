"""Avro payloads as JSON documents, without loss. Needs fastavro, the extra ``avro``.

================================= ======================================================================
Avro                              JSON
================================= ======================================================================
null, boolean, int, long, string, as they are; an enum as its symbol, records and maps as objects, a union as
enum, array, map, record, union   its value alone
float, double                     a number; ``"NaN"``, ``"inf"`` or ``"-inf"``, which a cast to FLOAT accepts
bytes, fixed                      text in base64
decimal                           a number with all digits of its scale; text if it has more than 38 digits,
                                  because Snowflake would round such a number to a DOUBLE
date, time-…, (local-)timestamp-… ISO 8601 with all digits of the type, timestamps in UTC with ``Z``, local
                                  ones without
uuid                              text
duration                          an object with ``months``, ``days`` and ``millis``
================================= ======================================================================
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Sequence  # noqa: TC003 -- a field of a dataclass
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.avro_schemas import AvroSchema, fingerprint, parse
from airflow_kinesis_snowflake.formats.compression import inflate_block
from airflow_kinesis_snowflake.formats.engine import (
    MAX_BUILT_BYTES,
    MAX_OUTPUT_BYTES,
    DroppedPayload,
    check_objects,
    check_output,
    check_size,
    made,
)
from airflow_kinesis_snowflake.formats.looks import hint
from airflow_kinesis_snowflake.formats.schema_registry import SchemaRegistry, made_once, without_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

# What fastavro raises on bytes that don't fit a schema; it has no class of its own for that.
_MISFITS = (EOFError, LookupError, OverflowError, TypeError, ValueError, struct.error)
_CONTAINER, _SINGLE_OBJECT = b"Obj\x01", b"\xc3\x01"
_SYNC_BYTES = 16
_MAX_SCHEMAS, _MAX_KEPT_SCHEMA_BYTES = 100, 2**18
# Of any number that no bytes may stand for; Python needs about 50 bytes for each.
_MAX_EMPTY_FIELDS = 4_000_000
_CODECS = {b"zstandard": "zstd"} | {
    codec.encode(): codec for codec in ("null", "deflate", "snappy", "bzip2", "xz")
}


@dataclass(frozen=True)
class Avro:
    """Avro, one datum per payload; exactly one of the settings must be given.

    :param schema: of payloads without a header; JSON, as text or parsed
    :param resolver: returns the schema for the id in a payload's header: see :func:`avro_decoder`
    :param registry: holds the schemas of payloads with such a header
    """

    schema: Any = None
    resolver: Callable[[int | str], Any] | None = None
    registry: SchemaRegistry | None = None
    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder.

        :raises InvalidSettingError: as :func:`avro_decoder`
        """
        return avro_decoder(schema=self.schema, resolver=self.resolver, registry=self.registry)


@dataclass(frozen=True)
class AvroContainer:
    """Avro object container files, one whole file per payload: a row for each datum in it.

    The file contains its schema. The codecs are ``null``, ``deflate``, ``snappy``, ``zstandard``, ``bzip2``
    and ``xz``. A container without data is dropped and counted.
    """

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder.

        :raises InvalidSettingError: fastavro isn't installed
        """
        _require_fastavro("avro_container")
        return _container


@dataclass(frozen=True)
class AvroSingleObject:
    """Avro's single-object encoding: ``C3 01``, the fingerprint of a schema, and one datum.

    :param schemas: those that payloads may have; each is JSON, as text or parsed
    """

    schemas: Sequence[Any]
    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder.

        :raises InvalidSettingError: no schema is given, one can't be read, or fastavro isn't installed
        """
        _require_fastavro("avro_single_object")
        if not self.schemas or isinstance(self.schemas, (str, bytes, dict)):
            raise InvalidSettingError("AvroSingleObject(schemas=...) must be a list of at least one schema")
        return partial(_single_object, {fingerprint(schema): parse(schema) for schema in self.schemas})


def avro_decoder(
    *,
    schema: Any,
    resolver: Callable[[int | str], Any] | None = None,
    registry: SchemaRegistry | None = None,
) -> Decoder:
    """A decoder of Avro payloads, one datum each.

    :param schema: of payloads that consist of the datum only; JSON, as text or parsed
    :param resolver: for payloads with the header of a schema registry. Called with the id in the header, an
        ``int`` for Confluent (a zero byte and a 4-byte id) or a UUID as text for AWS Glue (a byte 3, a byte
        that says whether zlib is used, and a 16-byte id), it returns the schema. A ``LookupError`` says that
        there is none: the record becomes a dead letter, as it does if the schema can't be read. Any other
        error fails the drain. Schemas are cached
    :param registry: instead of a resolver
    :raises InvalidSettingError: not exactly one of them is given, the schema is invalid or can't be read in
        bounded memory (see :func:`~airflow_kinesis_snowflake.formats.avro_schemas.parse`), or fastavro isn't
        installed
    """
    given = [each for each in (schema, resolver, registry) if each is not None]
    if len(given) != 1:
        raise InvalidSettingError(
            "Set exactly one of avro_schema, avro_schema_resolver and registry_conn_id: "
            f"payload_format='avro' needs one, not {len(given)}"
        )
    _require_fastavro("avro")
    resolve = registry.schema if registry is not None else resolver
    if resolve is None:
        fixed = parse(schema)

        def decode_bare(payload: bytes, _key: str = "", /) -> list[bytes]:
            return _decode(fixed, payload)

        return decode_bare
    look_up = made_once(resolve, parse)

    def decode(payload: bytes, _key: str = "", /) -> list[bytes]:
        schema_id, datum = without_header(payload)
        return _decode(look_up(schema_id), datum)

    return decode


def _require_fastavro(name: str) -> None:
    try:
        import fastavro  # noqa: F401
    except ImportError as error:
        raise InvalidSettingError(
            f"Install airflow-kinesis-snowflake[avro]: payload_format={name!r} needs fastavro"
        ) from error


def _decode(schema: AvroSchema, datum: bytes) -> list[bytes]:
    check_size(datum)
    source = io.BytesIO(datum)
    document = _document(schema, source, len(datum))
    left = len(datum) - source.tell()
    if left:
        raise UndecodableError(f"doesn't fit the Avro schema: {left} bytes are left over")
    return [document]


def _document(schema: AvroSchema, source: io.BytesIO, size: int) -> bytes:
    """The document of the next datum.

    :param size: the most bytes that it may take
    """
    check_objects(schema.bound.objects.within(size))
    if schema.bound.empty.within(size) > _MAX_EMPTY_FIELDS:
        raise UndecodableError(f"may hold more than {_MAX_EMPTY_FIELDS:,} fields that take no bytes")
    try:
        value = _plain(schema.read(source))
        # Until here, values share the names and symbols of the schema.
        if schema.bound.text_in(size) > MAX_OUTPUT_BYTES:
            check_output(_characters(value))
        return msgspec.json.encode(value)
    except (*_MISFITS, RecursionError, MemoryError) as error:
        raise UndecodableError(
            f"doesn't fit the Avro schema ({type(error).__name__}){hint(source.getvalue())}"
        ) from None


def _plain(value: Any) -> Any:
    """The value with bytes, NaN and the infinities as text; everything else goes into JSON as it is."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return values.floating(value) if isinstance(value, float) else value


def _characters(value: Any) -> int:
    """How many characters the names and texts in a value have."""
    if isinstance(value, dict):
        return sum([len(key) + _characters(item) for key, item in value.items()])
    if isinstance(value, list):
        return sum(map(_characters, value))
    return len(value) if isinstance(value, str) else 0


# --- single objects and containers -------------------------------------------------------------------------


def _single_object(schemas: dict[bytes, AvroSchema], payload: bytes, _key: str = "", /) -> list[bytes]:
    if not payload.startswith(_SINGLE_OBJECT) or len(payload) < 10:
        raise UndecodableError(f"not an Avro single object{hint(payload)}")
    schema = schemas.get(payload[2:10])
    if schema is None:
        raise UndecodableError(f"none of the Avro schemas has the fingerprint {payload[2:10].hex()}")
    return _decode(schema, payload[10:])


def _container(payload: bytes, _key: str = "", /) -> Documents:
    if not payload.startswith(_CONTAINER):
        raise UndecodableError(f"not an Avro container{hint(payload)}")
    check_size(payload)
    documents = made(_data(payload))
    return documents or DroppedPayload("Avro container without data")


def _data(payload: bytes) -> Iterator[bytes]:
    """The documents of a container: a header, then blocks that each end with a sync marker."""
    file = io.BytesIO(payload)
    file.seek(len(_CONTAINER))
    try:
        metadata = AvroSchema({"type": "map", "values": "bytes"}).read(file)
        codec = _CODECS.get(metadata.get("avro.codec", b"null"))
        schema = _schema_of_container(metadata["avro.schema"])
        sync = file.read(_SYNC_BYTES)
        if len(sync) < _SYNC_BYTES:
            raise UndecodableError("an Avro container that is cut off in its header")
        room = MAX_BUILT_BYTES
        while file.tell() < len(payload):
            count, size = _long(file), _long(file)
            block, end = file.read(max(0, size)), file.read(_SYNC_BYTES)
            if len(block) != size or end != sync or count < 0:
                raise UndecodableError("an Avro container that is damaged or cut off")
            block = inflate_block(codec, block, room)
            room -= len(block)
            yield from _data_of_block(schema, block, count)
    except (*_MISFITS, RecursionError, MemoryError) as error:
        raise UndecodableError(f"an Avro container that is damaged ({type(error).__name__})") from None


def _long(file: io.BytesIO) -> int:
    return int(AvroSchema("long").read(file))


def _data_of_block(schema: AvroSchema, block: bytes, count: int) -> Iterator[bytes]:
    source = io.BytesIO(block)
    for _ in range(count):
        yield _document(schema, source, len(block))
    if source.tell() != len(block):
        raise UndecodableError("an Avro container with a block that holds more data than it declares")


def _schema_of_container(definition: bytes) -> AvroSchema:
    found = _kept(definition) if len(definition) <= _MAX_KEPT_SCHEMA_BYTES else _schema_or_reason(definition)
    if isinstance(found, str):
        raise UndecodableError(f"the schema in an Avro container: {found}")
    return found


def _schema_or_reason(definition: bytes) -> AvroSchema | str:
    try:
        return parse(definition)
    except InvalidSettingError as error:
        return str(error)


_kept = lru_cache(maxsize=_MAX_SCHEMAS)(_schema_or_reason)
