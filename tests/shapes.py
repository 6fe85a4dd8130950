"""What services of AWS, producers and shippers put into Kinesis, by their names in the documentation."""

from __future__ import annotations

import base64
import gzip
import io
import json
import uuid
import zlib
from decimal import Decimal
from typing import Any

import fastavro
import msgspec
import pyarrow as pa
from aws_kinesis_agg.aggregator import RecordAggregator
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from airflow_kinesis_snowflake.formats.avro_schemas import fingerprint
from airflow_kinesis_snowflake.formats.schema_registry import RegisteredSchema

MOMENT = "2026-11-25T10:00:00Z"
SCHEMA_ID = uuid.UUID("3f2a5c7e-0d41-4b8e-9a67-5b1f6e0c2d93")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def as_json(document: Any, **layout: Any) -> bytes:
    return json.dumps(document, **(layout or {"separators": (",", ":")})).encode()


def aggregated(*payloads: bytes) -> bytes:
    """One Kinesis record that the KPL's format makes of several."""
    aggregator = RecordAggregator()
    for payload in payloads:
        aggregator.add_user_record("key", payload)
    data: bytes = aggregator.clear_and_get().get_contents()[2]
    return data


def compressed(codec: str, data: bytes) -> bytes:
    made: bytes = pa.Codec(codec).compress(data, asbytes=True)
    return made


# --- schemas -----------------------------------------------------------------------------------------------

ORDER_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
    ],
}
ORDERS = [{"id": 7, "amount": Decimal("12.50")}, {"id": 8, "amount": Decimal(1)}]
_FILE = FileDescriptorProto(name="orders.proto", syntax="proto3")
_ORDER = _FILE.message_type.add(name="Order")
for _number, (_name, _kind) in enumerate(
    (("id", FieldDescriptorProto.TYPE_INT64), ("name", FieldDescriptorProto.TYPE_STRING)), start=1
):
    _ORDER.field.add(name=_name, number=_number, type=_kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
DESCRIPTORS = FileDescriptorSet(file=[_FILE]).SerializeToString()
REGISTERED = {
    1: RegisteredSchema("AVRO", json.dumps(ORDER_SCHEMA)),
    2: RegisteredSchema("PROTOBUF", base64.b64encode(_FILE.SerializeToString()).decode()),
    3: RegisteredSchema("JSON", '{"type": "object"}'),
}


class Registry:
    """Has the schemas above, by the ids of Confluent's registry and of AWS Glue's."""

    def schema(self, schema_id: int | str, /) -> RegisteredSchema:
        number = schema_id if isinstance(schema_id, int) else uuid.UUID(schema_id).int - SCHEMA_ID.int
        return REGISTERED[number]


def confluent(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + data


def glue(number: int, data: bytes, *, zipped: bool = False) -> bytes:
    schema_id = uuid.UUID(int=SCHEMA_ID.int + number)
    return bytes([3, 5 if zipped else 0]) + schema_id.bytes + (zlib.compress(data) if zipped else data)


def datum() -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(ORDER_SCHEMA), ORDERS[0])
    return out.getvalue()


def container() -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(ORDER_SCHEMA), ORDERS, codec="deflate")
    return out.getvalue()


def message() -> bytes:
    pool = DescriptorPool()
    pool.Add(_FILE)
    order = GetMessageClass(pool.FindMessageTypeByName("Order"))
    serialized: bytes = order(id=7, name="Ann").SerializeToString()
    return serialized


# --- services of AWS ---------------------------------------------------------------------------------------


def subscription(*events: dict[str, Any], kind: str = "DATA_MESSAGE", group: str = "shop") -> bytes:
    return gzip.compress(
        as_json(
            {
                "messageType": kind,
                "owner": "123456789012",
                "logGroup": group,
                "logStream": "s",
                "subscriptionFilters": ["f"],
                "logEvents": list(events),
            }
        )
    )


CHANGE = {
    "awsRegion": "eu-west-1",
    "eventID": "e-1",
    "eventName": "MODIFY",
    "userIdentity": None,
    "recordFormat": "application/json",
    "tableName": "orders",
    "dynamodb": {
        "ApproximateCreationDateTime": 1764000000123456,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
        "Keys": {"id": {"S": "o-7"}},
        "NewImage": {
            "id": {"S": "o-7"},
            "total": {"N": "12.50"},
            "tags": {"SS": ["a", "b"]},
            "lines": {"L": [{"M": {"sku": {"S": "x"}, "quantity": {"N": "2"}}}]},
        },
        "OldImage": {"id": {"S": "o-7"}, "total": {"N": "10"}},
        "SizeBytes": 97,
    },
    "eventSource": "aws:dynamodb",
}
REMOVED = CHANGE | {
    "eventName": "REMOVE",
    "dynamodb": {key: value for key, value in CHANGE["dynamodb"].items() if key != "NewImage"},  # type: ignore
}
DMS = {
    "data": {"id": 7, "name": "Ann", "amount": 12.5},
    "metadata": {
        "timestamp": "2026-11-25T10:00:00.123456Z",
        "record-type": "data",
        "operation": "update",
        "partition-key-type": "primary-key",
        "schema-name": "shop",
        "table-name": "orders",
        "transaction-id": 87978110091475,
    },
    "before-image": {"name": "An"},
}
DMS_CONTROL = {
    "metadata": {
        "timestamp": MOMENT,
        "record-type": "control",
        "operation": "create-table",
        "partition-key-type": "task-id",
        "schema-name": "shop",
        "table-name": "orders",
    }
}
EVENTBRIDGE = {
    "version": "0",
    "id": "e-1",
    "detail-type": "Order Placed",
    "source": "shop.orders",
    "account": "123456789012",
    "time": MOMENT,
    "region": "eu-west-1",
    "resources": [],
    "detail": {"order": 7, "total": 12.5},
}
CONTACT = {
    "AWSAccountId": "123456789012",
    "AWSContactTraceRecordFormatVersion": "2017-03-10",
    "Agent": {"Username": "ann"},
    "Channel": "VOICE",
    "ContactId": "c-1",
    "Queue": {"Name": "Basic", "DequeueTimestamp": MOMENT},
    "Recordings": None,
}
PINPOINT = {
    "event_type": "_session.start",
    "event_timestamp": 1764000000123,
    "event_version": "3.1",
    "application": {"app_id": "a"},
    "attributes": {"k": "v"},
}
WAF = {
    "timestamp": 1764000000123,
    "formatVersion": 1,
    "action": "ALLOW",
    "httpRequest": {"clientIp": "203.0.113.9", "headers": [{"name": "Host", "value": "example.org"}]},
}

# --- others ------------------------------------------------------------------------------------------------

DEBEZIUM = {
    "before": None,
    "after": {"id": 7, "amount": "BOI=", "day": 20417},
    "source": {
        "version": "3.3.1.Final",
        "connector": "postgresql",
        "name": "srv",
        "ts_ms": 1764000000000,
        "snapshot": "false",
        "db": "shop",
        "schema": "public",
        "table": "orders",
        "txId": 555,
        "lsn": 24023128,
    },
    "transaction": None,
    "op": "u",
    "ts_ms": 1764000000123,
}
DEBEZIUM_ROW = {
    "type": "struct",
    "fields": [
        {"type": "int64", "optional": False, "field": "id"},
        {
            "type": "bytes",
            "name": "org.apache.kafka.connect.data.Decimal",
            "parameters": {"scale": "2"},
            "field": "amount",
        },
        {"type": "int32", "name": "io.debezium.time.Date", "field": "day"},
    ],
}
DEBEZIUM_SCHEMA = {
    "type": "struct",
    "fields": [DEBEZIUM_ROW | {"field": "before"}, DEBEZIUM_ROW | {"field": "after"}],
    "name": "srv.public.orders.Envelope",
}
TRACK = {
    "anonymousId": "a1",
    "event": "Order Completed",
    "messageId": "m-1",
    "properties": {"total": 12.5},
    "timestamp": "2026-11-25T10:00:00.323Z",
    "type": "track",
    "userId": "u7",
}
TRACES = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [{"spans": [{"traceId": "0" * 32, "name": "GET /"}]}],
        }
    ]
}
FLUENT_BIT = b'{"log":"hello","container_id":"c0ffee"}'
VECTOR = as_json({"host": "h", "message": "hello", "timestamp": "2026-11-25T10:00:00.123456789Z"})
SMALL = b'{"a":1}'

SHAPES: dict[str, bytes] = {
    "CloudWatch Logs subscription": subscription(
        {"id": "1", "timestamp": 1764000000123, "message": '{"level":"INFO","order":7}\n'},
        {"id": "2", "timestamp": 1764000000456, "message": "START"},
    ),
    "its control message": subscription(
        {"id": "", "timestamp": 1764000000000, "message": "CWL CONTROL MESSAGE: Checking health"},
        kind="CONTROL_MESSAGE",
    ),
    "VPC flow logs through it": subscription(
        {
            "id": "1",
            "timestamp": 1764000000000,
            "message": "2 123456789012 eni-1 203.0.113.9 198.51.100.7 443 49152 6 10 840 1 2 ACCEPT OK",
            "extractedFields": {"srcaddr": "203.0.113.9", "action": "ACCEPT"},
        },
        group="vpc",
    ),
    "DynamoDB, MODIFY": as_json(CHANGE),
    "DynamoDB, REMOVE": as_json(REMOVED),
    "DMS": as_json(DMS),
    "DMS, a line": as_json(DMS) + b"\n",
    "DMS, pretty-printed": as_json(DMS, indent="\t"),
    "DMS, control record": as_json(DMS_CONTROL),
    "Debezium with schema": as_json({"schema": DEBEZIUM_SCHEMA, "payload": DEBEZIUM}),
    "Debezium without schema": as_json(DEBEZIUM),
    "Debezium, tombstone": b"",
    "EventBridge": as_json(EVENTBRIDGE),
    "IoT Core rule": as_json({"temperature": 21.5, "ts": 1764000000123}),
    "Amazon Connect contact": as_json(CONTACT),
    "Pinpoint": as_json(PINPOINT),
    "WAF log": as_json(WAF),
    "CloudFront real-time log": b"1764000000.123\t203.0.113.9\t0.001\t200\t512\tGET\thttps\texample.org\t-\n",
    "API Gateway access log": b'203.0.113.9 - - [25/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 512\n',
    "Snowplow enriched": "\t".join(["shop", "web", "2026-11-25 10:00:00.123", *[""] * 128]).encode(),
    "Snowplow collector, Thrift": b"\x0b\x00\x64\x00\x00\x00\x0b203.0.113.9\x00",
    "Segment": as_json(TRACK),
    "OpenTelemetry traces, JSON": as_json(TRACES),
    "Kinesis Agent, CSV": b"2026-11-25T10:00:00Z,7,12.50\n",
    "Kinesis Agent, LOGTOJSON": b'{"host":"203.0.113.9","response":"200"}\n',
    "KPL aggregate of JSON": aggregated(SMALL, b'{"a":2}', b'{"a":3}'),
    "KPL aggregate of zlib": aggregated(zlib.compress(SMALL), zlib.compress(b'{"a":2}')),
    "Fluent Bit": FLUENT_BIT,
    "Fluent Bit, zlib": zlib.compress(FLUENT_BIT),
    "Fluent Bit, gzip": gzip.compress(FLUENT_BIT),
    "Fluent Bit, log_key": b"203.0.113.9 GET /",
    "fluentd, MessagePack": msgspec.msgpack.encode({"log": "hello", "n": 7}),
    "Vector": VECTOR,
    "Vector, gzip of lines": gzip.compress(VECTOR + b"\n" + VECTOR),
    "Logstash": as_json({"@timestamp": "2026-11-25T10:00:00.123Z", "@version": "1", "message": "hello"}),
    "Protobuf": message(),
    "Protobuf, length-delimited": (bytes([len(message())]) + message()) * 2,
    "Protobuf, Confluent": confluent(2, b"\0" + message()),
    "Protobuf, Glue": glue(2, b"\0" + message()),
    "Avro datum": datum(),
    "Avro container": container(),
    "Avro single object": b"\xc3\x01" + fingerprint(ORDER_SCHEMA) + datum(),
    "Avro, Confluent": confluent(1, datum()),
    "Avro, Glue": glue(1, datum()),
    "Avro, Glue with zlib": glue(1, datum(), zipped=True),
    "JSON Schema, Confluent": confluent(3, SMALL),
    "JSON Schema, Glue": glue(3, SMALL),
    "JSON and a line end": SMALL + b"\n",
    "NDJSON": b'{"a":1}\n{"a":2}\n',
    "concatenated JSON": b'{"a":1}{"a":2}',
    "JSON array": b'[{"a":1},{"a":2}]',
    "JSON with a byte order mark": BYTE_ORDER_MARK + SMALL,
    "JSON in UTF-16": '{"a":1}'.encode("utf-16"),
    "JSON in Latin-1": '{"a":"é"}'.encode("latin-1"),
    "JSON with NaN": b'{"a":NaN}',
    "JSON as a JSON string": as_json('{"a":1}'),
    "JSON in base64": base64.b64encode(SMALL),
    "gzip in base64": base64.b64encode(gzip.compress(SMALL, mtime=0)),
    "JSON in gzip": gzip.compress(SMALL),
    "JSON in zlib": zlib.compress(SMALL),
    "JSON in zstd": compressed("zstd", SMALL),
    "JSON in lz4": compressed("lz4", SMALL),
    "JSON in raw snappy": compressed("snappy", SMALL),
    "CBOR": bytes.fromhex("a1616101"),
    "XML": b"<o><id>7</id></o>",
}
