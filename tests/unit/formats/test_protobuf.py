"""Protobuf messages become the JSON that stands for the same values; what isn't one is a dead letter."""

from __future__ import annotations

import base64
import json
import struct
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.engine import Decoder, DroppedPayload
from airflow_kinesis_snowflake.formats.protobuf import Protobuf
from airflow_kinesis_snowflake.formats.protobuf_messages import Types
from airflow_kinesis_snowflake.formats.schema_registry import RegisteredSchema

PROTO = """
syntax = "proto3";
package shop.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Kind { KIND_UNSPECIFIED = 0; WEB = 1; }

message Order {
  message Line { string sku = 1; uint64 quantity = 2; }
  int64 id = 1;
  string name = 2;
  optional int32 rank = 3;
  Kind kind = 4;
  bytes image = 5;
  double total = 6;
  repeated Line lines = 7;
  repeated sint64 numbers = 8;
  map<string, Line> by_name = 9;
  map<bool, int64> flags = 10;
  map<int64, Kind> kinds = 11;
  oneof paid { string card = 12; fixed64 cash = 13; }
  Order before = 14;
  bool ListFields = 15;
  float ratio = 16;
}

message Known {
  google.protobuf.Timestamp time = 1;
  google.protobuf.Duration took = 2;
  google.protobuf.Int64Value count = 3;
  google.protobuf.BytesValue raw = 4;
  google.protobuf.DoubleValue share = 5;
  google.protobuf.Struct facts = 6;
  google.protobuf.Value value = 7;
  google.protobuf.ListValue list = 8;
  google.protobuf.Any any = 9;
  google.protobuf.FieldMask mask = 10;
  google.protobuf.Empty nothing = 11;
  repeated google.protobuf.Timestamp times = 12;
}
"""
OLD = """
syntax = "proto2";
message Old {
  required int32 id = 1;
  optional string text = 2;
  optional int32 size = 3 [default = 7];
  repeated group Part = 4 { optional int32 number = 5; }
  extensions 100 to 200;
}
extend Old { optional string note = 100; }
message Tree { repeated Tree children = 1; }
message Tiny { repeated Empty all = 1; }
message Empty { optional int32 a_field_with_quite_a_name = 1; }
"""


def descriptor_set(text: str, **imports: str) -> bytes:
    """What protoc writes for the text of a file, which may import others by their names."""
    standard = Path(protoc.__file__).parent / "_proto"
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in {**imports, "file": text}.items():
            (folder / f"{file}.proto").write_text(content)
        command = ["protoc", f"-I{folder}", f"-I{standard}", "--include_imports"]
        assert protoc.main([*command, f"--descriptor_set_out={folder / 'set'}", "file.proto"]) == 0
        return (folder / "set").read_bytes()


SET, OLD_SET = descriptor_set(PROTO), descriptor_set(OLD)


def last_file(descriptors: bytes) -> str:
    """What a registry has of a schema."""
    file = FileDescriptorSet.FromString(descriptors).file[-1]
    return base64.b64encode(file.SerializeToString()).decode()


@cache
def message_class(name: str, content: bytes = SET) -> Any:
    """The class of a message as other people's programs have it."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(name))


@cache
def decoder(name: str, descriptors: bytes, **more: Any) -> Decoder:
    decode = payload_decoder(Protobuf(descriptors=descriptors, message=name, **more))
    assert decode is not None
    return decode


def documents(decode: Decoder | None, payload: bytes) -> list[Any]:
    assert decode is not None
    found = decode(payload)
    assert not isinstance(found, DroppedPayload)
    return [json.loads(document, parse_float=Decimal) for document in found]


def decoded(payload: bytes, name: str = "shop.v1.Order", *, descriptors: bytes = SET, **more: Any) -> Any:
    found = documents(decoder(name, descriptors, **more), payload)
    return found if more.get("framing") == "delimited" else found[0]


def test_fields_that_can_be_absent_are_left_out_and_others_have_their_default() -> None:
    assert decoded(b"") == {
        "id": 0,
        "name": "",
        "kind": "KIND_UNSPECIFIED",
        "image": "",
        "total": 0,
        "lines": [],
        "numbers": [],
        "by_name": {},
        "flags": {},
        "kinds": {},
        "ListFields": False,
        "ratio": 0,
    }


def test_every_kind_of_field_comes_back() -> None:
    of = message_class("shop.v1.Order")
    order = of(
        id=-(2**63),
        name="Ann \0é",
        rank=0,
        kind=1,
        image=b"\xff\0",
        total=12.5,
        lines=[{"sku": "x", "quantity": 2**64 - 1}, {}],
        numbers=[-1, 2**63 - 1],
        by_name={"a": of.Line(sku="y")},
        flags={True: 1, False: 2},
        kinds={-7: 1, 8: 9},
        cash=2**64 - 1,
        before={"id": 1},
        ListFields=True,
    )

    document = decoded(order.SerializeToString())

    assert document.pop("before")["id"] == 1
    assert document == {
        "id": -(2**63),
        "name": "Ann \0é",
        "rank": 0,
        "kind": "WEB",
        "image": "/wA=",
        "total": 12.5,
        "lines": [{"sku": "x", "quantity": 2**64 - 1}, {"sku": "", "quantity": 0}],
        "numbers": [-1, 2**63 - 1],
        "by_name": {"a": {"sku": "y", "quantity": 0}},
        "flags": {"true": 1, "false": 2},
        "kinds": {"-7": "WEB", "8": 9},
        "cash": 2**64 - 1,
        "ListFields": True,
        "ratio": 0,
    }


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "NaN"), (float("inf"), "inf"), (float("-inf"), "-inf")]
)
def test_floats_that_json_does_not_have_are_text_that_snowflake_casts(value: float, text: str) -> None:
    order = message_class("shop.v1.Order")(total=value, ratio=value)
    assert [decoded(order.SerializeToString())[name] for name in ("total", "ratio")] == [text, text]


def test_well_known_types_become_what_they_stand_for() -> None:
    of = message_class("shop.v1.Known")
    known = of(
        time={"seconds": 1764000000, "nanos": 123},
        took={"seconds": -1, "nanos": -500_000_000},
        count={"value": 2**63 - 1},
        raw={"value": b"\xff"},
        share={"value": float("inf")},
        mask={"paths": ["a.b", "c"]},
        nothing={},
        times=[{"seconds": 0}],
    )
    known.facts.update({"a": [1, None, {"b": True}], "c": "d"})
    known.value.number_value = 1.5
    known.list.extend(["x", 2])

    assert decoded(known.SerializeToString(), "shop.v1.Known") == {
        "time": "2025-11-24T16:00:00.000000123Z",
        "took": Decimal("-1.500000000"),
        "count": 2**63 - 1,
        "raw": "/w==",
        "share": "inf",
        "facts": {"a": [1, None, {"b": True}], "c": "d"},
        "value": Decimal("1.5"),
        "list": ["x", 2],
        "mask": "a.b,c",
        "nothing": {},
        "times": ["1970-01-01T00:00:00.000000000Z"],
    }


def test_an_any_is_what_is_in_it() -> None:
    of = message_class("shop.v1.Known")
    line = message_class("shop.v1.Order.Line")(sku="x").SerializeToString()

    def document(url: str, value: bytes) -> Any:
        message = of(any={"type_url": url, "value": value}).SerializeToString()
        return decoded(message, "shop.v1.Known")["any"]

    host = "type.googleapis.com/"
    assert document(f"{host}shop.v1.Order.Line", line) == {
        "@type": f"{host}shop.v1.Order.Line",
        "sku": "x",
        "quantity": 0,
    }
    stamp = timestamp_pb2.Timestamp(seconds=1).SerializeToString()
    assert document(f"{host}google.protobuf.Timestamp", stamp)["value"] == "1970-01-01T00:00:01.000000000Z"
    assert document(f"{host}who.Knows", b"\xff") == {"@type": f"{host}who.Knows", "value": "/w=="}
    assert document("", b"") == {}
    with pytest.raises(UndecodableError, match=r"not a Protobuf message shop.v1.Order.Line"):
        document(f"{host}shop.v1.Order.Line", b"\xff")


def test_messages_of_proto2_have_groups_defaults_and_extensions() -> None:
    of = message_class("Old", OLD_SET)
    old = of(id=1, part=[{"number": 2}])
    old.Extensions[of.DESCRIPTOR.file.extensions_by_name["note"]] = "n"

    assert decoded(old.SerializeToString(), "Old", descriptors=OLD_SET) == {
        "id": 1,
        "part": [{"number": 2}],
        "[note]": "n",
    }
    with pytest.raises(UndecodableError, match="without a required field"):
        decoded(b"", "Old", descriptors=OLD_SET)
    with pytest.raises(UndecodableError, match="UTF-8"):
        decoded(b"\x08\x01\x12\x01\xff", "Old", descriptors=OLD_SET)


# --- framing -----------------------------------------------------------------------------------------------


def test_messages_with_their_length_in_front_are_a_document_each() -> None:
    order = message_class("shop.v1.Order")
    messages = [order(id=number, name="x" * 200 * number).SerializeToString() for number in range(3)]
    varints = [b"\x00", b"\xcd\x01", b"\x95\x03"]
    payload = b"".join(length + message for length, message in zip(varints, messages, strict=True))

    assert [document["id"] for document in decoded(payload, framing="delimited")] == [0, 1, 2]
    for wrong, reason in (
        (payload[:-1], "longer than what is left"),
        (b"", "empty"),
        (b"\xff" * 11, "cut off"),
    ):
        with pytest.raises(UndecodableError, match=reason):
            decoded(wrong, framing="delimited")


def test_the_header_of_a_registry_is_taken_off_without_asking_it() -> None:
    message = message_class("shop.v1.Order")(id=7).SerializeToString()
    for header in (b"\0\0\0\0\7\0", b"\0\0\0\0\7\x04\0\x02", b"\3\0" + bytes(16) + b"\1"):
        assert decoded(header + message, framing="header")["id"] == 7
    for wrong in (message, b"\0\0\0\0\7", b"\0\0\0\0\7\xff", b"\0\0\0\0\7\1", b"\0\0\0\0\7\xff\xff\xff\x7f"):
        with pytest.raises(UndecodableError):
            decoded(wrong, framing="header")


class Registry:
    """Has one schema."""

    def __init__(self, definition: str, references: dict[str, RegisteredSchema] | None = None) -> None:
        self._schema = RegisteredSchema("PROTOBUF", definition, references or {})
        self.asked: list[int | str] = []

    def schema(self, schema_id: int | str, /) -> RegisteredSchema:
        self.asked.append(schema_id)
        return self._schema


def of_registry(payload: bytes, registry: Any = None) -> Any:
    known = registry or Registry(last_file(SET))
    (document,) = documents(payload_decoder("protobuf", registry=known), payload)
    return document


@pytest.mark.parametrize(
    ("indexes", "keys"),
    [
        (b"\0", "ListFields"),
        (b"\2\2", "time"),
        (b"\4\0\0", "lines"),
        (b"\2\0", "name"),
    ],
)
def test_the_indexes_of_confluent_say_which_message_it_is(indexes: bytes, keys: str) -> None:
    payload = b"\0\0\0\0\7" + indexes
    if keys == "time":
        assert of_registry(payload + b"\x0a\0") == {"time": "1970-01-01T00:00:00.000000000Z", "times": []}
    elif keys == "lines":
        assert of_registry(payload) == {"sku": "", "quantity": 0}
    else:
        assert of_registry(payload)[keys] is not None


def test_the_index_of_glue_counts_by_name() -> None:
    header = b"\3\0" + bytes(16)
    # Known, Order, Order.ByNameEntry, Order.FlagsEntry, Order.KindsEntry, Order.Line
    assert of_registry(header + b"\0") == {"times": []}
    assert of_registry(header + b"\1")["name"] == ""
    assert of_registry(header + b"\5") == {"sku": "", "quantity": 0}
    with pytest.raises(UndecodableError, match="a message that the schema doesn't have"):
        of_registry(header + b"\6")


@pytest.mark.parametrize("indexes", [b"\2\4", b"\2\1", b"\4\0\x63", b"\6\0\0\0", b"\4\0\1"])
def test_indexes_that_lead_nowhere_make_a_dead_letter(indexes: bytes) -> None:
    with pytest.raises(UndecodableError, match="a message that the schema doesn't have"):
        of_registry(b"\0\0\0\0\7" + indexes)


# --- what doesn't fit --------------------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_a_dead_letter(payload: bytes) -> None:
    for name in ("shop.v1.Order", "shop.v1.Known"):
        try:
            document = decoded(payload, name)
        except UndecodableError:
            continue
        assert isinstance(document, dict)


def test_fields_that_the_schema_does_not_have_are_not_dropped_unless_that_is_asked_for() -> None:
    line = message_class("shop.v1.Order.Line")(sku="x").SerializeToString()
    for payload in (b"\xf8\x07\x01", b"\x3a" + bytes([len(line) + 3]) + line + b"\xf8\x07\x01"):
        with pytest.raises(
            UndecodableError, match=r"update the schema of .+ fields that the schema doesn't have"
        ):
            decoded(payload)
        assert decoded(payload, unknown_fields="ignore")["id"] == 0


def test_text_that_is_no_message_says_what_it_looks_like() -> None:
    with pytest.raises(UndecodableError, match="looks like a payload with the header of Confluent's"):
        decoded(b"\0\0\0\0\7\0\x08\x07")


@pytest.mark.parametrize("nanos", [-1, 10**9])
def test_a_moment_that_no_calendar_has_is_a_dead_letter(nanos: int) -> None:
    of = message_class("shop.v1.Known")
    for time in ({"nanos": nanos}, {"seconds": 2**62}):
        with pytest.raises(UndecodableError, match=r"Timestamp|outside"):
            decoded(of(time=time).SerializeToString(), "shop.v1.Known")


def test_depth_is_bounded() -> None:
    tree = b""
    for _ in range(500):
        tree = b"\x0a" + _varint(len(tree)) + tree
    with pytest.raises(UndecodableError, match="not a Protobuf message Tree"):
        decoded(tree, "Tree", descriptors=OLD_SET)
    inside = any_pb2.Any()
    for _ in range(500):
        outside = any_pb2.Any()
        outside.Pack(inside)
        inside = outside
    known = message_class("shop.v1.Known")(any={"type_url": inside.type_url, "value": inside.value})
    with pytest.raises(UndecodableError, match="nested too deeply"):
        decoded(known.SerializeToString(), "shop.v1.Known")


def test_what_a_few_bytes_stand_for_is_bounded() -> None:
    with pytest.raises(UndecodableError, match="more than 64 MiB"):
        decoded(b"\x0a\0" * 2_000_000, "Tiny", descriptors=OLD_SET)
    with pytest.raises(UndecodableError, match="larger than 16 MiB"):
        decoded(bytes(17 * 2**20))


def test_what_messages_in_messages_hold_once_more_at_each_level_is_bounded() -> None:
    known = message_class("shop.v1.Known")

    def nested(levels: int) -> bytes:
        inside = known(raw={"value": bytes(2**20)})
        for _ in range(levels):
            outside = known()
            outside.any.Pack(inside)
            inside = outside
        payload: bytes = inside.SerializeToString()
        return payload

    assert decoded(nested(3), "shop.v1.Known")["any"]["any"]["any"]["raw"]
    with pytest.raises(UndecodableError, match="more than 64 MiB"):
        decoded(nested(80), "shop.v1.Known")


def test_long_names_for_few_bytes_are_bounded() -> None:
    name = "x" * 10_000
    of_both = descriptor_set(
        f"""
        syntax = "proto2";
        message Row {{ optional int32 {name} = 1; }}
        message Rows {{ repeated Row all = 1; }}
        enum Kind {{ NONE = 0; {name.upper()} = 1; }}
        message Kinds {{ repeated Kind all = 1; }}
        """
    )
    for message, item in (("Rows", b"\x0a\x02\x08\x01"), ("Kinds", b"\x08\x01")):
        assert len(decoded(item * 6_000, message, descriptors=of_both)["all"]) == 6_000
        with pytest.raises(UndecodableError, match="more than 64 MiB"):
            decoded(item * 7_000, message, descriptors=of_both)


def _varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + _varint(number >> 7)


# --- schemas that aren't what they should be ---------------------------------------------------------------


def test_a_type_that_only_has_a_well_known_name_is_read_as_what_it_is() -> None:
    mine = """
    syntax = "proto3";
    package google.protobuf;
    message Timestamp { string text = 1; }
    message Struct { int32 fields = 1; }
    """
    text = b"\x0a\x01x"
    assert decoded(text, "google.protobuf.Timestamp", descriptors=descriptor_set(mine)) == {"text": "x"}
    assert decoded(b"", "google.protobuf.Struct", descriptors=descriptor_set(mine)) == {"fields": 0}


def test_well_known_messages_are_read_on_their_own() -> None:
    value = wrappers_pb2.Int64Value(value=7).SerializeToString()
    assert decoded(value, "google.protobuf.Int64Value") == 7
    assert decoded(struct_pb2.Value().SerializeToString(), "google.protobuf.Value") is None


@pytest.mark.parametrize("definition", ["", "syntax = 'proto3';", "////", "C" * 8, "CgE=", "\ud800", "é"])
def test_a_registered_schema_that_cannot_be_used_makes_dead_letters(definition: str) -> None:
    registry = Registry(definition)
    decode = payload_decoder("protobuf", registry=registry)
    assert decode is not None
    for _ in range(2):
        with pytest.raises(UndecodableError):
            decode(b"\0\0\0\0\7\0\x08\x07")
    assert registry.asked == [7]


@given(st.data())
def test_a_schema_with_changed_bytes_has_an_answer(data: st.DataObject) -> None:
    file = bytearray(base64.b64decode(last_file(SET)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(file) - 1))
        file[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    of = message_class("shop.v1.Order")
    order = of(id=7, lines=[{"sku": "x"}], by_name={"a": of.Line()}, before={})
    for message in (b"\0\0\0\0\7\0" + order.SerializeToString(), b"\0\0\0\0\7\2\2\x0a\0"):
        try:
            of_registry(message, Registry(base64.b64encode(bytes(file)).decode()))
        except UndecodableError:
            continue


KEY, VALUE = ("key", 1), ("value", 2)


def file_with_a_map(
    entry: list[tuple[str, int]], *, field: str, inner: str = "OPTIONAL", extends: bool = False
) -> bytes:
    """A file as somebody writes it by hand.

    :param entry: names and numbers of the fields of an entry
    :param field: label of the field that holds the entries
    :param inner: label of the fields of an entry
    :param extends: the field is an extension
    """
    labels = FieldDescriptorProto.Label
    file = FileDescriptorProto(name="m.proto")
    message = file.message_type.add(name="M")
    message.extension_range.add(start=1, end=100)
    of_map = message.nested_type.add(name="AllEntry")
    of_map.options.map_entry = True
    for name, number in entry:
        of_map.field.add(
            name=name,
            number=number,
            type=FieldDescriptorProto.TYPE_STRING,
            label=labels.Value(f"LABEL_{inner}"),
        )
    (file.extension if extends else message.field).add(
        name="all",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".M.AllEntry",
        label=labels.Value(f"LABEL_{field}"),
        extendee=".M" if extends else None,
    )
    content: bytes = file.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("entry", "more"),
    [
        ([KEY, ("value", 3)], {"field": "REPEATED"}),
        ([("key", 2), ("value", 1)], {"field": "REPEATED"}),
        ([("key", 5), VALUE], {"field": "REPEATED"}),
        ([VALUE, KEY], {"field": "REPEATED"}),
        ([("k", 1), ("v", 2)], {"field": "REPEATED"}),
        ([KEY], {"field": "REPEATED"}),
        ([KEY, VALUE, ("more", 3)], {"field": "REPEATED"}),
        ([KEY, VALUE], {"field": "REPEATED", "inner": "REQUIRED"}),
        ([KEY, VALUE], {"field": "OPTIONAL"}),
        ([KEY, VALUE], {"field": "REQUIRED"}),
        ([KEY, VALUE], {"field": "REPEATED", "extends": True}),
        ([KEY, VALUE], {"field": "OPTIONAL", "extends": True}),
    ],
)
def test_a_map_that_no_compiler_writes_is_refused_before_the_library_reads_it(
    entry: list[tuple[str, int]], more: dict[str, Any]
) -> None:
    """Reading a message would end the process with some of these schemas, so the test doesn't try."""
    file = file_with_a_map(entry, **more)
    with pytest.raises(UndecodableError, match="not a Protobuf schema that can be used"):
        Types.registered(RegisteredSchema("PROTOBUF", base64.b64encode(file).decode()), strict=True)
    with pytest.raises(InvalidSettingError, match="FileDescriptorSet"):
        Protobuf(descriptors=b"\n" + _varint(len(file)) + file, message="M").decoder()


def test_a_map_that_a_compiler_writes_is_read() -> None:
    file = file_with_a_map([KEY, VALUE], field="REPEATED")
    entry = b"\x0a\x06\x0a\x01k\x12\x01v"
    assert of_registry(b"\0\0\0\0\7\0" + entry, Registry(base64.b64encode(file).decode())) == {
        "all": {"k": "v"}
    }


def test_names_of_a_schema_are_shown_only_as_far_as_a_reason_may_be_long() -> None:
    long = "x" * 10_000
    file = FileDescriptorProto(name="m.proto", dependency=[f"a\n{long}", *"bcdefg"])
    file.message_type.add(name="M").field.add(
        name="a",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".Missing",
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    missing = Registry(base64.b64encode(file.SerializeToString()).decode())
    with pytest.raises(UndecodableError, match=r"imports a\\nx+…, b, c, …, which is missing") as raised:
        of_registry(b"\0\0\0\0\7\0", missing)
    assert len(str(raised.value)) < 400
    named = descriptor_set(f'syntax = "proto2"; message {long} {{ required int32 a = 1; }}')
    for payload in (b"\xff", b"", b"\x08\x01\x10\x01"):
        with pytest.raises(UndecodableError, match="xxx…") as raised:
            decoded(payload, long, descriptors=named)
        assert len(str(raised.value)) < 400


def test_imports_come_from_references_and_those_that_nobody_has_matter_only_where_they_are_used() -> None:
    imports = {
        "money": 'syntax = "proto3"; message Money { int64 units = 1; }',
        "meta": 'syntax = "proto3"; message Meta {}',
    }
    money = last_file(descriptor_set(imports["money"]))
    bill = last_file(
        descriptor_set(
            'syntax = "proto3"; import "money.proto"; import "meta.proto"; message Bill { Money sum = 1; }',
            **imports,
        )
    )
    payload = b"\0\0\0\0\7\0\x0a\x02\x08\x05"

    found = of_registry(payload, Registry(bill, {"money.proto": RegisteredSchema("PROTOBUF", money)}))
    assert found == {"sum": {"units": 5}}
    with pytest.raises(UndecodableError, match=r"imports money.proto, meta.proto, which is missing"):
        of_registry(payload, Registry(bill))


def test_a_schema_of_another_kind_is_a_dead_letter() -> None:
    class Other:
        def schema(self, _: int | str, /) -> RegisteredSchema:
            return RegisteredSchema("AVRO", '"int"')

    with pytest.raises(UndecodableError, match="schema 7 of the registry: is of another kind than PROTOBUF"):
        of_registry(b"\0\0\0\0\7\0", Other())


# --- settings ----------------------------------------------------------------------------------------------


def test_descriptors_are_bytes_or_base64_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "orders"
    path.write_bytes(SET)
    for descriptors in (SET, base64.b64encode(SET).decode(), str(path)):
        decode = Protobuf(descriptors=descriptors, message="shop.v1.Order").decoder()
        assert documents(decode, b"\x08\x07")[0]["id"] == 7


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"descriptors": b""}, "together"),
        ({"message": "M"}, "together"),
        ({"framing": "other"}, "framing must be one of none, delimited, header"),
        ({"unknown_fields": "other"}, "unknown_fields must be one of"),
        ({}, "Set registry_conn_id"),
        ({"descriptors": b"x", "message": "M"}, "FileDescriptorSet"),
        ({"descriptors": b"", "message": "M"}, "which have no 'M'"),
        ({"descriptors": "/no/such/file", "message": "M"}, "a file that protoc wrote"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidSettingError, match=reason):
        payload_decoder(Protobuf(**settings))


def test_a_registry_belongs_to_formats_with_schemas() -> None:
    with pytest.raises(InvalidSettingError, match="no schema registry, only Avro, Protobuf, JsonSchema do"):
        payload_decoder("msgpack", registry=Registry(""))
    header = struct.pack(">BI", 0, 7)
    decode = payload_decoder("json_schema", registry=Registry(""))
    assert decode is not None
    with pytest.raises(UndecodableError, match="of another kind than JSON"):
        decode(header + b"{}")
