"""Payloads of every format land, and what can't land is put aside, up to the number that is accepted."""

from __future__ import annotations

import base64
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.exceptions import SnowflakeObjectNotFoundError, TooManyDeadLettersError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.decoding import DecodingEncoder
from airflow_kinesis_snowflake.formats.delimited import CSV
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Pipeline

AVRO = {"type": "record", "name": "Event", "fields": [{"name": "n", "type": "int"}]}


def avro(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(AVRO), {"n": number})
    return out.getvalue()


def contents(pipeline: Pipeline) -> list[Any]:
    rows = pipeline.query(
        'SELECT "RECORD_CONTENT" FROM {table} ORDER BY "KINESISMETADATA":sequenceNumber::VARCHAR'
    )
    return [json.loads(content) for (content,) in rows]


# --- formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "payloads", "landed", "dead"),
    [
        ({"json_documents": "array"}, [b"[1, 2]", b"3", b"[]", b"[4,"], [1, 2, 3], [b"[]", b"[4,"]),
        (
            {"json_documents": "sequence"},
            [b'{"a":1}{"a":2}\n3', b"4 5 x"],
            [{"a": 1}, {"a": 2}, 3],
            [b"4 5 x"],
        ),
        ({"payload_format": "text"}, [b"it's \0", b"\xff"], ["it's \0"], [b"\xff"]),
        ({"payload_format": "binary"}, [b"\xff\0"], ["/wA="], []),
        (
            {"payload_format": "avro", "avro_schema": AVRO},
            [avro(7), avro(8) + b"!"],
            [{"n": 7}],
            [avro(8) + b"!"],
        ),
        (
            {"payload_format": CSV(names=["id", "name"]), "compression": "auto"},
            [b"7,Ann\n", gzip.compress(b"8,\n9,Bob\n"), b"x"],
            [{"id": "7", "name": "Ann"}, {"id": "8", "name": None}, {"id": "9", "name": "Bob"}],
            [b"x"],
        ),
    ],
    ids=["array", "sequence", "text", "binary", "avro", "csv"],
)
def test_payloads_of_every_format_land_and_keep_what_cannot(
    make_pipeline: Callable[..., Pipeline],
    settings: dict[str, Any],
    payloads: list[bytes],
    landed: list[Any],
    dead: list[bytes],
) -> None:
    pipeline = make_pipeline()
    pipeline.send_payloads([("key", payload) for payload in payloads])

    report = pipeline.drain(decoder=payload_decoder(**settings)).run()

    assert contents(pipeline) == landed
    assert (report.records, report.dead_letters) == (len(landed) + len(dead), len(dead))
    reasons = pipeline.query('SELECT "REASON", COUNT(*) FROM {dead_letters} GROUP BY 1')
    assert report.reasons == {reason: count for reason, count in reasons}  # noqa: C416 -- rows are no pairs
    letters = pipeline.query('SELECT "PAYLOAD", "PAYLOAD_ENCODING", "KIND" FROM {dead_letters}')
    assert {(payload_of(text, encoding), kind) for text, encoding, kind in letters} == {
        (payload, "record") for payload in dead
    }


def log_message(kind: str, *messages: str) -> bytes:
    events = [{"id": str(n), "timestamp": 1, "message": message} for n, message in enumerate(messages)]
    document = {"messageType": kind, "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": events}
    return gzip.compress(json.dumps(document).encode())


def test_what_holds_no_data_is_counted_and_what_is_around_it_lands(
    make_pipeline: Callable[..., Pipeline], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    pipeline = make_pipeline()
    control = log_message("CONTROL_MESSAGE", "checking")
    decoder = payload_decoder("cloudwatch_logs")
    pipeline.drain(decoder=decoder).run()  # makes the tables
    pipeline.send_payloads([("key", control)])

    report = pipeline.drain(decoder=decoder).run()

    assert (report.records, report.dead_letters, report.snowflake_connections) == (0, 0, 0)
    assert report.dropped == {"control message of CloudWatch Logs": 1}
    assert report.bytes == len(control)
    assert "control message of CloudWatch Logs (1)" in caplog.text
    pipeline.send_payloads(
        [
            ("key", control),
            ("key", log_message("DATA_MESSAGE", '{"n": 1}', "x")),
            ("key", b"{}"),
            ("key", control),
        ]
    )

    report = pipeline.drain(decoder=decoder).run()

    assert [row["message"] for row in contents(pipeline)] == [{"n": 1}, "x"]
    assert (report.records, report.dead_letters) == (3, 1)
    assert report.as_dict()["dropped"] == {"control message of CloudWatch Logs": 2}
    assert pipeline.drain(decoder=decoder).run().dropped == {}


def test_pages_that_decode_to_more_than_there_is_room_for_land_once(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DecodingEncoder.__init__, "__kwdefaults__", {"room": 2000})
    pipeline = make_pipeline()
    documents = [{"n": number, "pad": "x" * 600} for number in range(12)]
    pipeline.send_payloads([("key", gzip.compress(json.dumps(document).encode())) for document in documents])

    report = pipeline.drain(decoder=payload_decoder(compression="gzip")).run()

    assert contents(pipeline) == documents
    assert (report.records, report.dead_letters) == (12, 0)


def payload_of(text: str, encoding: str) -> bytes:
    return base64.b64decode(text) if encoding == "base64" else text.encode()


# --- how many are too many ---------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", ["1", "10%"])
def test_too_many_dead_letters_stop_the_drain_and_a_higher_number_lets_it_go_on(
    make_pipeline: Callable[..., Pipeline], threshold: str
) -> None:
    pipeline = make_pipeline(shards=2)
    pipeline.send(8)
    pipeline.send_payloads([("a", b"no JSON"), ("b", b"{")])

    with pytest.raises(TooManyDeadLettersError, match=r"2 of 10 .* \(not JSON"):
        pipeline.drain(max_dead_letters=DeadLetterLimit.parse(threshold)).run()

    assert {shard.lease_owner for shard in pipeline.state.shards.values()} == {None}
    assert pipeline.landed == []
    assert pipeline.query("SELECT * FROM {dead_letters}") == []

    report = pipeline.drain(max_dead_letters=DeadLetterLimit.parse("20%")).run()

    assert pipeline.landed == pipeline.sent
    assert (report.records, report.dead_letters) == (10, 2)


# --- tables ------------------------------------------------------------------------------------------------


def test_a_dead_letter_table_of_an_earlier_version_gets_the_columns_it_lacks(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()
    pipeline.send_payloads([("key", b"no JSON")])
    pipeline.drain().run()
    for column in ("ID", "KIND"):
        pipeline.query(f'ALTER TABLE {{dead_letters}} DROP COLUMN "{column}"')
    pipeline.send_payloads([("key", b"no JSON")])

    pipeline.drain().run()

    rows = pipeline.query('SELECT "ID" IS NULL, "KIND" FROM {dead_letters} ORDER BY "FAILED_AT"')
    assert rows == [(True, None), (False, "record")]


def test_a_table_that_must_not_be_created_and_is_missing_is_named_with_its_ddl(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()
    pipeline.send(2)
    never = TableOptions.parse("never")

    with pytest.raises(SnowflakeObjectNotFoundError) as failed:
        pipeline.drain(options=never).run()
    assert pipeline.query(f"SHOW TABLES IN SCHEMA {pipeline.table.schema_sql}") == []

    for ddl in str(failed.value).partition('": ')[2].split("; "):
        pipeline.query(ddl)
    pipeline.drain(options=never).run()
    assert pipeline.landed == pipeline.sent


def test_a_table_with_options_is_made_and_loaded(make_pipeline: Callable[..., Pipeline]) -> None:
    """The local Snowflake takes these options and does nothing about them."""
    pipeline = make_pipeline()
    pipeline.send(2)
    options = {
        "cluster_by": ['"RECORD_CONTENT"'],
        "error_logging": True,
        "enable_schema_evolution": True,
        "comment": "clicks",
        "data_retention_days": 1,
    }

    pipeline.drain(options=TableOptions.parse(options)).run()

    assert pipeline.landed == pipeline.sent


@pytest.mark.parametrize("name", ["select", "lower case", 'a "b".c; DROP TABLE y; --', "50% %s", "ключ"])
def test_any_name_is_only_a_name(make_pipeline: Callable[..., Pipeline], name: str) -> None:
    """A single quote in the name of a table is too much for the local Snowflake; unit tests have it."""
    pipeline = make_pipeline()
    pipeline.table = TableName(pipeline.table.database, "PUBLIC", name)
    pipeline.send(2, key=lambda number: f"{name}{number}")
    pipeline.send_payloads([(f"{name}'\\", f"no JSON: {name}".encode())])

    pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert pipeline.query('SELECT "PARTITION_KEY", "PAYLOAD" FROM {dead_letters}') == [
        (f"{name}'\\", f"no JSON: {name}")
    ]
