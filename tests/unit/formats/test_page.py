"""What the page about formats says lands, lands."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats import delimited
from airflow_kinesis_snowflake.formats.avro import AvroSingleObject
from airflow_kinesis_snowflake.formats.basic import Json
from airflow_kinesis_snowflake.formats.catalog import FORMATS, payload_decoder
from airflow_kinesis_snowflake.formats.engine import Decoder, DroppedPayload
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.formats.json_rows import envelope_rows
from airflow_kinesis_snowflake.formats.protobuf import Protobuf
from airflow_kinesis_snowflake.stream.aggregation import deaggregate
from airflow_kinesis_snowflake.stream.records import Record
from tests import shapes

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "what-lands.md").read_text()
SECTION = PAGE[PAGE.index("## What a payload may be") : PAGE.index('## `mapping="envelope"`')]
ROWS = re.findall(r"^\| `([^|]+)` \| `([^|]+)` \| ((?:`[^`|]+` ?)+) \|$", SECTION, re.MULTILINE)
SENT = re.findall(r"^\| ([^|`]+) \| `([^|]+)` \| ([^|]+) \|$", SECTION, re.MULTILINE)
BLOCKS = re.findall(r"```json\n(.+?)```", SECTION, re.DOTALL)
NAMES = ["cloudwatch_logs", "dynamodb", "dms", "debezium"]
OBJECTS = {
    **vars(delimited),
    "Json": Json,
    "AvroSingleObject": AvroSingleObject,
    "Protobuf": Protobuf,
    "ORDER_SCHEMA": shapes.ORDER_SCHEMA,
    "DESCRIPTORS": shapes.DESCRIPTORS,
}


def documents(payload_format: Any, payload: bytes) -> list[bytes]:
    decode = payload_decoder(payload_format)
    assert decode is not None or payload_format == "json"
    found = decode(payload) if decode else [payload]
    assert not isinstance(found, DroppedPayload)
    return list(found)


def test_the_page_has_examples() -> None:
    assert len(ROWS) == 10
    assert len(BLOCKS) == 2 * len(NAMES)
    unnamed = [name for name in FORMATS if f"`{name}`" not in SECTION and f'"{name}"' not in SECTION]
    assert unnamed == ["avro_single_object", "pattern"]


@pytest.mark.parametrize(("setting", "payload", "lands"), ROWS)
def test_a_row_of_the_table_lands_as_it_says(setting: str, payload: str, lands: str) -> None:
    data = payload.replace("↵", "\n").replace("⇥", "\t").encode()
    found = documents(eval(setting, dict(OBJECTS)), data)
    assert [document.decode() for document in found] == re.findall("`([^`]+)`", lands)


def chosen(payload_format: Any, registry_conn_id: str | None = None, **settings: Any) -> Decoder | None:
    registry = shapes.Registry() if registry_conn_id == "registry" else None
    return payload_decoder(payload_format, registry=registry, **settings)


def encoded(decode: Decoder | None, payload: bytes) -> pa.RecordBatch:
    """The rows of a Kinesis record, as the mapping ``envelope`` makes them.

    :raises UndecodableError: it is a dead letter
    """
    record = Record(sequence_number="1", approximate_arrival=0, partition_key='{"id":7}', data=payload)
    found: list[bytes] = []
    for user in deaggregate([record]).users:
        documents = [user.data] if decode is None else decode(user.data, user.partition_key)
        if isinstance(documents, DroppedPayload):
            raise UndecodableError(f"dropped: {documents.what}")
        found += documents
    pages = EnvelopeMapping().encode(
        [replace(record, data=document) for document in found], stream_name="s", shard_id="0"
    )
    for letter in pages.dead_letters:
        raise UndecodableError(letter.reason)
    return pages.rows


def landed(decode: Decoder | None, payload: bytes) -> list[bytes]:
    """The documents of these rows."""
    return [str(text).strip().encode() for text in encoded(decode, payload)["RECORD_CONTENT"]]


def test_every_shape_is_there() -> None:
    assert {shape for shape, _, _ in SENT} == shapes.SHAPES.keys()


@pytest.mark.parametrize(("shape", "settings", "lands"), SENT)
def test_what_producers_send_lands_as_the_page_says(shape: str, settings: str, lands: str) -> None:
    decode = eval(f"chosen({settings})", {**OBJECTS, "chosen": chosen})
    outcome, _, reason = lands.partition(": ")
    if outcome in ("dropped", "dead letter"):
        with pytest.raises(UndecodableError) as raised:
            landed(decode, shapes.SHAPES[shape])
        assert str(raised.value).endswith(reason)
        assert str(raised.value).startswith("dropped") == (outcome == "dropped")
        return
    expected = re.findall("`([^`]+)`", lands)
    found = landed(decode, shapes.SHAPES[shape])
    assert len(found) == len(expected)
    for document, text in zip(found, expected, strict=True):
        read = json.loads(document, parse_float=Decimal)
        shown = json.loads(text.replace(",…}", "}"), parse_float=Decimal)
        assert read == (read | shown if "…" in text else shown)


@pytest.mark.parametrize(("shape", "settings", "lands"), [sent for sent in SENT if "`" in sent[2]])
def test_what_producers_send_is_streamed_as_it_is_copied(shape: str, settings: str, lands: str) -> None:
    rows = encoded(eval(f"chosen({settings})", {**OBJECTS, "chosen": chosen}), shapes.SHAPES[shape])
    streamed = envelope_rows(rows, metadata_columns=(), loaded_at=datetime.now(UTC))
    assert b"\n".join(streamed).splitlines() == streamed
    read = [json.loads(row, parse_float=Decimal)["RECORD_CONTENT"] for row in streamed]
    assert read == [json.loads(str(text), parse_float=Decimal) for text in rows["RECORD_CONTENT"]]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_lands_as_it_says(name: str) -> None:
    payload, lands = BLOCKS[2 * NAMES.index(name) :][:2]
    expected = [
        json.loads(document, parse_float=Decimal)
        for document in re.findall(r"^\{.+?\}$(?!\n )", lands, re.M | re.S)
    ]
    found = [json.loads(document, parse_float=Decimal) for document in documents(name, payload.encode())]
    assert found == expected
    assert found
