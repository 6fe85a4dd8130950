"""Payloads become documents, or a dead letter; never both, and never neither."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.basic import array_items, binary, sequence, text
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.column_types import DataType
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.formats.decoding import OVERHEAD_BYTES, DecodingEncoder, expand
from airflow_kinesis_snowflake.formats.engine import CheckedDocuments, DroppedPayload
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.formats.decoding import Expansion
    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords

DECODERS = [text, binary, array_items, sequence]
WHITESPACE = " \t\n\r"

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
documents = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
json_texts = st.builds(json.dumps, documents, ensure_ascii=st.booleans())
almost_json = st.lists(json_texts | st.text('{}[],:" \n\\ux0129.-eEtrufalsn', max_size=5), max_size=6).map(
    lambda parts: "".join(parts).encode()
)
payloads = st.binary(max_size=40) | almost_json


def record(data: bytes, number: int = 1, sub: int | None = None) -> Record:
    return Record(sequence_number=str(number), approximate_arrival=1.0, data=data, sub_sequence_number=sub)


def encode(decode: Decoder, *records: Record) -> tuple[list[tuple[str, str]], Sequence[DeadLetter], int]:
    """What lands (sequence number and content), what doesn't, and the size of it all."""
    encoded = DecodingEncoder(decode, EnvelopeMapping()).encode(records, stream_name="s", shard_id="1")
    rows = zip(
        encoded.rows.column("sequenceNumber").to_pylist(),
        encoded.rows.column("RECORD_CONTENT").to_pylist(),
        strict=True,
    )
    return list(rows), encoded.dead_letters, encoded.bytes


# --- every format ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", DECODERS)
@given(contents=st.lists(payloads, max_size=5))
def test_a_record_gives_its_documents_or_one_dead_letter(decode: Decoder, contents: list[bytes]) -> None:
    records = [record(data, number) for number, data in enumerate(contents)]

    answer = expand(records, decode)
    expanded, dead_letters = answer.records(), answer.undecodable

    landed = {document.sequence_number for document in expanded}
    dead = [letter.record for letter in dead_letters]
    assert all(letter in records for letter in dead)
    assert sorted([*landed, *(letter.sequence_number for letter in dead)]) == sorted(
        item.sequence_number for item in records
    )
    assert [item.sequence_number for item in expanded] == sorted(
        (item.sequence_number for item in expanded), key=int
    )


@pytest.mark.parametrize("decode", DECODERS)
@given(payload=payloads)
def test_what_is_decoded_lands(decode: Decoder, payload: bytes) -> None:
    rows, dead_letters, size = encode(decode, record(payload))

    assert bool(rows) != bool(dead_letters)
    assert size == len(payload)
    for _, content in rows:
        json.loads(content)


@pytest.mark.parametrize("decode", DECODERS)
@given(payload=payloads)
def test_a_reason_does_not_quote_the_payload(decode: Decoder, payload: bytes) -> None:
    dead_letters = expand([record(b"<~" + payload + b"\xff~>")], decode).undecodable
    assert not any("~" in letter.reason for letter in dead_letters)


def test_documents_that_take_too_much_room_are_left_for_the_next_page() -> None:
    records = [record(b"1 2", 1), record(b"x", 2), record(b"3", 3), record(b"4", 4)]
    encoder = DecodingEncoder(sequence, EnvelopeMapping(), room=2 * OVERHEAD_BYTES + 3)

    encoded = encoder.encode(records, stream_name="s", shard_id="1")

    assert encoded.rows.column("RECORD_CONTENT").to_pylist() == ["1", "2", "3"]
    assert [letter.record for letter in encoded.dead_letters] == records[1:2]
    assert (encoded.left, encoded.bytes) == (1, 5)
    assert (
        DecodingEncoder(sequence, EnvelopeMapping(), room=0)
        .encode(records, stream_name="s", shard_id="1")
        .left
        == 3
    )


def test_records_without_data_are_counted_and_are_neither_rows_nor_dead_letters() -> None:
    def decode(payload: bytes, key: str = "", /) -> Documents:
        return [payload] if payload == b"1" else DroppedPayload(f"nothing for {key or 'nobody'}")

    records = [record(b"1"), record(b"2"), record(b"3")]
    encoded = DecodingEncoder(decode, EnvelopeMapping()).encode(records, stream_name="s", shard_id="1")

    assert (encoded.rows.num_rows, encoded.dead_letters) == (1, ())
    assert encoded.dropped == {"nothing for nobody": 2}


# --- JSON --------------------------------------------------------------------------------------------------


def found_by_raw_decode(payload: bytes) -> list[str] | None:
    """The documents of a payload as the standard library finds them; none if one of them is no JSON."""
    try:
        decoded = payload.decode()
    except UnicodeDecodeError:
        return None
    found, end = [], 0
    while rest := decoded[end:].lstrip(WHITESPACE):
        begin = len(decoded) - len(rest)
        try:
            _, end = json.JSONDecoder(parse_constant=int).raw_decode(decoded, begin)
        except ValueError:
            return None
        found.append(decoded[begin:end])
    return found or None


def decoded_or_none(decode: Decoder, payload: bytes) -> list[str] | None:
    try:
        documents = decode(payload)
    except UndecodableError:
        return None
    assert not isinstance(documents, DroppedPayload)
    return [document.decode() for document in documents]


@given(almost_json)
def test_a_sequence_holds_what_the_standard_library_finds(payload: bytes) -> None:
    found = found_by_raw_decode(payload)
    documents = decoded_or_none(sequence, payload)
    # The standard library takes half of a surrogate pair; RFC 8259 and Snowflake don't.
    assert documents == found or (documents is None and b"\\u" in payload)


@given(st.lists(json_texts, min_size=1), st.sampled_from(["\n", "\r\n", " ", "\n\n", "\t \n"]))
def test_documents_with_anything_white_between_them_come_out_as_they_went_in(
    parts: list[str], between: str
) -> None:
    payload = between.join(parts).encode()
    assert [document.decode() for document in sequence(payload)] == parts
    assert [document.decode() for document in sequence(between.encode() + payload)] == parts


@given(st.lists(st.dictionaries(texts, documents, max_size=3).map(json.dumps), min_size=1))
def test_concatenated_objects_come_out_as_they_went_in(parts: list[str]) -> None:
    assert [document.decode() for document in sequence("".join(parts).encode())] == parts


@given(st.lists(documents, min_size=1))
def test_items_of_an_array_come_out_as_the_standard_library_reads_them(items: list[object]) -> None:
    assert [json.loads(item) for item in array_items(json.dumps(items).encode())] == items


@given(json_texts.filter(lambda document: not document.startswith("[")))
def test_what_is_no_array_is_one_document(document: str) -> None:
    assert array_items(document.encode()) == [document.encode()]


@pytest.mark.parametrize("decode", [array_items, sequence])
@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": 1} {', "not JSON"),
        (b'"\\ud800"', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte at byte 7"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_has_a_reason(decode: Decoder, payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        decode(payload)


def test_an_array_without_items_is_a_dead_letter_because_nothing_else_would_tell_of_the_record() -> None:
    with pytest.raises(UndecodableError, match="array without items"):
        array_items(b" [ ] ")


def test_an_integer_of_any_length_is_json() -> None:
    assert sequence(b"1" * 10_000) == [b"1" * 10_000]


def test_documents_of_a_record_share_its_coordinates() -> None:
    rows, _, _ = encode(sequence, record(b"1 2", 7), record(b"3", 8))
    assert rows == [("7", "1"), ("7", "2"), ("8", "3")]


@pytest.mark.parametrize("mapping", [EnvelopeMapping(), ColumnsMapping(ColumnsSettings(), read_columns=dict)])
@given(contents=st.lists(payloads | json_texts.map(str.encode), max_size=6))
def test_what_is_known_of_documents_changes_nothing_that_lands(
    mapping: EnvelopeMapping | ColumnsMapping, contents: list[bytes]
) -> None:
    records = [
        Record(
            sequence_number=str(number // 2),
            approximate_arrival=number / 1000,
            data=data,
            partition_key=f"key-{number}",
            sub_sequence_number=number % 2,
        )
        for number, data in enumerate(contents)
    ]
    documents = expand(records, sequence).records()
    known = DecodingEncoder(sequence, mapping).encode(records, stream_name="s", shard_id="1")
    unknown = mapping.encode(documents, stream_name="s", shard_id="1")
    if not unknown.dead_letters:
        assert known.rows.equals(unknown.rows)


def test_what_a_decoder_only_says_is_checked_becomes_a_dead_letter_if_it_is_not_utf_8() -> None:
    def decode(payload: bytes, _key: str = "", /) -> Documents:
        return CheckedDocuments([b"1", payload])

    rows, dead_letters, _ = encode(decode, record(b'"\xff"', 1), record(b"2", 2))

    assert rows == [("2", "1"), ("2", "2")]
    assert [letter.reason for letter in dead_letters] == ["not UTF-8: invalid start byte at byte 1"]


def test_a_decoder_that_finds_nothing_holds_up_nothing() -> None:
    def decode(payload: bytes, _key: str = "", /) -> Documents:
        return [payload] if payload == b"2" else []

    rows, _, _ = encode(decode, record(b"1", 1), record(b"2", 2), record(b"3", 3))

    assert rows == [("2", "2")]


class NothingBelowTen(EnvelopeMapping):
    """A mapping that refuses small numbers."""

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        encoded = super().encode(
            [item for item in records if int(item.data) >= 10], stream_name=stream_name, shard_id=shard_id
        )
        small = (DeadLetter(item, "too small", "N") for item in records if int(item.data) < 10)
        return replace(encoded, dead_letters=(*encoded.dead_letters, *small))

    def encode_documents(self, expansion: Expansion, *, stream_name: str, shard_id: str) -> EncodedRecords:
        return self.encode(expansion.records(), stream_name=stream_name, shard_id=shard_id)


def test_a_record_of_which_the_mapping_refuses_a_document_becomes_a_dead_letter_as_a_whole() -> None:
    records = [record(b"10 1 2", 1, sub=0), record(b"11 12", 1, sub=1), record(b"13", 2)]

    encoded = DecodingEncoder(sequence, NothingBelowTen()).encode(records, stream_name="s", shard_id="1")

    assert encoded.rows.column("RECORD_CONTENT").to_pylist() == ["11", "12", "13"]
    assert [(letter.record, letter.reason, letter.column) for letter in encoded.dead_letters] == [
        (records[0], "too small", "N")
    ]


# --- text and bytes ----------------------------------------------------------------------------------------


@given(texts)
def test_text_comes_back_as_it_was(content: str) -> None:
    (document,) = text(content.encode())
    assert json.loads(document) == content


@given(st.binary())
def test_bytes_come_back_as_they_were(content: bytes) -> None:
    (document,) = binary(content)
    assert base64.b64decode(json.loads(document), validate=True) == content


def test_text_that_is_not_utf_8_has_a_reason() -> None:
    with pytest.raises(UndecodableError, match="not UTF-8: invalid start byte at byte 1"):
        text(b"a\xff")


# --- settings ----------------------------------------------------------------------------------------------


def test_the_default_needs_no_stage_at_all() -> None:
    assert payload_decoder() is None
    assert payload_decoder("json", json_documents="one") is None


def test_compressed_payloads_of_any_format_are_inflated_first() -> None:
    payload = gzip.compress(b"1\n2")
    for settings, documents in (({"json_documents": "sequence"}, [b"1", b"2"]), ({}, [b"1\n2"])):
        decode = payload_decoder(compression="auto", **settings)  # type: ignore[arg-type]
        assert decode is not None
        assert decode(payload) == documents


def test_a_record_that_does_not_land_says_nothing_of_columns() -> None:
    mapping = ColumnsMapping(ColumnsSettings(), read_columns=dict)
    payloads = [b'{"v":1}', b'{"v":"x","w":1}\n{"v":1e400}\n{"u":1}', b'{"v":2}\n{"v":3}']
    records = [record(payload, number) for number, payload in enumerate(payloads)]

    encoded = DecodingEncoder(sequence, mapping).encode(records, stream_name="s", shard_id="1")

    assert [letter.record for letter in encoded.dead_letters] == [records[1]]
    assert encoded.rows["sequenceNumber"].to_pylist() == ["0", "2", "2"]
    assert [(item.column, item.type.kind) for item in encoded.fields] == [("V", DataType.NUMBER)]


def test_each_setting_has_its_decoder() -> None:
    assert payload_decoder("json", json_documents="array") is array_items
    assert payload_decoder("json", json_documents="sequence") is sequence
    assert payload_decoder("text") is text
    assert payload_decoder("binary") is binary


@pytest.mark.parametrize(
    "settings",
    [
        {"payload_format": "xls"},
        {"json_documents": "two"},
        {"payload_format": "text", "json_documents": "array"},
        {"avro_schema": "int"},
        {"payload_format": "text", "avro_schema_resolver": str},
        {"payload_format": "avro"},
        {"payload_format": "avro", "avro_schema": "int", "avro_schema_resolver": str},
        {"payload_format": "avro", "avro_schema": '"unknown"'},
        {"payload_format": "avro", "avro_schema": "{"},
        {"payload_format": "avro", "avro_schema": {"type": "record"}},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidSettingError):
        payload_decoder(**settings)  # type: ignore[arg-type]
