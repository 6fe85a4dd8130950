"""What some programs write in front of UTF-8 stops no format that is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_kinesis_snowflake.formats.basic import Json
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.delimited import CSV, Pattern
from airflow_kinesis_snowflake.formats.flattening import flatten

DMS = {
    "data": {"id": 1},
    "metadata": {"record-type": "data", "operation": "insert", "schema-name": "s", "table-name": "t"},
}


@pytest.mark.parametrize(
    ("chosen", "payload"),
    [
        (Json("array"), b'[{"a":1}]'),
        (Json("array"), b'{"a":1}'),
        (Json("sequence"), b'{"a":1}\n{"a":2}'),
        (Json("sequence"), b'{"a":1} {"a":2}'),
        (CSV(), b"a,b\n1,2"),
        (CSV(names=["a"]), b"1"),
        (Pattern("(?P<a>[0-9]+)"), b"1"),
        ("dms", json.dumps(DMS).encode()),
    ],
)
def test_a_mark_in_front_changes_nothing(chosen: Any, payload: bytes) -> None:
    decode = payload_decoder(chosen)
    assert decode is not None
    assert decode(b"\xef\xbb\xbf" + payload) == decode(payload)


def test_a_document_with_a_mark_is_flattened() -> None:
    assert flatten(b'\xef\xbb\xbf{"a":{"b":1}}', depth=1, paths={}) == b'{"a_b":1}'


def test_a_mark_behind_the_header_of_a_registry_is_skipped() -> None:
    decode = payload_decoder("json_schema")
    assert decode is not None
    assert decode(b"\0\0\0\0\7\xef\xbb\xbf{}") == [b"{}"]


def test_text_keeps_it() -> None:
    decode = payload_decoder("text")
    assert decode is not None
    assert decode(b"\xef\xbb\xbfx") == ['"\ufeffx"'.encode()]
