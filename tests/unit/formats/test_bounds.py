"""A payload of a few bytes can't fill the memory, nor take hours, nor stop a stream."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats import engine
from airflow_kinesis_snowflake.formats.avro import avro_decoder
from airflow_kinesis_snowflake.formats.basic import array_items, sequence
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.compression import MAX_MEMBERS, inflater

TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "children", "type": {"type": "array", "items": ["null", "Tree"]}}],
}
NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}
ENDLESS = [
    {"type": "array", "items": "null"},
    {"type": "array", "items": {"type": "null"}},
    {"type": "array", "items": NOTHING},
    {"type": "map", "values": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}},
    ["null", {"type": "array", "items": "null"}],
    {
        "type": "record",
        "name": "Late",
        "fields": [
            {"name": "a", "type": NOTHING},
            {"name": "b", "type": {"type": "array", "items": "Nothing"}},
        ],
    },
]


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
def test_a_million_empty_members_are_refused_early(kind: str) -> None:
    member = gzip.compress(b"", mtime=0) if kind == "gzip" else zlib.compress(b"")
    with pytest.raises(UndecodableError, match="more than 10,000 members"):
        inflater(kind)(member * 1_000_000)


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
def test_members_up_to_the_bound_are_read_whatever_the_pieces_they_come_in(kind: str) -> None:
    compress = gzip.compress if kind == "gzip" else zlib.compress
    member = compress(b"0123456789")
    assert inflater(kind)(member * MAX_MEMBERS) == b"0123456789" * MAX_MEMBERS
    with pytest.raises(UndecodableError, match="not valid"):
        inflater(kind)(member * (MAX_MEMBERS - 1) + member[:-1])


@pytest.mark.parametrize(("wrong", "size"), [(1, 1), (8, 8), (10**6, 10**6)])
def test_a_block_that_says_it_is_larger_than_it_is_shows_nothing_of_the_memory(wrong: int, size: int) -> None:
    data = bytes(10_000)
    block = pa.Codec("lz4_raw").compress(data, asbytes=True)
    assert inflater("lz4")(len(data).to_bytes(4, "little") + block) == data
    with pytest.raises(UndecodableError, match="not valid lz4 data"):
        inflater("lz4")((len(data) + wrong).to_bytes(4, "little") + block)


@pytest.mark.parametrize(
    ("decode", "form", "between"),
    [
        (array_items, b"[%s]", b","),
        (sequence, b"%s", b"\n"),
        (sequence, b"%s", b" "),
        (sequence, b"%s", b"          \n"),
        (sequence, b"%s", b" " * 30),
    ],
)
def test_too_many_documents_are_refused(decode: Any, form: bytes, between: bytes) -> None:
    payload = form % between.join([b"1"] * (engine.MAX_DOCUMENTS + 1))
    with pytest.raises(UndecodableError, match="more than 100,000 documents"):
        decode(payload)


def test_as_many_documents_as_there_may_be_are_read() -> None:
    numbers = [b"[1,2]"] * engine.MAX_DOCUMENTS
    assert array_items(b"[" + b",".join(numbers) + b"]") == numbers
    assert sequence(b"\n".join(numbers)) == numbers


@pytest.mark.parametrize("schema", ENDLESS)
def test_an_array_whose_items_take_no_bytes_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidSettingError, match="items that take no bytes"):
        payload_decoder("avro", avro_schema=schema)


def test_other_arrays_are_read() -> None:
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "n", "type": NOTHING},
            {"name": "lists", "type": {"type": "array", "items": {"type": "array", "items": ["null"]}}},
        ],
    }
    out = io.BytesIO()
    value = {"n": {"n": None}, "lists": [[None], []]}
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    decode = payload_decoder("avro", avro_schema=schema)
    assert decode is not None
    assert decode(out.getvalue()) == [b'{"n":{"n":null},"lists":[[null],[]]}']


@pytest.mark.parametrize(
    "registered",
    [
        TREE,
        *ENDLESS,
        "{",
        "no type",
        {"type": "record"},
        {},
        [],
        None,
        7,
        {"type": []},
        "[" * 100_000,
        {"type": 1},
    ],
)
def test_a_registered_schema_that_cannot_be_used_makes_dead_letters(registered: Any) -> None:
    asked = []

    def resolve(schema_id: int | str) -> Any:
        asked.append(schema_id)
        return registered

    decode = avro_decoder(schema=None, resolver=resolve)
    for _ in range(2):
        with pytest.raises(UndecodableError):
            decode(b"\0\0\0\0\7" + bytes(20))
    assert asked == [7]


FLAG = {"type": "record", "name": "Flag", "fields": [{"name": "a_flag", "type": "boolean"}]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": FLAG},
        {"type": "array", "items": ["null", FLAG, "string"]},
        {"type": "map", "values": {"type": "array", "items": "long"}},
        {"type": "array", "items": {"type": "array", "items": "string"}},
        {
            "type": "record",
            "name": "Two",
            "fields": [
                {"name": "a", "type": FLAG},
                {"name": "b", "type": {"type": "array", "items": "Flag"}},
            ],
        },
    ],
)
def test_small_objects_in_an_array_are_bounded(schema: Any) -> None:
    decode = payload_decoder("avro", avro_schema=schema)
    assert decode is not None
    with pytest.raises(UndecodableError, match="more than 2,000,000 objects"):
        decode(bytes(5_000_000))


def test_large_objects_in_an_array_are_read() -> None:
    fields = [{"name": "id", "type": "string"}, {"name": "sum", "type": "double"}]
    schema = {"type": "array", "items": {"type": "record", "name": "R", "fields": fields}}
    out = io.BytesIO()
    value = [{"id": "x" * 100, "sum": 1.5}] * 100_000
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    decode = payload_decoder("avro", avro_schema=schema)
    assert decode is not None
    documents = decode(out.getvalue())
    assert isinstance(documents, list)
    (document,) = documents
    assert len(json.loads(document)) == 100_000


def test_a_container_of_small_objects_is_bounded() -> None:
    out = io.BytesIO()
    value = [{"a_flag": True}] * 2_100_000
    schema = fastavro.parse_schema({"type": "array", "items": FLAG})
    fastavro.writer(out, schema, [value], codec="deflate")
    assert len(out.getvalue()) < 20_000
    decode = payload_decoder("avro_container")
    assert decode is not None
    with pytest.raises(UndecodableError, match="more than 2,000,000 objects"):
        decode(out.getvalue())


def _doubled(levels: int, leaf: str) -> Any:
    """A record that holds two of the next level, which holds two of the next, …"""
    schema: Any = {"type": "record", "name": "L0", "fields": [{"name": "a", "type": leaf}]}
    for level in range(1, levels):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": f"L{level - 1}"}]
        schema = {"type": "record", "name": f"L{level}", "fields": fields}
    return schema


@pytest.mark.parametrize("levels", [30, 100])
@pytest.mark.parametrize("leaf", ["null", "int"])
def test_a_schema_that_doubles_at_each_level_is_bounded(levels: int, leaf: str) -> None:
    for schema in (_doubled(levels, leaf), {"type": "map", "values": _doubled(levels, leaf)}):
        decode = payload_decoder("avro", avro_schema=schema)
        assert decode is not None
        with pytest.raises(UndecodableError):
            decode(bytes(100))


def test_a_container_cannot_bring_a_schema_that_doubles_at_each_level() -> None:
    header = fastavro.parse_schema({"type": "map", "values": "bytes"})
    out = io.BytesIO(b"Obj\x01")
    out.seek(4)
    schema = json.dumps(_doubled(30, "null")).encode()
    fastavro.schemaless_writer(out, header, {"avro.schema": schema})
    out.write(bytes(16) + b"\x02\x00" + bytes(16))
    decode = payload_decoder("avro_container")
    assert decode is not None
    with pytest.raises(UndecodableError, match="more than 2,000,000 objects"):
        decode(out.getvalue())


def _nulls(count: int) -> Any:
    return {
        "type": "record",
        "name": "Nulls",
        "fields": [{"name": f"f{number}", "type": "null"} for number in range(count)],
    }


def _many(schema: Any, name: str, count: int) -> Any:
    """A record of so many fields of a named type."""
    types = [schema, *[schema["name"]] * (count - 1)]
    fields = [{"name": f"f{number}", "type": each} for number, each in enumerate(types)]
    return {"type": "record", "name": name, "fields": fields}


def test_fields_that_take_no_bytes_are_bounded_before_they_are_read() -> None:
    empty = {"type": "fixed", "name": "Fixed", "size": 0}
    for schema in (
        _many(_many(_nulls(1000), "Some", 100), "All", 50),
        _many(_many(_many(empty, "Few", 1000), "Some", 100), "All", 50),
        {"type": "array", "items": ["int", _nulls(1000)]},
        {"type": "map", "values": _nulls(1000)},
        {"type": "array", "items": ["null", {"type": "array", "items": ["null", _nulls(1000)]}]},
    ):
        decode = payload_decoder("avro", avro_schema=schema)
        assert decode is not None
        with pytest.raises(UndecodableError, match="more than 4,000,000 fields that take no bytes"):
            decode(bytes(10_000))


def test_a_reasonable_number_of_fields_that_take_no_bytes_is_read() -> None:
    number = {"name": "number", "type": "int"}
    row = {"type": "record", "name": "Row", "fields": [number, {"name": "nulls", "type": _nulls(30)}]}
    decode = payload_decoder("avro", avro_schema={"type": "array", "items": row})
    assert decode is not None
    documents = decode(_long(10_000) + bytes(10_000) + b"\0")
    assert isinstance(documents, list)
    assert documents[0].count(b'"f29":null') == 10_000


@pytest.mark.parametrize(
    ("item", "length"),
    [
        ({"type": "bytes", "logicalType": "decimal", "precision": 300, "scale": 256}, 258),
        ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 37}, 39),
        ({"type": "long", "logicalType": "timestamp-nanos"}, 30),
        ({"type": "int", "logicalType": "time-millis"}, 12),
        ({"type": "int", "logicalType": "date"}, 10),
    ],
)
def test_text_of_logical_types_is_bounded_while_it_is_made(
    item: Any, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MAX_OUTPUT_BYTES", 2**20)
    most = 2**20 // length
    decode = payload_decoder("avro", avro_schema={"type": "array", "items": item})
    assert decode is not None
    for _ in range(2):
        assert decode(_long(most) + bytes(most) + b"\0")
    # What follows is never reached, or the datum would be one that is cut off.
    with pytest.raises(UndecodableError, match="makes documents of more than"):
        decode(_long(most + 10) + bytes(most + 1))


def test_records_with_many_small_records_that_may_be_missing_are_read() -> None:
    part = {"type": "record", "name": "Part", "fields": [{"name": "s", "type": "string"}]}
    parts: list[Any] = [part, *["Part"] * 29]
    fields = [{"name": f"f{number}", "type": ["null", each]} for number, each in enumerate(parts)]
    schema = {"type": "array", "items": {"type": "record", "name": "Wide", "fields": fields}}
    decode = payload_decoder("avro", avro_schema=schema)
    assert decode is not None
    documents = decode(_long(120_000) + bytes(30) * 120_000 + b"\0")
    assert isinstance(documents, list)
    (document,) = documents
    assert document.count(b'"f29":null') == 120_000


@pytest.mark.parametrize(
    "item",
    [
        {"type": "enum", "name": "E", "symbols": ["x" * 10_000]},
        {"type": "record", "name": "R", "fields": [{"name": "x" * 10_000, "type": "int"}]},
    ],
)
def test_long_names_for_few_bytes_are_bounded(item: Any) -> None:
    decode = payload_decoder("avro", avro_schema={"type": "array", "items": item})
    assert decode is not None
    documents = decode(_long(6_000) + bytes(6_000) + b"\0")
    assert isinstance(documents, list)
    assert len(documents[0]) > 60_000_000
    with pytest.raises(UndecodableError, match="documents of more than 64 MiB"):
        decode(_long(7_000) + bytes(7_000) + b"\0")


def _long(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


def test_a_record_with_two_fields_of_one_name_is_refused() -> None:
    fields = [{"name": "x", "type": "int"}, {"name": "x", "type": "string"}]
    schema = {"type": "array", "items": {"type": "record", "name": "R", "fields": fields}}
    with pytest.raises(InvalidSettingError, match="two fields of one name"):
        payload_decoder("avro", avro_schema=schema)


@pytest.mark.parametrize("item", [b"\x80", b"\x90", b"\x81\xa1a\x01"])
def test_small_maps_and_arrays_of_messagepack_are_bounded(item: bytes) -> None:
    decode = payload_decoder("msgpack")
    assert decode is not None
    with pytest.raises(UndecodableError, match="more than 2,000,000 objects"):
        decode(b"\xdd" + (2_000_001).to_bytes(4) + item * 2_000_001)


def test_what_is_repeated_in_each_document_is_bounded() -> None:
    name = "x" * 2**20
    tsv = payload_decoder("tsv")
    logs = payload_decoder("cloudwatch_logs")
    assert tsv is not None
    assert logs is not None
    message = {"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": name, "logStream": "s"}
    events = [{"id": "1", "timestamp": 1, "message": ""}] * 100
    for decode, payload in (
        (tsv, f"{name}\n".encode() + b"1\n" * 100),
        (logs, json.dumps(message | {"logEvents": events}).encode()),
    ):
        with pytest.raises(UndecodableError, match="documents of more than 64 MiB"):
            decode(payload)
