"""Debezium change events, as Debezium Server writes them to Kinesis in its JSON format.

An event is an envelope with ``before``, ``after``, ``source`` and ``op``, alone or as the ``payload`` beside
a ``schema`` ("Connectors" in the Debezium documentation). The schema tells how to read values for which JSON
has no type: decimals from base64, dates from days, times and timestamps from their units. Without one they
stay as they came, because nothing says what they are.

Debezium Server uses the key of an event as the record's partition key. A delete is followed by a tombstone,
an empty record; Debezium also writes heartbeats, the beginning and end of transactions, schema changes,
truncates and messages. These hold no rows: they are dropped and counted. A row that was taken out of its
envelope may have any columns, such as ``status`` or ``ts_ms``, so only what has the members of such a
message, and no others, is one.
"""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.changes import DELETE, INSERT, READ, UPDATE, Change, sortable
from airflow_kinesis_snowflake.formats.engine import DroppedPayload, of_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

    Reader = Callable[[Any], Any]
    """Converts a value into what it stands for."""

_OPERATIONS = {"c": INSERT, "u": UPDATE, "d": DELETE, "r": READ}
_MAX_SCHEMAS, _MAX_KEPT_SCHEMA_BYTES = 100, 2**18
_MAX_DEPTH = 50
_ABSENT = msgspec.Raw(b"")


@dataclass(frozen=True)
class Debezium:
    """Debezium change events, with or without a schema in each."""

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder."""
        return _decode


def _decode(payload: bytes, key: str = "", /) -> Documents:
    if payload in (b"", _NULL):
        return DroppedPayload("tombstone of Debezium")
    return _guarded(payload, key)


class _Source(msgspec.Struct):
    """What connectors have in common; each fills it in its own way, so no type is required."""

    db: Any = None
    schema: Any = None
    table: Any = None
    collection: Any = None
    ts_ms: Any = None
    ts_us: Any = None
    ts_ns: Any = None
    lsn: Any = None
    file: Any = None
    pos: Any = None
    row: Any = None


class _Envelope(msgspec.Struct):
    """An event; ``patch`` and ``filter`` are of MongoDB before Debezium 2."""

    op: Any = None
    before: msgspec.Raw = _ABSENT
    after: msgspec.Raw = _ABSENT
    updated: msgspec.Raw = msgspec.field(default=_ABSENT, name="updateDescription")
    patch: msgspec.Raw = _ABSENT
    filter: msgspec.Raw = _ABSENT
    source: msgspec.Raw = _ABSENT
    transaction: msgspec.Raw = _ABSENT
    ts_ms: msgspec.Raw = _ABSENT
    ts_us: msgspec.Raw = _ABSENT
    ts_ns: msgspec.Raw = _ABSENT


class _WithoutRow(msgspec.Struct, forbid_unknown_fields=True):
    ts_ms: int | None = None
    ts_us: int | None = None
    ts_ns: int | None = None


class _Heartbeat(_WithoutRow, kw_only=True):
    ts_ms: int
    vgtid: str | None = None


class _TransactionMarker(_WithoutRow, kw_only=True):
    status: Literal["BEGIN", "END"]
    id: str
    event_count: int | None
    data_collections: list[msgspec.Raw] | None = None
    commit_lsn: int | None = None


class _SchemaChange(_WithoutRow, kw_only=True):
    source: dict[str, msgspec.Raw]
    position: dict[str, msgspec.Raw] | None = None
    database: str | None = msgspec.field(default=None, name="databaseName")
    schema: str | None = msgspec.field(default=None, name="schemaName")
    ddl: str | None = None
    tables: list[msgspec.Raw] | None = msgspec.field(default=None, name="tableChanges")

    def __post_init__(self) -> None:
        if self.ddl is None and self.tables is None:
            raise ValueError("changes nothing")


class _Truncate(_WithoutRow, kw_only=True):
    op: Literal["t"]
    source: dict[str, msgspec.Raw]
    before: None = None
    after: None = None
    transaction: msgspec.Raw = _ABSENT


class _LogicalMessage(_WithoutRow, kw_only=True):
    op: Literal["m"]
    source: dict[str, msgspec.Raw]
    message: dict[str, msgspec.Raw]
    before: None = None
    after: None = None
    transaction: msgspec.Raw = _ABSENT


class _WithSchema(msgspec.Struct, forbid_unknown_fields=True):
    payload: msgspec.Raw
    schema: msgspec.Raw = _ABSENT


_decode_with_schema = msgspec.json.Decoder(_WithSchema).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_source = msgspec.json.Decoder(_Source).decode
_decode_row = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tree = msgspec.json.Decoder(strict=True).decode
_WITHOUT_ROWS = {
    f"{name} of Debezium": msgspec.json.Decoder(kind).decode
    for name, kind in {
        "heartbeat": _Heartbeat,
        "transaction marker": _TransactionMarker,
        "schema change": _SchemaChange,
        "truncate": _Truncate,
        "message": _LogicalMessage,
    }.items()
}
_MEMBERS = frozenset(_Envelope.__struct_encode_fields__)
_NULL = b"null"
_DECIMAL = "org.apache.kafka.connect.data.Decimal"


def _document(payload: bytes, key: str = "", /) -> Documents:
    found = change(payload, key)
    return found if isinstance(found, DroppedPayload) else [found.document()]


_guarded = of_json(_document)


def change(payload: bytes, key: str) -> Change | DroppedPayload:
    """The change that an event describes, or what it is instead.

    :param key: partition key of the record
    :raises msgspec.DecodeError: it isn't a Debezium event
    :raises UndecodableError: it lacks what Debezium's events have
    """
    inner, schema = _unwrapped(payload)
    if inner == _NULL:
        return DroppedPayload("tombstone of Debezium")
    envelope = _decode_envelope(inner)
    operation = _OPERATIONS.get(envelope.op) if isinstance(envelope.op, str) else None
    if operation is None:
        return _without_row(envelope, inner)
    _check_row(envelope, inner)
    readers = _readers_of(schema)
    source = _decode_source(envelope.source) if _given(envelope.source) else _Source()
    place = (source.db, source.schema, source.table or source.collection)
    moment = _time(source)
    return Change(
        operation=operation,
        key=_key(key),
        before=_row(envelope.before, readers.get("before")),
        after=None if operation == DELETE else _row(envelope.after, readers.get("after")),
        order=sortable(*map(_count, (source.ts_ms, source.lsn, _file(source), source.pos, source.row))),
        time=None if moment is None else values.timestamp(*moment),
        table=".".join(part for part in place if part and isinstance(part, str)) or None,
        transaction=envelope.transaction if _given(envelope.transaction) else None,
        source=envelope.source if _given(envelope.source) else None,
    )


def _unwrapped(payload: bytes) -> tuple[bytes, bytes | None]:
    """The envelope, and the schema beside it if there is one."""
    try:
        outer = _decode_with_schema(payload)
    except msgspec.ValidationError:
        return payload, None
    return bytes(outer.payload), bytes(outer.schema) if _given(outer.schema) else None


def _given(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in (b"", _NULL)


def _without_row(envelope: _Envelope, inner: bytes) -> DroppedPayload:
    for what, decode in _WITHOUT_ROWS.items():
        with suppress(msgspec.ValidationError):
            decode(inner)
            return DroppedPayload(what)
    raise UndecodableError(f"not a Debezium event: it has no operation on a row{_flattened(envelope, inner)}")


def _check_row(envelope: _Envelope, inner: bytes) -> None:
    """Refuse an event without the row that its operation requires; a delete may have a key instead."""
    if _given(envelope.before if envelope.op == "d" else envelope.after):
        return
    if envelope.op == "u" and (_given(envelope.updated) or _given(envelope.patch)):
        raise UndecodableError(
            "an update without the document it led to; capture.mode='change_streams_update_full' has it"
        )
    flattened = _flattened(envelope, inner)
    if envelope.op != "d" or flattened:
        raise UndecodableError(f"not a Debezium event: it has no row{flattened}")


def _flattened(envelope: _Envelope, inner: bytes) -> str:
    """The end of a reason, if what should be an event has no source, but members that no event has."""
    # Transforms may add members to an event, but leave it its source.
    if bytes(envelope.source).startswith(b"{") or _decode_row(inner).keys() <= _MEMBERS:
        return ""
    return "; looks like a row that a transform flattened, which payload_format='json' reads"


def _time(source: _Source) -> tuple[int, int] | None:
    for count, digits in ((source.ts_ns, 9), (source.ts_us, 6), (source.ts_ms, 3)):
        if _count(count) is not None:
            return count, digits
    return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _file(source: _Source) -> int | None:
    """The number of a binlog file of MySQL, whose name ends with it: positions begin anew in each."""
    found = re.search(r"\.([0-9]{1,20})$", source.file) if isinstance(source.file, str) else None
    return None if found is None else int(found[1])


def _key(text: str) -> Any:
    """The key of an event, if the partition key is one and not just text."""
    if not text.startswith("{"):
        return None
    try:
        inner, schema = _unwrapped(text.encode())
        return _read(msgspec.Raw(inner), _readers_of(schema).get(""))
    except (msgspec.DecodeError, UndecodableError, RecursionError, UnicodeEncodeError):
        return None


def _row(raw: msgspec.Raw, reader: Reader | None) -> dict[str, Any] | None:
    """A row, with the values that the schema describes converted, and the others as they came.

    :raises UndecodableError: the schema makes something else of it
    """
    row = _read(raw, reader)
    if row is not None and not isinstance(row, dict):
        raise UndecodableError("a row that its schema makes no object of")
    return row


def _read(raw: msgspec.Raw, reader: Reader | None) -> Any:
    if not _given(raw):
        return None
    if bytes(raw).startswith(b'"'):
        return _decode_row(msgspec.json.decode(raw, type=str))  # MongoDB's documents are text.
    return _decode_row(raw) if reader is None else reader(raw)


# --- schemas -----------------------------------------------------------------------------------------------


def _readers_of(schema: bytes | None) -> Mapping[str, Reader]:
    """The readers of ``before`` and ``after`` by name, and under the empty name that of a row by itself."""
    if schema is None:
        return {}
    return _readers(schema) if len(schema) > _MAX_KEPT_SCHEMA_BYTES else _kept_readers(schema)


def _readers(schema: bytes) -> Mapping[str, Reader]:
    tree = _decode_tree(schema)
    whole = _reader(tree, 0)
    fields = _fields(tree)
    return {
        **({"": whole} if whole else {}),
        **{name: reader for name, kind in fields.items() if (reader := _reader(kind, 0)) is not None},
    }


_kept_readers = lru_cache(maxsize=_MAX_SCHEMAS)(_readers)


def _fields(kind: Any) -> dict[str, Any]:
    """The fields of a struct, by name."""
    listed = kind.get("fields") if isinstance(kind, dict) else None
    if not isinstance(listed, list):
        return {}
    return {
        field["field"]: field
        for field in listed
        if isinstance(field, dict) and isinstance(field.get("field"), str)
    }


def _reader(kind: Any, depth: int) -> Reader | None:
    """The reader of values of a type; ``None`` if they stay as they came."""
    if not isinstance(kind, dict) or depth > _MAX_DEPTH:
        return None
    name = kind.get("name")
    if name == _DECIMAL:
        return partial(_number_or_decimal, kind)
    if isinstance(name, str) and name in _LOGICAL:
        return partial(_logical, _LOGICAL[name], kind)
    if kind.get("type") == "struct":
        readers = {
            field: reader
            for field, inner in _fields(kind).items()
            if (reader := _reader(inner, depth + 1)) is not None
        }
        return partial(_struct, readers) if readers else None
    if kind.get("type") == "array" and (item := _reader(kind.get("items"), depth + 1)):
        return partial(_array, item)
    return None


def _struct(readers: Mapping[str, Reader], raw: msgspec.Raw) -> dict[str, Any] | None:
    if bytes(raw) == _NULL:
        return None
    row = _decode_row(raw)
    return {name: readers[name](value) if name in readers else value for name, value in row.items()}


def _array(item: Reader, raw: msgspec.Raw) -> list[Any] | None:
    if bytes(raw) == _NULL:
        return None
    return [item(value) for value in msgspec.json.decode(raw, type=list[msgspec.Raw])]


def _logical(read: Callable[[Any, Mapping[str, Any]], Any], kind: Mapping[str, Any], raw: msgspec.Raw) -> Any:
    value = _decode_tree(raw)
    if value is None:
        return None
    try:
        return read(value, kind)
    except (TypeError, ValueError, KeyError, AttributeError, binascii.Error):
        raise UndecodableError("a value that doesn't fit the schema of its event") from None


def _unscaled(text: str) -> int:
    return int.from_bytes(base64.b64decode(text, validate=True), signed=True)


def _number_or_decimal(kind: Mapping[str, Any], raw: msgspec.Raw) -> Any:
    """A Decimal: bytes, null, or a number if the converter has ``decimal.format=NUMERIC``."""
    text = bytes(raw).decode()
    return _logical(_decimal, kind, raw) if text == "null" or text.startswith('"') else values.number(text)


def _decimal(value: Any, kind: Mapping[str, Any]) -> msgspec.Raw | str:
    return values.decimal(_unscaled(value), int(kind["parameters"]["scale"]))


def _variable_decimal(value: Any, _: Mapping[str, Any]) -> msgspec.Raw | str:
    return values.decimal(_unscaled(value["value"]), int(value["scale"]))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _if_representable(read: Callable[[int], str], value: Any) -> str | int:
    """A date or moment; outside the years 1 to 9999 the number that came: PostgreSQL has BC and infinity."""
    count = _whole(value)
    try:
        return read(count)
    except UndecodableError:
        return count


def _day(value: Any, _: Mapping[str, Any]) -> str | int:
    return _if_representable(values.day, value)


def _time_of_day(digits: int, value: Any, _: Mapping[str, Any]) -> str:
    # A TIME of MySQL is a span of up to 838 hours in either direction.
    return values.time_span(_whole(value), digits)


def _timestamp(digits: int, zone: str, value: Any, _: Mapping[str, Any]) -> str | int:
    return _if_representable(lambda count: values.timestamp(count, digits, zone), value)


def _json(value: Any, _: Mapping[str, Any]) -> Any:
    if not isinstance(value, str):
        raise TypeError
    raw = value.encode()
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except msgspec.DecodeError:
        return value
    return msgspec.Raw(raw)


_LOGICAL: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "io.debezium.data.Json": _json,
    "io.debezium.time.Date": _day,
    "org.apache.kafka.connect.data.Date": _day,
    "io.debezium.time.Time": partial(_time_of_day, 3),
    "org.apache.kafka.connect.data.Time": partial(_time_of_day, 3),
    "io.debezium.time.MicroTime": partial(_time_of_day, 6),
    "io.debezium.time.NanoTime": partial(_time_of_day, 9),
    "io.debezium.time.Timestamp": partial(_timestamp, 3, ""),
    "org.apache.kafka.connect.data.Timestamp": partial(_timestamp, 3, ""),
    "io.debezium.time.MicroTimestamp": partial(_timestamp, 6, ""),
    "io.debezium.time.NanoTimestamp": partial(_timestamp, 9, ""),
}
