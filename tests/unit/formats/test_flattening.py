"""Values of nested objects become keys of their own, and stay the text that was sent."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.basic import array_items
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.decoding import DecodingEncoder
from airflow_kinesis_snowflake.formats.engine import DroppedPayload
from airflow_kinesis_snowflake.formats.flattening import flatten, flattening
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.stream.records import Record

PAGE = Path(__file__).parents[3] / "docs" / "what-lands.md"
EVENT = b'{"id": 1, "detail": {"order": {"id": 7, "total": 12.50}, "tags": ["a"], "none": {}}}'


def parsed(document: bytes) -> Any:
    return json.loads(document, parse_float=Decimal)


@pytest.mark.parametrize(
    ("depth", "keys"),
    [
        (0, {"id", "detail"}),
        (1, {"id", "detail_order", "detail_tags", "detail_none"}),
        (2, {"id", "detail_order_id", "detail_order_total", "detail_tags", "detail_none"}),
        (9, {"id", "detail_order_id", "detail_order_total", "detail_tags", "detail_none"}),
    ],
)
def test_so_many_levels_become_keys(depth: int, keys: set[str]) -> None:
    assert parsed(flatten(EVENT, depth=depth, paths={})).keys() == keys


def test_a_path_adds_a_key_where_it_leads_to_a_value() -> None:
    paths = {"order_id": "detail.order.id", "nothing": "detail.order.id.more", "first": "detail.tags.0"}
    assert flatten(EVENT, depth=0, paths=paths) == (
        b'{"id":1,"detail":{"order": {"id": 7, "total": 12.50}, "tags": ["a"], "none": {}},"order_id":7}'
    )


@pytest.mark.parametrize("document", [b'{"a": {"b": 1}, "a_b": 2}', b'{"a": {"b": {"c": 1}, "b_c": 2}}'])
def test_two_values_of_one_key_are_refused(document: bytes) -> None:
    with pytest.raises(UndecodableError, match="two values get the same key"):
        flatten(document, depth=2, paths={})


@pytest.mark.parametrize(
    "document", [b"[1]", b"1", b"", b"nonsense", b'{"a": {"\xff": 1}}', b'{"a":' * 99_999]
)
def test_what_is_no_object_is_left_for_the_mapping_to_refuse(document: bytes) -> None:
    assert flatten(document, depth=2, paths={"x": "a.b"}) == document


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
keys = st.text("abcé", min_size=1, max_size=3)
objects = st.dictionaries(keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3)))


@given(objects, st.integers(min_value=0, max_value=4))
def test_every_value_is_there_once(document: dict[str, Any], depth: int) -> None:
    def expected(value: dict[str, Any], levels: int, prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, inner in value.items():
            deeper = levels and isinstance(inner, dict) and inner
            found |= expected(inner, levels - 1, f"{prefix}{key}_") if deeper else {prefix + key: inner}
        return found

    assert parsed(flatten(json.dumps(document).encode(), depth=depth, paths={})) == expected(document, depth)


def test_a_dead_letter_keeps_the_payload_as_it_came_and_its_neighbours_land() -> None:
    mapping = ColumnsMapping(ColumnsSettings(), read_columns=dict)
    decode = flattening(array_items, depth=1, paths={})
    assert decode is not None
    payloads = [b'[{"a": {"b": 1}}, {"a": 1}]', b'[{"a": {"b": 1}, "a_b": 2}]']
    records = [
        Record(sequence_number=str(number), approximate_arrival=1.0, partition_key="k", data=payload)
        for number, payload in enumerate(payloads)
    ]
    encoded = DecodingEncoder(decode, mapping).encode(records, stream_name="s", shard_id="shardId-0")
    assert {item.column for item in encoded.fields} == {"A_B", "A"}
    assert encoded.rows.num_rows == 2
    assert [letter.record.data for letter in encoded.dead_letters] == payloads[1:]


def test_a_long_name_above_many_values_does_not_fill_the_memory() -> None:
    inner = ",".join(f'"{number}":0' for number in range(100_000))
    with pytest.raises(UndecodableError, match="larger than 64 MiB"):
        flatten(b'{"%s":{%s}}' % (b"k" * 1_000_000, inner.encode()), depth=1, paths={})


def test_what_a_format_drops_stays_dropped() -> None:
    dropped = DroppedPayload("control message")
    decode = flattening(lambda *_: dropped, depth=1, paths={})
    assert decode is not None
    assert decode(b"{}") is dropped


def test_documents_that_stay_as_they_are_need_no_decoder() -> None:
    assert flattening(None, depth=0, paths={}) is None
    assert flattening(array_items, depth=0, paths={}) is array_items


def test_the_example_of_the_documentation() -> None:
    sent, landed = PAGE.read_text().partition("### Nested objects\n")[2].split("```json\n")[1:3]
    found = flatten(sent.split("```")[0].encode(), depth=1, paths={"order_id": "detail.order.id"})
    assert parsed(found) == parsed(landed.split("```")[0].encode())
