"""Rows that a sink can't take: their records become dead letters, whole, and the others land."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter, dead_letter_rows, payload_of
from airflow_kinesis_snowflake.formats.decoding import DecodingEncoder
from airflow_kinesis_snowflake.formats.envelope import EncodedRecords, EnvelopeMapping
from airflow_kinesis_snowflake.formats.json_rows import JsonColumn, column_rows, envelope_rows, letter_rows
from airflow_kinesis_snowflake.formats.row_limit import LimitedEncoder
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.sinks.snowflake.channels import MAX_ROW_BYTES
from airflow_kinesis_snowflake.stream.records import Record

MIB = 2**20
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ORIGIN = {"stream_name": "clicks", "shard_id": "shardId-0"}
FACTS: dict[str, Any] = {"metadata_columns": (), "loaded_at": NOW}


def record(number: int, data: bytes) -> Record:
    return Record(sequence_number=str(number), approximate_arrival=1.0, partition_key="key", data=data)


def refused(encoded: EncodedRecords) -> list[str]:
    return [letter.record.sequence_number for letter in encoded.dead_letters]


def landed(encoded: EncodedRecords) -> list[str]:
    return list(encoded.rows["sequenceNumber"].to_pylist())


def test_a_record_that_inflates_to_more_than_a_row_may_have_is_a_dead_letter() -> None:
    decode = payload_decoder("json", compression="auto", json_documents="sequence")
    assert decode is not None
    encoder = LimitedEncoder(DecodingEncoder(decode, EnvelopeMapping()), most=MAX_ROW_BYTES)
    large = gzip.compress(b'{"n":1}\n' + json.dumps({"n": "x" * 17 * MIB}).encode())
    payloads = [b'{"n":0}', large, b'{"n":2}\n{"n":3}', b"?"]

    encoded = encoder.encode([record(*each) for each in enumerate(payloads)], **ORIGIN)

    assert landed(encoded) == ["0", "2", "2"]
    assert sorted(refused(encoded)) == ["1", "3"]
    assert (encoded.bytes, encoded.left) == (sum(map(len, payloads)), 0)
    (letter,) = [each for each in encoded.dead_letters if each.record.sequence_number == "1"]
    assert letter.record.data == large
    assert "sink='copy'" in letter.reason


@pytest.mark.parametrize(
    ("sign", "mebibytes", "lands"), [("x", 15, False), ("x", 14, True), ("\1", 3, False)]
)
@pytest.mark.parametrize("mapping", ["envelope", "columns"])
def test_what_passes_can_be_streamed(sign: str, mebibytes: int, lands: bool, mapping: str) -> None:
    text = sign * mebibytes * MIB
    inner = (
        EnvelopeMapping() if mapping == "envelope" else ColumnsMapping(ColumnsSettings(), read_columns=dict)
    )
    encoder = LimitedEncoder(inner, most=MAX_ROW_BYTES)

    encoded = encoder.encode([record(0, json.dumps({"a": text}).encode()), record(1, b'{"a":"y"}')], **ORIGIN)

    assert landed(encoded) == (["0", "1"] if lands else ["1"])
    if isinstance(inner, EnvelopeMapping):
        rows = envelope_rows(encoded.rows, **FACTS)
    else:
        columns = [JsonColumn(item.column, item.type, (item,)) for item in encoded.fields]
        rows = column_rows(encoded.rows, columns, **FACTS)
    assert max(map(len, rows)) <= MAX_ROW_BYTES


@pytest.mark.parametrize("byte", [b"\1", b"x", b"\xff"])
def test_any_dead_letter_can_be_streamed(byte: bytes) -> None:
    payload = byte * 10 * MIB
    rows = dead_letter_rows([DeadLetter(record(0, payload), "why")], application="loader", **ORIGIN)

    (row,) = letter_rows(rows, failed_at="2026-01-02")

    assert len(row) <= MAX_ROW_BYTES
    (found,) = rows.to_pylist()
    assert payload_of(found["PAYLOAD"], found["PAYLOAD_ENCODING"]) == payload
