"""Every record lands as it was sent, or becomes a dead letter that says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.formats.envelope import EncodedRecords, EnvelopeMapping
from airflow_kinesis_snowflake.stream.records import Record

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
json_texts = st.builds(
    lambda document, ascii_only: json.dumps(document, ensure_ascii=ascii_only).encode(
        "utf-8", "surrogatepass"
    ),
    documents,
    st.booleans(),
)
payloads = st.lists(st.binary(max_size=20) | json_texts)


def record(data: bytes, number: int = 1, **other: Any) -> Record:
    known: dict[str, Any] = {
        "sequence_number": str(number),
        "approximate_arrival": 1700000000.123,
        "partition_key": "key",
        "data": data,
    }
    return Record(**known | other)


def encode(*data: bytes) -> EncodedRecords:
    records = [record(payload, number) for number, payload in enumerate(data)]
    return EnvelopeMapping().encode(records, stream_name="stream", shard_id="shardId-000000000000")


@given(payloads)
def test_rows_and_dead_letters_are_the_records_and_landed_text_is_what_was_sent(data: list[bytes]) -> None:
    encoded = encode(*data)
    landed = dict(
        zip(
            encoded.rows["sequenceNumber"].to_pylist(),
            encoded.rows["RECORD_CONTENT"].to_pylist(),
            strict=True,
        )
    )
    refused = {letter.record.sequence_number: letter.record.data for letter in encoded.dead_letters}
    assert not landed.keys() & refused.keys()
    together = {number: text.encode() for number, text in landed.items()} | refused
    assert together == {str(number): payload for number, payload in enumerate(data)}
    assert list(landed) == sorted(landed, key=int)
    assert encoded.bytes == sum(map(len, data))


@given(json_texts)
def test_what_another_library_writes_as_json_lands(text: bytes) -> None:
    assert encode(text).rows["RECORD_CONTENT"].to_pylist() == [text.decode()]


@given(st.binary(max_size=30))
def test_bytes_that_another_parser_refuses_do_not_land(data: bytes) -> None:
    encoded = encode(data)
    if encoded.rows.num_rows:
        json.loads(data.decode("utf-8"))


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b"1", b'"a"', b"null", b"true", b' {"a": 1}\n', b'{"a":1,"a":2}']
)
def test_any_json_document_lands(text: bytes) -> None:
    assert encode(text).rows["RECORD_CONTENT"].to_pylist() == [text.decode()]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"plain", "not JSON"),
        (b'{"a":1} x', "not JSON"),
        (b'{"a":', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"NaN", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b'"\\udc00x"', "not JSON"),
        (b"\xef\xbb\xbf{", "not JSON"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not JSON"),
        (b"\xef\xbb\xbf", "empty"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_a_payload_that_is_not_json_is_a_dead_letter_and_its_neighbours_land(
    payload: bytes, reason: str
) -> None:
    encoded = encode(b"1", payload, b'"\xc3\xa9"')
    assert encoded.rows["RECORD_CONTENT"].to_pylist() == ["1", '"é"']
    (letter,) = encoded.dead_letters
    assert letter.record.data == payload
    assert letter.reason.startswith(reason)


def test_a_byte_order_mark_in_front_is_skipped() -> None:
    encoded = encode(b"1", b'\xef\xbb\xbf{"a":2}', b"3")
    assert encoded.rows["RECORD_CONTENT"].to_pylist() == ["1", '{"a":2}', "3"]


def test_the_reason_does_not_quote_the_payload() -> None:
    (letter,) = encode(b'{"secret": hunter2}').dead_letters
    assert "hunter2" not in letter.reason
    assert "secret" not in letter.reason


def test_a_row_says_where_its_record_came_from() -> None:
    encoded = EnvelopeMapping().encode(
        [
            record(b"1", 495, partition_key="a"),
            record(b"2", 496, partition_key="b", sub_sequence_number=0),
            record(b"3", 496, partition_key="c", sub_sequence_number=7, approximate_arrival=1700000000.999),
        ],
        stream_name="clicks",
        shard_id="shardId-000000000003",
    )
    assert encoded.rows.drop_columns(["RECORD_CONTENT"]).to_pylist() == [
        {
            "stream": "clicks",
            "shardId": "shardId-000000000003",
            "approximateArrival": arrival,
            "partitionKey": key,
            "sequenceNumber": number,
            "subSequenceNumber": sub,
        }
        for key, number, sub, arrival in [
            ("a", "495", 0, 1700000000123),
            ("b", "496", 0, 1700000000123),
            ("c", "496", 7, 1700000000999),
        ]
    ]


@given(st.integers(min_value=0, max_value=4102444800000))
def test_arrival_is_exact_to_the_millisecond(millis: int) -> None:
    encoded = EnvelopeMapping().encode(
        [record(b"1", approximate_arrival=millis / 1000)], stream_name="s", shard_id="shardId-0"
    )
    assert encoded.rows["approximateArrival"].to_pylist() == [millis]


def test_no_records_make_no_rows() -> None:
    encoded = encode()
    assert (encoded.rows.num_rows, encoded.dead_letters, encoded.bytes) == (0, (), 0)
