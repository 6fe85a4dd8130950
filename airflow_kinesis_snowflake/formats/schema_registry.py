"""Schema registries: what a format asks of one, and the headers that say which schema a payload has.

Confluent's serializers write a zero byte and a 4-byte id in front of a payload; those of AWS Glue a byte 3, a
byte that says whether zlib is used, and a 16-byte UUID. The clients of the registries themselves are hooks; a
registry of your own is an object with :meth:`SchemaRegistry.schema`.
"""

from __future__ import annotations

import uuid
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.engine import MAX_BUILT_BYTES
from airflow_kinesis_snowflake.formats.looks import hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SchemaId: TypeAlias = int | str
"""An ``int`` for Confluent, or a UUID as text for AWS Glue."""

AVRO, PROTOBUF, JSON = "AVRO", "PROTOBUF", "JSON"

MAX_SCHEMA_BYTES = 2**20
"""Characters that a schema may have, which is about the limit of both registries."""

MAX_REFERENCES = 100
"""Schemas that one may refer to, directly or indirectly."""

_MAX_KEPT = 32 * MAX_SCHEMA_BYTES
_MIN_WEIGHT = 10_000
_CONFLUENT, _GLUE = 0, 3
_GLUE_PLAIN, _GLUE_ZLIB = 0, 5

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class RegisteredSchema:
    """A schema as its registry has it.

    :param kind: ``AVRO``, ``PROTOBUF`` or ``JSON``
    :param definition: JSON; for Protobuf the ``FileDescriptorProto`` in base64
    :param references: the schemas that it imports, by the names by which it does
    """

    kind: str
    definition: str
    references: Mapping[str, RegisteredSchema] = field(default_factory=dict)


class SchemaRegistry(Protocol):
    """Returns the schema for the id in the header of a payload."""

    def schema(self, schema_id: SchemaId, /) -> RegisteredSchema:
        """The schema of an id.

        :raises LookupError: there is none, so the record becomes a dead letter
        :raises UndecodableError: it can't be used, so that this record and all others with the id become dead
            letters too; it isn't asked for again
        :raises TransientError: the registry doesn't answer; the page is tried again
        :raises TerminalError: the registry refuses the request
        """
        ...


class WeightedCache(Generic[K, T]):
    """What was used most recently, up to a weight; threads may share it.

    :param most: weight of all values together; one that is heavier is kept alone
    """

    def __init__(self, most: int = _MAX_KEPT) -> None:
        self._most = self._room = most
        self._lock = Lock()
        self._values: OrderedDict[K, tuple[T, int]] = OrderedDict()

    def get(self, key: K) -> T | None:
        """The value, if it is still kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: K, value: T, *, weight: int) -> None:
        """Keep a value, and drop the least recently used ones if there is no room."""
        weight = min(max(weight, _MIN_WEIGHT), self._most)
        with self._lock:
            _, freed = self._values.pop(key, (None, 0))
            self._values[key] = value, weight
            self._room += freed - weight
            while self._room < 0:
                _, (_, freed) = self._values.popitem(last=False)
                self._room += freed


@dataclass(frozen=True)
class Unusable:
    """What is kept in the place of a schema that can't be used."""

    why: str


def made_once(resolve: Callable[[SchemaId], Any], make: Callable[[Any], T]) -> Callable[[SchemaId], T]:
    """The function that returns what a decoder makes of the schema for an id, and keeps it for the next time.

    :param resolve: returns the schema: see :meth:`SchemaRegistry.schema`
    :param make: raises ``InvalidSettingError`` or ``UndecodableError`` for a schema that can't be used, which
        is no reason to stop the drain, because others than its owner register schemas
    :return: raises ``UndecodableError`` if there is no schema, or it can't be used, which is kept too
    """
    kept: WeightedCache[SchemaId, T | Unusable] = WeightedCache()

    def made(schema_id: SchemaId) -> T | Unusable:
        found = kept.get(schema_id)
        if found is None:
            schema = _or_unusable(resolve, schema_id, UndecodableError)
            unusable = isinstance(schema, Unusable)
            found = schema if unusable else _or_unusable(make, schema, InvalidSettingError, UndecodableError)
            kept.put(schema_id, found, weight=weight_of(schema))
        return found

    def look_up(schema_id: SchemaId) -> T:
        try:
            found = made(schema_id)
        except LookupError:
            raise UndecodableError(f"the registry has no schema {schema_id}") from None
        if isinstance(found, Unusable):
            raise UndecodableError(f"schema {schema_id} of the registry: {found.why}")
        return found

    return look_up


def _or_unusable(make: Callable[[Any], T], given: Any, *errors: type[Exception]) -> T | Unusable:
    try:
        return make(given)
    except errors as error:
        return Unusable(str(error))


def weight_of(schema: Any) -> int:
    """The weight of a schema in a cache: its characters, and those of what it refers to."""
    if isinstance(schema, RegisteredSchema):
        return len(schema.definition) + sum(map(weight_of, schema.references.values()))
    return len(schema) if isinstance(schema, (str, bytes)) else 0


def of_kind(kind: str, schema: RegisteredSchema) -> RegisteredSchema:
    """The schema, if it is of this kind.

    :raises UndecodableError: it is of another kind
    """
    if schema.kind != kind:
        raise UndecodableError(f"is of another kind than {kind}")
    return schema


def without_header(payload: bytes) -> tuple[SchemaId, bytes]:
    """The schema id in the header of a schema registry, and what follows the header.

    :raises UndecodableError: it has no header of Confluent's or AWS Glue's registry
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
        inflated = inflating.decompress(data, MAX_BUILT_BYTES)
    except zlib.error:
        raise UndecodableError("not zlib data, although its header says so") from None
    if inflating.unused_data:
        raise UndecodableError("zlib data with bytes left over behind it")
    if not inflating.eof:
        raise UndecodableError(f"zlib data that is cut off, or larger than {MAX_BUILT_BYTES >> 20} MiB")
    return inflated
