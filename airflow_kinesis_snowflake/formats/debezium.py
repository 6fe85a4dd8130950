"""Debezium change events, as Debezium Server writes them to Kinesis in its JSON format.

An event is an envelope with ``before``, ``after``, ``source`` and ``op``, alone or as the ``payload`` beside
a ``schema`` ("Connectors" in the Debezium documentation). The schema tells how to read values for which JSON
has no type: decimals from base64, dates from days, times and timestamps from their units. Without one they
stay as they came, because nothing says what they are.

Debezium Server uses the key of an event as the record's partition key. A delete is followed by a tombstone,
an empty record; Debezium also writes heartbeats, the beginning and end of transactions, and schema changes.
These hold no rows: they are dropped and counted.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

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
_WITHOUT_ROWS = {"t": "truncate of Debezium", "m": "message of Debezium"}
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
    op: str | None = None
    before: msgspec.Raw = _ABSENT
    after: msgspec.Raw = _ABSENT
    updated: msgspec.Raw = msgspec.field(default=_ABSENT, name="updateDescription")
    source: msgspec.Raw = _ABSENT
    transaction: msgspec.Raw = _ABSENT
    status: str | None = None
    ts_ms: int | None = None
    schema_changes: msgspec.Raw = msgspec.field(default=_ABSENT, name="tableChanges")
    ddl: msgspec.Raw = _ABSENT


class _WithSchema(msgspec.Struct):
    payload: msgspec.Raw
    schema: msgspec.Raw = _ABSENT


_decode_with_schema = msgspec.json.Decoder(_WithSchema).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_source = msgspec.json.Decoder(_Source).decode
_decode_row = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tree = msgspec.json.Decoder(strict=True).decode
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
    """
    inner, schema = _unwrapped(payload)
    if inner == _NULL:
        return DroppedPayload("tombstone of Debezium")
    envelope = _decode_envelope(inner)
    if envelope.op not in _OPERATIONS:
        return _without_row(envelope)
    if envelope.op == "u" and _given(envelope.updated) and not _given(envelope.after):
        raise UndecodableError(
            "an update without the document it led to; capture.mode='change_streams_update_full' has it"
        )
    readers = _readers_of(schema)
    source = _decode_source(envelope.source) if _given(envelope.source) else _Source()
    place = (source.db, source.schema, source.table or source.collection)
    moment = _time(source)
    return Change(
        operation=_OPERATIONS[envelope.op],
        key=_key(key),
        before=_row(envelope.before, readers.get("before")),
        after=None if envelope.op == "d" else _row(envelope.after, readers.get("after")),
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


def _without_row(envelope: _Envelope) -> DroppedPayload:
    if envelope.op in _WITHOUT_ROWS:
        return DroppedPayload(_WITHOUT_ROWS[envelope.op])
    if envelope.op is None and envelope.status in ("BEGIN", "END"):
        return DroppedPayload("transaction marker of Debezium")
    if envelope.op is None and (_given(envelope.schema_changes) or _given(envelope.ddl)):
        return DroppedPayload("schema change of Debezium")
    if envelope.op is None and envelope.ts_ms is not None and not _given(envelope.after):
        return DroppedPayload("heartbeat of Debezium")
    raise UndecodableError("not a Debezium event: it has no operation")


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


def _key(text: str) -> Mapping[str, Any] | None:
    """The key of an event, if the partition key is one and not just text."""
    if not text.startswith("{"):
        return None
    try:
        inner, schema = _unwrapped(text.encode())
        return _row(msgspec.Raw(inner), _readers_of(schema).get(""))
    except (msgspec.DecodeError, UndecodableError, RecursionError, UnicodeEncodeError):
        return None


def _row(raw: msgspec.Raw, reader: Reader | None) -> dict[str, Any] | None:
    """A row, with the values that the schema describes converted, and the others as they came."""
    if not _given(raw):
        return None
    if bytes(raw).startswith(b'"'):
        return _decode_row(msgspec.json.decode(raw, type=str))  # MongoDB's documents are text.
    if reader is None:
        return _decode_row(raw)
    read: dict[str, Any] = reader(raw)
    return read


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
