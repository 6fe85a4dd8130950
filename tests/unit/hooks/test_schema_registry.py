"""Registries are asked once for a schema; what they don't have, don't answer or get wrong stops no stream."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import uuid
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import boto3
import fastavro
import pytest
from airflow.models import Connection
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from moto.server import ThreadedMotoServer

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
    UndecodableError,
)
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.engine import DroppedPayload
from airflow_kinesis_snowflake.formats.schema_registry import RegisteredSchema
from airflow_kinesis_snowflake.hooks import proto_files, schema_registry
from airflow_kinesis_snowflake.hooks.schema_registry import (
    CachedSchemaRegistry,
    ConfluentSchemaRegistryHook,
    GlueSchemaRegistryHook,
    open_schema_registry,
)
from tests.schema_registry import LOGIN, LocalRegistry, local_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT = SerializationContext("orders", MessageField.VALUE)
ORDER = {"type": "record", "name": "shop.Order", "fields": [{"name": "id", "type": "long"}]}
PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Order { int64 id = 1; google.protobuf.Timestamp time = 2; }
"""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRegistry]:
    with local_registry() as found:
        connect(monkeypatch, found.url)
        yield found


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **more: Any) -> None:
    login, password = LOGIN
    settings = {"conn_type": "http", "host": url, "login": login, "password": password, **more}
    monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", Connection(conn_id="registry", **settings).as_json())


@pytest.fixture
def confluent(registry: LocalRegistry) -> Iterator[SchemaRegistryClient]:
    """The client that Confluent's serializers register schemas by."""
    with SchemaRegistryClient({"url": registry.url, "basic.auth.user.info": ":".join(LOGIN)}) as client:
        yield client


def documents(payload_format: str, payload: bytes) -> list[Any]:
    decode = payload_decoder(payload_format, registry=open_schema_registry("registry"))
    assert decode is not None
    found = decode(payload)
    assert not isinstance(found, DroppedPayload)
    return [json.loads(document) for document in found]


def headed(schema_id: int, data: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4) + data


def avro(value: Any, schema: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def order_class() -> Any:
    """The class of a message that imports another file."""
    file = FileDescriptorProto(name="shop/order.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.dependency.append("shop/money.proto")
    message = file.message_type.add(name="Order")
    one = FieldDescriptorProto.LABEL_OPTIONAL
    message.field.add(name="id", number=1, type=FieldDescriptorProto.TYPE_INT64, label=one)
    message.field.add(
        name="time",
        number=2,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".google.protobuf.Timestamp",
        label=one,
    )
    message.field.add(
        name="sum", number=3, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=".shop.Money", label=one
    )
    message.nested_type.add(name="Line").field.add(
        name="sku", number=1, type=FieldDescriptorProto.TYPE_STRING, label=one
    )
    money = FileDescriptorProto(name="shop/money.proto", package="shop", syntax="proto3")
    money.message_type.add(name="Money").field.add(
        name="units", number=1, type=FieldDescriptorProto.TYPE_UINT64, label=one
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(money)
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


# --- what other people's serializers write -----------------------------------------------------------------


def test_confluents_avro_serializer(confluent: SchemaRegistryClient) -> None:
    serialize = AvroSerializer(confluent, json.dumps(ORDER))
    assert documents("avro", serialize({"id": 2**62}, CONTEXT)) == [{"id": 2**62}]


def test_confluents_json_serializer(confluent: SchemaRegistryClient) -> None:
    schema = '{"title": "Order", "type": "object", "properties": {"id": {"type": "integer"}}}'
    serialize = JSONSerializer(schema, confluent)
    assert documents("json_schema", serialize({"id": 7}, CONTEXT)) == [{"id": 7}]


def test_confluents_protobuf_serializer_with_imports_and_nested_messages(
    confluent: SchemaRegistryClient,
) -> None:
    of = order_class()
    settings = {"use.deprecated.format": False}
    order = of(id=7, time={"seconds": 1}, sum={"units": 2**64 - 1})
    payload = ProtobufSerializer(of, confluent, settings)(order, CONTEXT)
    assert documents("protobuf", payload) == [
        {"id": 7, "time": "1970-01-01T00:00:01.000000000Z", "sum": {"units": 2**64 - 1}}
    ]
    line = ProtobufSerializer(of.Line, confluent, settings)(of.Line(sku="x"), CONTEXT)
    assert documents("protobuf", line) == [{"sku": "x"}]


def test_avro_that_refers_to_other_subjects(confluent: SchemaRegistryClient) -> None:
    line = {"type": "record", "name": "shop.Line", "fields": [{"name": "sku", "type": "string"}]}
    part = {"type": "record", "name": "shop.Part", "fields": [{"name": "line", "type": "shop.Line"}]}
    confluent.register_schema("line", Schema(json.dumps(line), "AVRO"))
    of_line = SchemaReference("shop.Line", "line", 1)
    confluent.register_schema("part", Schema(json.dumps(part), "AVRO", [of_line]))
    references = [SchemaReference("shop.Part", "part", 1), of_line]
    schema = {"type": "array", "items": ["null", "shop.Part"]}
    number = confluent.register_schema("orders-value", Schema(json.dumps(schema), "AVRO", references))

    # One item, the second branch of the union, a text of one character.
    assert documents("avro", headed(number, b"\x02\x02\x02x\x00")) == [[{"line": {"sku": "x"}}]]


def test_a_schema_that_changes_in_mid_stream(
    registry: LocalRegistry, confluent: SchemaRegistryClient
) -> None:
    wider = {**ORDER, "fields": [*ORDER["fields"], {"name": "name", "type": "string", "default": ""}]}
    payloads = [
        AvroSerializer(confluent, json.dumps(schema))(value, CONTEXT)
        for schema, value in ((ORDER, {"id": 1}), (wider, {"id": 2, "name": "x"}), (ORDER, {"id": 3}))
    ]
    decode = payload_decoder("avro", registry=open_schema_registry("registry"))
    assert decode is not None
    registry.asked.clear()

    found = [decode(payload) for payload in payloads * 3]

    assert found == [[b'{"id":1}'], [b'{"id":2,"name":"x"}'], [b'{"id":3}']] * 3
    assert len(registry.asked) == 2


# --- text of Protobuf --------------------------------------------------------------------------------------


def test_a_registry_that_gives_text_unless_asked_for_descriptors(registry: LocalRegistry) -> None:
    file = FileDescriptorProto(name="o.proto", syntax="proto3")
    file.message_type.add(name="O").field.add(
        name="n", number=1, type=FieldDescriptorProto.TYPE_INT32, label=FieldDescriptorProto.LABEL_OPTIONAL
    )
    number = registry.register(
        "orders",
        {"schema": 'syntax = "proto3"; message O { int32 n = 1; }', "schemaType": "PROTOBUF"},
        serialized=base64.b64encode(file.SerializeToString()).decode(),
    )
    assert documents("protobuf", headed(number, b"\0\x08\x05")) == [{"n": 5}]
    assert any(asked.endswith("?format=serialized") for asked in registry.asked)


def test_a_registry_that_knows_nothing_but_text(registry: LocalRegistry) -> None:
    registry.register(
        "money", {"schema": 'syntax = "proto3"; message Money { int64 units = 1; }', "schemaType": "PROTOBUF"}
    )
    schema = (
        'syntax = "proto3"; import "shop/money.proto"; import "google/protobuf/timestamp.proto"; '
        "message O { Money sum = 1; google.protobuf.Timestamp time = 2; }"
    )
    references = [{"name": "shop/money.proto", "subject": "money", "version": 1}]
    number = registry.register(
        "orders", {"schema": schema, "schemaType": "PROTOBUF", "references": references}
    )
    assert documents("protobuf", headed(number, b"\0\x0a\x02\x08\x05\x12\0")) == [
        {"sum": {"units": 5}, "time": "1970-01-01T00:00:00.000000000Z"}
    ]


def test_a_reference_that_was_deleted_is_read_as_text_and_as_a_descriptor(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = registry.answer

    def softly_deleted(method: str, target: str, body: bytes) -> tuple[int, bytes]:
        if target.startswith("/subjects/money") and "deleted=true" not in target:
            return 404, b'{"error_code": 40402}'
        return answer(method, target, body)

    monkeypatch.setattr(registry, "answer", softly_deleted)
    order = order_class().DESCRIPTOR.file
    _, money = order.dependencies
    as_text = {"schema": "syntax = 'proto3';", "schemaType": "PROTOBUF"}
    registry.register("money", as_text, serialized=base64.b64encode(money.serialized_pb).decode())
    references = [{"name": "shop/money.proto", "subject": "money", "version": 1}]
    number = registry.register(
        "orders",
        {**as_text, "references": references},
        serialized=base64.b64encode(order.serialized_pb).decode(),
    )
    assert documents("protobuf", headed(number, b"\0\x1a\x02\x08\x05")) == [{"id": 0, "sum": {"units": 5}}]


def test_a_reference_that_is_gone_once_its_text_was_read_makes_a_dead_letter(registry: LocalRegistry) -> None:
    answers = []

    def answer(path: str) -> tuple[int, bytes] | None:
        answers.append(path)
        return (404, b'{"error_code": 40401}') if answers.count(path) > 1 and "money" in path else None

    registry.register("money", {"schema": "message M {}", "schemaType": "PROTOBUF"})
    references = [{"name": "m.proto", "subject": "money", "version": 1}]
    number = registry.register(
        "orders", {"schema": "message O {}", "schemaType": "PROTOBUF", "references": references}
    )
    registry.instead = answer
    with pytest.raises(UndecodableError, match="refers to a schema that the registry doesn't have"):
        documents("protobuf", headed(number, b"\0"))


def test_a_compiler_that_was_suspended_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run, started = subprocess.run, []

    def first_suspended(*arguments: Any, **settings: Any) -> Any:
        started.append(arguments)
        if len(started) == 1:
            raise subprocess.TimeoutExpired("protoc", 30)
        return run(*arguments, **settings)

    monkeypatch.setattr(subprocess, "run", first_suspended)

    assert proto_files.compiled('syntax = "proto3"; message M {}', imports={}).definition
    assert len(started) == 2


@pytest.mark.parametrize(
    "text", ["message {", "", "syntax = 'proto3'; import 'no.proto';", "\ud800", "{" * 10**5]
)
def test_text_that_does_not_compile_makes_a_dead_letter(registry: LocalRegistry, text: str) -> None:
    number = registry.register("orders", {"schema": text, "schemaType": "PROTOBUF"})
    with pytest.raises(UndecodableError):
        documents("protobuf", headed(number, b"\0\x08\x05"))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../up.proto", "a/../../up.proto", "x" * 300 + ".proto", "a.proto/b.proto"]
)
def test_an_import_leads_to_no_other_place(registry: LocalRegistry, name: str) -> None:
    registry.register("money", {"schema": "message M {}", "schemaType": "PROTOBUF"})
    references = [{"name": name, "subject": "money", "version": 1}]
    number = registry.register(
        "orders", {"schema": "message O {}", "schemaType": "PROTOBUF", "references": references}
    )
    with pytest.raises(UndecodableError, match=r"isn't one of a \.proto file"):
        documents("protobuf", headed(number, b"\0"))


# --- registries that don't have it, don't answer, or lie ---------------------------------------------------


def test_an_id_that_nobody_knows_is_a_dead_letter_and_asked_for_once(registry: LocalRegistry) -> None:
    decode = payload_decoder("avro", registry=open_schema_registry("registry"))
    assert decode is not None
    for _ in range(3):
        with pytest.raises(UndecodableError, match="the registry has no schema 7"):
            decode(headed(7, b"\2"))
    with pytest.raises(UndecodableError, match="the registry has no schema"):
        decode(b"\3\0" + uuid.UUID(int=7).bytes)
    assert registry.asked == ["GET /schemas/ids/7"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"{}", AccessDeniedError),
        (403, b"<html>", AccessDeniedError),
        (429, b"{}", ThrottledError),
        (500, b'{"error_code": 50001}', ServiceUnavailableError),
        (503, b"", ServiceUnavailableError),
        (200, b"<html>log in</html>", ServiceUnavailableError),
        (200, b"[" * 10**5, ServiceUnavailableError),
        (200, b"[]", ServiceUnavailableError),
        (404, b"<html>", ServiceRefusedError),
        (404, b'{"error_code": 404}', ServiceRefusedError),
        (302, b"", ServiceRefusedError),
        (400, b"{}", ServiceRefusedError),
    ],
)
def test_what_is_not_the_fault_of_the_record(
    registry: LocalRegistry, status: int, body: bytes, error: type[Exception]
) -> None:
    registry.instead = lambda _: (status, body)
    with pytest.raises(error, match=r"the schema registry at http://127\.0\.0\.1") as raised:
        documents("avro", headed(7, b"\2"))
    assert LOGIN[1] not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"schema": None},
        {"schema": 7},
        {"schema": "no schema"},
        {"schema": '"int"', "schemaType": 7},
        {"schema": '"int"', "schemaType": "PROTOBUF"},
        {"schema": '"int"', "references": 7},
        {"schema": '"int"', "references": [7]},
        {"schema": '"int"', "references": [{"name": "x", "subject": "y"}]},
        {"schema": '"int"', "references": [{"name": "", "subject": "y", "version": 1}]},
        {"schema": '"int"', "references": [{"name": "x", "subject": "y", "version": 1}]},
        {"schema": '"int"', "references": [{"name": "x", "subject": "y", "version": -5}]},
        {"schema": '"int"', "references": [{"name": "x", "subject": "y", "version": True}]},
        {"schema": '"x', "references": [{"name": "x", "subject": "y", "version": 1}] * 101},
        {"schema": "x" * 5_000_000},
        {"schema": "[" * 1_000_000},
    ],
)
@pytest.mark.parametrize("payload_format", ["avro", "protobuf", "json_schema"])
def test_a_registry_that_lies_makes_dead_letters(
    registry: LocalRegistry, payload_format: str, body: dict[str, Any]
) -> None:
    # What is referred to is the same again.
    registry.instead = lambda _: (200, json.dumps(body).encode())
    with pytest.raises(UndecodableError):
        documents(payload_format, headed(7, b"\0\2"))
    assert len(registry.asked) < 110


@pytest.mark.parametrize("status", [404, 422])
def test_a_reference_that_the_registry_does_not_know_makes_a_dead_letter(
    registry: LocalRegistry, status: int
) -> None:
    schema = {"schema": '"int"', "references": [{"name": "x", "subject": "y", "version": 1}]}
    registry.instead = lambda path: (200 if "/ids/" in path else status, json.dumps(schema).encode())
    with pytest.raises(UndecodableError, match="refers to a schema"):
        documents("avro", headed(7, b"\2"))


def test_an_id_that_no_registry_gives_out_is_not_asked_for(registry: LocalRegistry) -> None:
    with pytest.raises(UndecodableError, match="has no schema"):
        documents("avro", headed(2**31, b"\2"))
    assert registry.asked == []


def test_references_that_go_on_for_ever_end(registry: LocalRegistry) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        subjects = [f"{path[-40:]}{number}" for number in range(50)]
        references = [{"name": subject, "subject": subject, "version": 1} for subject in subjects]
        return 200, json.dumps({"schema": '"int"', "references": references}).encode()

    registry.instead = answer
    with pytest.raises(UndecodableError, match="refers to more than 100 schemas"):
        documents("avro", headed(7, b"\2"))
    assert len(registry.asked) <= 101


def test_a_registry_that_is_not_there_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "http://127.0.0.1:9")
    decode = payload_decoder("avro", registry=open_schema_registry("registry"))
    assert decode is not None
    with pytest.raises(ServiceUnavailableError, match=r"doesn't answer \(ConnectionError\)"):
        decode(headed(7, b"\2"))
    with pytest.raises(ServiceUnavailableError, match="failed a moment ago"):
        decode(headed(8, b"\2"))


def test_an_answer_that_takes_too_long_is_given_up(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_registry, "_MAX_ANSWER_SECONDS", -1)
    number = registry.register("orders", {"schema": '"int"'})
    with pytest.raises(ServiceUnavailableError, match=r"doesn't answer \(TimeoutError\)"):
        documents("avro", headed(number, b"\2"))


@dataclass
class Flaky:
    """A registry that fails as often as it is told to."""

    failures: int
    asked: int = 0

    def fetch(self, schema_id: int | str) -> RegisteredSchema:
        self.asked += 1
        if self.asked <= self.failures:
            raise ServiceUnavailableError("no")
        if schema_id == 404:
            raise LookupError
        return RegisteredSchema("AVRO", '"int"')


def test_the_longer_a_registry_fails_the_less_it_is_asked() -> None:
    now = [0.0]
    flaky = Flaky(failures=8)
    cached = CachedSchemaRegistry(flaky.fetch, monotonic=lambda: now[0])
    asked_at = []
    while True:
        before = flaky.asked
        with suppress(ServiceUnavailableError):
            cached.schema(7)
        if flaky.asked > before:
            asked_at.append(now[0])
        if flaky.asked > flaky.failures:
            break
        now[0] += 0.5
    assert [later - sooner for sooner, later in pairwise(asked_at)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize(
    ("payload_format", "schema", "asked"),
    [
        # The text, and whether there is a descriptor.
        ("protobuf", {"schema": "message {", "schemaType": "PROTOBUF"}, 2),
        ("avro", {"schema": '"int"', "references": [{"name": "x", "subject": "y", "version": "latest"}]}, 1),
        ("avro", {"schema": "x" * 5_000_000}, 1),
        ("json_schema", {"schema": "x" * 2_200_000}, 1),
    ],
)
def test_a_schema_that_cannot_be_used_is_asked_for_and_compiled_once(
    registry: LocalRegistry,
    monkeypatch: pytest.MonkeyPatch,
    payload_format: str,
    schema: dict[str, Any],
    asked: int,
) -> None:
    compiling = []

    def compiled(definition: str, *, imports: Any) -> RegisteredSchema:
        compiling.append(definition)
        return proto_files.compiled(definition, imports=imports)

    monkeypatch.setattr(schema_registry, "compiled", compiled)
    number = registry.register("orders", schema)
    known = open_schema_registry("registry")
    for decode in (payload_decoder(payload_format, registry=known) for _ in range(2)):
        assert decode is not None
        for _ in range(3):
            with pytest.raises(UndecodableError, match=f"schema {number} of the registry: "):
                decode(headed(number, b"\0\2"))
    assert len(registry.asked) == asked
    assert len(compiling) == (payload_format == "protobuf")


def test_a_registry_that_answers_what_cannot_be_used_has_not_failed() -> None:
    answers = [ServiceUnavailableError("1"), UndecodableError("2")] * 3
    now = [0.0]

    def fetch(_: int | str) -> RegisteredSchema:
        raise answers[len(asked) - 1]

    asked: list[int] = []
    cached = CachedSchemaRegistry(fetch, monotonic=lambda: now[0])
    for answer in answers:
        asked.append(len(asked))
        with pytest.raises(type(answer), match=str(answer)):
            cached.schema(len(asked))
        # As long as one leaves a registry alone that has failed once.
        now[0] += 0.5


def test_what_is_kept_is_bounded_with_all_that_schemas_refer_to() -> None:
    asked = []

    def fetch(schema_id: int | str) -> RegisteredSchema:
        asked.append(schema_id)
        part = RegisteredSchema("AVRO", "x" * (8 if schema_id == 7 else 40) * 2**20)
        return RegisteredSchema("AVRO", "", {"part": part})

    cached = CachedSchemaRegistry(fetch)
    for schema_id in (1, 1, 7, 7, 1):
        cached.schema(schema_id)
    # What is heavier than the limit is kept alone, or each record would ask for it.
    assert asked == [1, 7, 1]


def test_an_id_that_was_unknown_is_asked_for_again_later() -> None:
    now = [0.0]
    flaky = Flaky(failures=0)
    cached = CachedSchemaRegistry(flaky.fetch, monotonic=lambda: now[0])
    for seconds, asked in ((0, 1), (29, 1), (30, 2)):
        now[0] = seconds
        with pytest.raises(LookupError):
            cached.schema(404)
        assert flaky.asked == asked
    assert cached.schema(7) is cached.schema(7)


# --- connections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"host": "127.0.0.1", "schema": "http"}, ""),
        ({"host": "127.0.0.1"}, ""),
        ({"host": "http://127.0.0.1"}, ""),
        ({"host": "http://127.0.0.1/apis/ccompat/v7/"}, "/apis/ccompat/v7"),
    ],
)
def test_a_connection_may_say_where_the_registry_is_in_several_ways(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], path: str
) -> None:
    connect(monkeypatch, "", **settings, port=int(registry.url.rpartition(":")[2]))
    with pytest.raises((LookupError, ServiceRefusedError)):
        ConfluentSchemaRegistryHook("registry").fetch(7)
    assert registry.asked == [f"GET {path}/schemas/ids/7"]


def test_a_token_in_the_place_of_a_login(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    token = base64.b64encode(":".join(LOGIN).encode()).decode()
    extra = json.dumps({"headers": {"Authorization": f"Basic {token}"}})
    connect(monkeypatch, registry.url, login=None, password=None, extra=extra)
    with pytest.raises(LookupError):
        ConfluentSchemaRegistryHook("registry").fetch(7)


def test_connections_that_cannot_be_meant_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettingError, match="Create the Airflow connection 'nowhere'"):
        open_schema_registry("nowhere")
    connect(monkeypatch, "h", conn_type="ftp")
    with pytest.raises(InvalidSettingError, match=r"of type http .Confluent. or aws .Glue.: .* is 'ftp'"):
        open_schema_registry("registry")
    connect(monkeypatch, "")
    with pytest.raises(InvalidSettingError, match="Set the host"):
        open_schema_registry("registry").schema(7)


# --- AWS Glue ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def glue() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys: Any = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-1"}
    with pytest.MonkeyPatch.context() as patch:
        connection = Connection(
            conn_id="glue",
            conn_type="aws",
            login="test",
            password="test",
            extra=json.dumps({"endpoint_url": url, "region_name": "eu-west-1"}),
        )
        patch.setenv("AIRFLOW_CONN_GLUE", connection.as_json())
        client = boto3.client("glue", endpoint_url=url, **keys)
        client.create_registry(RegistryName="r")
        yield client
    server.stop()


def registered_in_glue(client: Any, name: str, kind: str, definition: str) -> str:
    created = client.create_schema(
        RegistryId={"RegistryName": "r"},
        SchemaName=name,
        DataFormat=kind,
        Compatibility="NONE",
        SchemaDefinition=definition,
    )
    return str(created["SchemaVersionId"])


def of_glue(payload_format: str, schema_id: str, data: bytes) -> list[Any]:
    decode = payload_decoder(payload_format, registry=open_schema_registry("glue"))
    assert decode is not None
    found = decode(b"\3\0" + uuid.UUID(schema_id).bytes + data)
    assert not isinstance(found, DroppedPayload)
    return [json.loads(document) for document in found]


def test_schemas_of_glue(glue: Any) -> None:
    orders = registered_in_glue(glue, "avro", "AVRO", json.dumps(ORDER))
    assert of_glue("avro", orders, avro({"id": 7}, ORDER)) == [{"id": 7}]
    proto = registered_in_glue(glue, "proto", "PROTOBUF", PROTO)
    assert of_glue("protobuf", proto, b"\0\x08\x07\x12\0") == [
        {"id": 7, "time": "1970-01-01T00:00:00.000000000Z"}
    ]
    schema = registered_in_glue(
        glue, "json", "JSON", '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
    )
    assert of_glue("json_schema", schema, b'{"id":7}') == [{"id": 7}]
    with pytest.raises(UndecodableError, match="is of another kind than PROTOBUF"):
        of_glue("protobuf", orders, b"\0")


def test_a_schema_that_glue_does_not_have_is_a_dead_letter(glue: Any) -> None:
    with pytest.raises(UndecodableError, match="the registry has no schema 00000000"):
        of_glue("avro", str(uuid.UUID(int=7)), b"\2")
    decode = payload_decoder("avro", registry=open_schema_registry("glue"))
    assert decode is not None
    with pytest.raises(UndecodableError, match="the registry has no schema 7"):
        decode(headed(7, b"\2"))


def test_glue_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "endpoint_url": "http://127.0.0.1:9",
        "region_name": "eu-west-1",
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    connection = Connection(
        conn_id="glue_away", conn_type="aws", login="test", password="test", extra=json.dumps(extra)
    )
    monkeypatch.setenv("AIRFLOW_CONN_GLUE_AWAY", connection.as_json())
    with pytest.raises(ServiceUnavailableError, match="glue:GetSchemaVersion on schema version"):
        GlueSchemaRegistryHook(aws_conn_id="glue_away").fetch(str(uuid.UUID(int=7)))
