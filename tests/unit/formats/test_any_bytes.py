"""Whatever bytes come, each format answers with documents, with what it dropped, or with a reason."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from fastavro import parse_schema, writer
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.avro import Avro
from airflow_kinesis_snowflake.formats.avro_schemas import fingerprint
from airflow_kinesis_snowflake.formats.basic import Binary, Json, Text
from airflow_kinesis_snowflake.formats.catalog import FORMATS, payload_decoder
from airflow_kinesis_snowflake.formats.compression import COMPRESSIONS, inflater
from airflow_kinesis_snowflake.formats.delimited import CSV, TSV, Pattern
from airflow_kinesis_snowflake.formats.engine import DroppedPayload, Format
from airflow_kinesis_snowflake.formats.envelope import refusal
from airflow_kinesis_snowflake.formats.looks import hint
from airflow_kinesis_snowflake.formats.protobuf import Protobuf
from airflow_kinesis_snowflake.formats.schema_registry import RegisteredSchema, without_header

CLOUDWATCH = {
    "messageType": "DATA_MESSAGE",
    "owner": "1",
    "logGroup": "g",
    "logStream": "s",
    "logEvents": [{"id": "1", "timestamp": 1, "message": '{"a": 1}', "extractedFields": {"a": "b"}}],
}
DYNAMODB = {
    "eventName": "MODIFY",
    "dynamodb": {
        "ApproximateCreationDateTime": 1764000000123,
        "Keys": {"k": {"N": "1"}},
        "NewImage": {"k": {"N": "1.5"}, "l": {"L": [{"M": {"b": {"B": "AA=="}}}]}, "s": {"NS": ["1"]}},
    },
}
DMS = {
    "data": {"id": 1},
    "metadata": {"record-type": "data", "operation": "insert", "schema-name": "s", "table-name": "t"},
}
DEBEZIUM = {
    "schema": {
        "type": "struct",
        "fields": [
            {
                "type": "struct",
                "field": "after",
                "fields": [
                    {
                        "field": "d",
                        "name": "org.apache.kafka.connect.data.Decimal",
                        "parameters": {"scale": "2"},
                    },
                    {"field": "t", "name": "io.debezium.time.MicroTimestamp"},
                ],
            }
        ],
    },
    "payload": {"after": {"d": "BOI=", "t": 1}, "source": {"ts_ms": 1, "lsn": 2}, "op": "c", "ts_ms": 1},
}
RECORD = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "a", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ],
}


DATUM = b"\x04\x00\x02\x02a\x00\x04\x04\xe2"


def container() -> bytes:
    out = io.BytesIO()
    writer(out, parse_schema(RECORD), [{"a": [None, "x"], "d": Decimal(1)}] * 3, codec="deflate")
    return out.getvalue()


CONTAINER = container()


def file_of_messages() -> FileDescriptorProto:
    """A message that contains itself, and others may contain."""
    file = FileDescriptorProto(name="m.proto", syntax="proto3", dependency=["google/protobuf/any.proto"])
    message = file.message_type.add(name="M")
    for number, (name, kind, of) in enumerate(
        (
            ("n", FieldDescriptorProto.TYPE_INT64, None),
            ("s", FieldDescriptorProto.TYPE_STRING, None),
            ("m", FieldDescriptorProto.TYPE_MESSAGE, ".M"),
            ("any", FieldDescriptorProto.TYPE_MESSAGE, ".google.protobuf.Any"),
        ),
        start=1,
    ):
        message.field.add(
            name=name, number=number, type=kind, type_name=of, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
    return file


MESSAGES = FileDescriptorSet(file=[file_of_messages()]).SerializeToString()
MESSAGE = b"\x08\x07\x12\x01x\x1a\x02\x08\x01\x22\x00"


class Registry:
    """Has the messages under every id."""

    def schema(self, _: int | str, /) -> RegisteredSchema:
        definition = base64.b64encode(file_of_messages().SerializeToString()).decode()
        return RegisteredSchema("PROTOBUF", definition)


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


CASES: list[tuple[Format, bytes]] = [
    (Json("array"), b'[{"a":1}, 2]'),
    (Json("sequence"), b'{"a":1}\n{"b":[2]} 3'),
    (Text(), b"it's"),
    (Binary(), b"\0\xff"),
    (Avro(schema=RECORD), DATUM),
    (Avro(resolver=lambda _: RECORD), b"\x00\x00\x00\x00\x07" + DATUM),
    (FORMATS["avro_container"](), CONTAINER),
    (FORMATS["avro_single_object"](schemas=[RECORD]), b"\xc3\x01" + fingerprint(RECORD) + DATUM),
    (Protobuf(descriptors=MESSAGES, message="M"), MESSAGE),
    (Protobuf(descriptors=MESSAGES, message="M", framing="delimited"), b"\x0b" + MESSAGE + b"\0"),
    (Protobuf(descriptors=MESSAGES, message="M", framing="header"), b"\0\0\0\0\7\0" + MESSAGE),
    (Protobuf(registry=Registry()), b"\0\0\0\0\7\2\0" + MESSAGE),
    (Protobuf(registry=Registry()), b"\3\0" + bytes(16) + b"\0" + MESSAGE),
    (FORMATS["json_schema"](), b'\x00\x00\x00\x00\x07{"a":1}'),
    (FORMATS["msgpack"](), msgspec.msgpack.encode({"a": [1.5, b"x", None]})),
    (CSV(names=["a", "b"]), b'1,"2\n"\n3,4'),
    (CSV(), b"a,b\n1,2"),
    (TSV(names=["a", "b"]), b"1\t-\n"),
    (Pattern("(?P<a>[^ ]+) (?P<b>[^ ]+)"), b"1 2\n3 4"),
    (FORMATS["cloudwatch_logs"](), as_json(CLOUDWATCH)),
    (FORMATS["cloudwatch_logs"](), gzip.compress(as_json(CLOUDWATCH), mtime=0)),
    (FORMATS["dynamodb"](), as_json(DYNAMODB)),
    (FORMATS["dms"](), as_json(DMS)),
    (FORMATS["debezium"](), as_json(DEBEZIUM)),
]
IDS = [f"{type(chosen).__name__}-{number}" for number, (chosen, _) in enumerate(CASES)]
by_case = pytest.mark.parametrize(("chosen", "whole"), CASES, ids=IDS)


def answer(chosen: Format, payload: bytes) -> list[Any] | DroppedPayload | None:
    """What comes of a payload; ``None``: a dead letter."""
    decode = payload_decoder(chosen)
    assert decode is not None
    try:
        documents = decode(payload, '{"id":1}')
    except UndecodableError:
        return None
    if isinstance(documents, DroppedPayload):
        return documents
    assert documents
    return [json.loads(document, parse_int=str) for document in documents if refusal(document) is None]


def test_every_format_is_here() -> None:
    assert {type(chosen) for chosen, _ in CASES} == set(FORMATS.values())


@by_case
def test_the_cases_land(chosen: Format, whole: bytes) -> None:
    assert answer(chosen, whole)


@by_case
def test_a_payload_that_is_cut_off_anywhere_has_an_answer(chosen: Format, whole: bytes) -> None:
    for end in range(len(whole)):
        answer(chosen, whole[:end])


@by_case
@settings(max_examples=40)
@given(data=st.data())
def test_a_payload_with_changed_bytes_has_an_answer(
    chosen: Format, whole: bytes, data: st.DataObject
) -> None:
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        piece = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"[", b"null", b"-1", b"1e999"])
        )
        changed[place : place + data.draw(st.integers(0, 3))] = piece
        if not changed:
            break
    answer(chosen, bytes(changed))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container in a tree, with each of its keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, inner in items for place in [(tree, key), *places(inner)]]


@pytest.mark.parametrize("name", ["cloudwatch_logs", "dynamodb", "dms", "debezium"])
@settings(max_examples=80)
@given(data=st.data())
def test_json_of_almost_the_right_shape_has_an_answer(name: str, data: st.DataObject) -> None:
    whole = {"cloudwatch_logs": CLOUDWATCH, "dynamodb": DYNAMODB, "dms": DMS, "debezium": DEBEZIUM}[name]
    tree = json.loads(json.dumps(whole))
    container, key = data.draw(st.sampled_from(places(tree)))
    if data.draw(st.booleans()):
        container[key] = data.draw(values)
    else:
        del container[key]
    answer(FORMATS[name](), as_json(tree))


@by_case
def test_deep_nesting_and_zeros_have_an_answer(chosen: Format, whole: bytes) -> None:
    for payload in (
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b"\0" * 10**5,
        b"\xff" * 10**5,
        b"\x91" * 10**5,
        b"9" * 10**5,
    ):
        answer(chosen, payload)
        answer(chosen, whole + payload)


@given(st.binary(max_size=40))
def test_a_hint_is_found_for_any_bytes(payload: bytes) -> None:
    assert isinstance(hint(payload), str)


SNAPPY = b"\xff\x06\x00\x00sNaPpY"


def compressed(kind: str, data: bytes) -> bytes:
    if kind == "gzip":
        return gzip.compress(data, mtime=0)
    if kind == "zlib":
        return zlib.compress(data)
    return bytes(pa.Codec(kind).compress(data, asbytes=True))


@pytest.mark.parametrize("kind", COMPRESSIONS)
@settings(max_examples=60)
@given(data=st.data())
def test_changed_compressed_bytes_have_an_answer(kind: str, data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(["gzip", "zlib", "zstd", "lz4", "snappy"])) if kind == "auto" else kind
    changed = bytearray(compressed(codec, b'{"a": 1}' * data.draw(st.integers(0, 20))))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, max(0, len(changed) - 1)))
        changed[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        inflated = inflater(kind, most=10_000)(bytes(changed))
    except UndecodableError:
        return
    assert len(inflated) <= 10_000


def test_bytes_behind_a_zlib_stream_of_glue_make_a_dead_letter() -> None:
    payload = b"\x03\x05" + bytes(16) + zlib.compress(b'{"a":1}')
    assert without_header(payload)[1] == b'{"a":1}'
    with pytest.raises(UndecodableError, match="left over"):
        without_header(payload + b'{"lost":2}')
