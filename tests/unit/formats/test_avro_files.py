"""Avro's containers and single objects, as fastavro writes them, and damaged ones."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.avro import AvroContainer, AvroSingleObject
from airflow_kinesis_snowflake.formats.avro_schemas import fingerprint
from airflow_kinesis_snowflake.formats.engine import MAX_DOCUMENTS, Documents, DroppedPayload

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
ORDER = {
    "type": "record",
    "name": "shop.Order",
    "doc": "which no fingerprint looks at",
    "fields": [{"name": "id", "type": "long"}, {"name": "amount", "type": DECIMAL}],
}
ORDERS = [{"id": number, "amount": Decimal(number) / 4} for number in range(300)]
SYNC = bytes(range(16))
NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}


def container(schema: Any = ORDER, data: Any = ORDERS, **more: Any) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(schema), data, sync_marker=SYNC, **more)
    return out.getvalue()


def by_hand(*blocks: tuple[int, bytes], schema: str = '"int"', codec: str = "null") -> bytes:
    """A container of which nobody looked whether it can be."""
    metadata = {"avro.schema": schema.encode(), "avro.codec": codec.encode()}
    parts = [b"Obj\x01", encoded({"type": "map", "values": "bytes"}, metadata), SYNC]
    for count, block in blocks:
        parts += [encoded("long", count), encoded("long", len(block)), block, SYNC]
    return b"".join(parts)


def encoded(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def decoded(payload: bytes) -> Documents:
    return AvroContainer().decoder()(payload)


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz"])
def test_a_container_has_a_row_for_each_datum(codec: str) -> None:
    # Blocks of 200 bytes, so that there are several.
    found = decoded(container(codec=codec, sync_interval=200))
    assert not isinstance(found, DroppedPayload)
    assert [json.loads(document, parse_float=Decimal) for document in found] == ORDERS
    assert found[1] == b'{"id":1,"amount":0.25}'


def test_blocks_of_snappy_and_zstandard_are_read() -> None:
    import zlib

    import pyarrow as pa

    block = encoded("int", 7)
    snappy = pa.Codec("snappy").compress(block, asbytes=True)
    checked = snappy + zlib.crc32(block).to_bytes(4)
    assert decoded(by_hand((1, checked), codec="snappy")) == [b"7"]
    with pytest.raises(UndecodableError, match="not valid snappy data"):
        decoded(by_hand((1, snappy + bytes(4)), codec="snappy"))
    zstandard = pa.Codec("zstd").compress(block, asbytes=True)
    assert decoded(by_hand((1, zstandard), codec="zstandard")) == [b"7"]


def test_a_container_without_data_is_dropped_and_counted() -> None:
    assert decoded(container(data=[])) == DroppedPayload("Avro container without data")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not an Avro container"),
        (b'{"a":1}', "not an Avro container"),
        (b"Obj\x01", "damaged"),
        (container()[:-1], "damaged or cut off"),
        (container()[:-20], "damaged or cut off"),
        (container() + b"\x02", "damaged"),
        (by_hand((1, b"\x02\x02")), "a block that holds more data than it declares"),
        (by_hand((2, b"\x02")), "doesn't fit the Avro schema"),
        (by_hand((-1, b"\x02")), "damaged"),
        (by_hand((1, b"\x02"), codec="lzo"), "a codec that Avro doesn't have"),
        (by_hand((1, b"\x02"), codec="deflate"), "not valid deflate data"),
        (by_hand((1, b"\x02"), schema="{"), "an Avro container: not an Avro schema"),
        (by_hand((1, b"\x02"), schema="[" * 10**6), "an Avro container: not an Avro schema"),
        (
            by_hand(
                (1, b"\x02"),
                schema='{"type":"record","name":"T","fields":[{"name":"t","type":["null","T"]}]}',
            ),
            "contains itself",
        ),
    ],
)
def test_a_container_that_is_damaged_is_a_dead_letter(payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        decoded(payload)


def test_a_header_that_is_cut_off_anywhere_is_a_dead_letter() -> None:
    header = container(data=[])
    for length in range(len(header)):
        with pytest.raises(UndecodableError, match=r"damaged|cut off in its header|not an Avro container"):
            decoded(header[:length])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "SECRET" * 100_000}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "SECRET": "int"}]},
        {"type": "record", "name": "R", "fields": [{"name": "SECRET", "type": "null"}] * 2},
        {"type": "enum", "name": "E", "symbols": ["SECRET!"]},
        {
            "type": "record",
            "name": "SECRET",
            "fields": [{"name": "a", "type": {"type": "enum", "name": "SECRET"}}],
        },
        {"type": "SECRET"},
        "SECRET",
    ],
)
def test_what_is_wrong_with_the_schema_of_a_container_is_said_without_its_text(schema: Any) -> None:
    with pytest.raises(UndecodableError, match="the schema in an Avro container") as raised:
        decoded(by_hand((1, b"\x02"), schema=json.dumps(schema)))
    assert "SECRET" not in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz"])
def test_what_a_block_inflates_to_is_bounded(codec: str) -> None:
    payload = container("bytes", [bytes(17 * 2**20)], codec=codec)
    assert len(payload) < 2**17
    with pytest.raises(UndecodableError, match="inflates to more than 16,777,216 bytes"):
        decoded(payload)


def test_data_without_a_byte_are_bounded_too() -> None:
    payload = by_hand((2**40, b""), schema=json.dumps(NOTHING))
    with pytest.raises(UndecodableError, match=f"more than {MAX_DOCUMENTS:,} documents"):
        decoded(payload)


@given(st.data())
def test_a_container_with_changed_bytes_has_an_answer(data: st.DataObject) -> None:
    changed = bytearray(container(data=ORDERS[:3], codec=data.draw(st.sampled_from(["null", "deflate"]))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        assert decoded(bytes(changed))
    except UndecodableError:
        return


# --- single objects ----------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_specification() -> None:
    # Two of those in the test data of the specification, the lowest byte first.
    assert fingerprint('"int"') == bytes.fromhex("7275d51a3f395c8f")[::-1]
    assert fingerprint('"null"') == bytes.fromhex("63dd24e7cc258f8a")[::-1]
    plain = {**ORDER, "fields": [{"name": "id", "type": "long"}, {"name": "amount", "type": "bytes"}]}
    assert fingerprint(json.dumps(ORDER)) == fingerprint(plain)


def test_the_fingerprint_in_front_says_which_schema_it_is() -> None:
    decode = AvroSingleObject(schemas=['"string"', ORDER]).decoder()
    order = b"\xc3\x01" + fingerprint(ORDER) + encoded(ORDER, ORDERS[3])
    assert decode(order) == [b'{"id":3,"amount":0.75}']
    assert decode(b"\xc3\x01" + fingerprint('"string"') + encoded("string", "x")) == [b'"x"']
    for payload, reason in (
        (b"\xc3\x01" + fingerprint('"int"') + b"\x02", "none of the Avro schemas has the fingerprint"),
        (order[:9], "not an Avro single object"),
        (order[1:], "not an Avro single object"),
        (order[:-1], "doesn't fit the Avro schema"),
        (order + b"\0", "left over"),
    ):
        with pytest.raises(UndecodableError, match=reason):
            decode(payload)


@pytest.mark.parametrize("schemas", [[], ["{"], ['"int"', 7], '"int"', [None], [["int", {}]]])
def test_schemas_that_cannot_be_used_are_refused(schemas: Any) -> None:
    with pytest.raises(InvalidSettingError):
        AvroSingleObject(schemas=schemas).decoder()
