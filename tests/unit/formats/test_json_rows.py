"""Rows as JSON: what is streamed is one line for each row, and says what the rows say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.formats.column_types import ColumnType
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.formats.json_rows import JsonColumn, column_rows, envelope_rows
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.stream.records import Record

ORIGIN = {"stream_name": "clicks", "shard_id": "shardId-0"}
HOW: dict[str, Any] = {"metadata_columns": ("partition_key",), "loaded_at": datetime(2026, 1, 2, tzinfo=UTC)}
BETWEEN = st.sampled_from(["", " ", "\n", "\r\n", "\t", "\n\n  "])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Objects with any space that JSON allows around their tokens."""
    written = json.dumps({"v": draw(VALUES)}, indent=draw(st.sampled_from([None, 0, 2])))
    return (draw(BETWEEN) + written + draw(BETWEEN)).encode()


@given(payloads=st.lists(documents(), min_size=1, max_size=4), key=st.text(min_size=1))
def test_a_row_of_the_envelope_is_one_line_with_its_document(payloads: list[bytes], key: str) -> None:
    encoded = EnvelopeMapping().encode(records(payloads, key), **ORIGIN)

    rows = envelope_rows(encoded.rows, **HOW)

    assert [json.loads(row)["RECORD_CONTENT"] for row in rows] == [json.loads(each) for each in payloads]
    assert {json.loads(row)["KINESISMETADATA"]["partitionKey"] for row in rows} == {key}
    assert not [row for row in rows if b"\n" in row or b"\r" in row]


@given(payloads=st.lists(documents(), min_size=1, max_size=4), key=st.text(min_size=1))
def test_a_row_of_columns_is_one_line_with_its_values(payloads: list[bytes], key: str) -> None:
    mapping = ColumnsMapping(ColumnsSettings(columns={"V": "VARIANT"}), read_columns=dict)
    encoded = mapping.encode(records(payloads, key), **ORIGIN)
    column = JsonColumn("V", ColumnType.parse("VARIANT"), tuple(encoded.fields))

    rows = column_rows(encoded.rows, [column], **HOW)

    assert [json.loads(row).get("V") for row in rows] == [json.loads(each)["v"] for each in payloads]
    assert not [row for row in rows if b"\n" in row or b"\r" in row]


def records(payloads: list[bytes], key: str) -> list[Record]:
    return [
        Record(sequence_number=str(number), approximate_arrival=1.0, partition_key=key, data=payload)
        for number, payload in enumerate(payloads)
    ]
