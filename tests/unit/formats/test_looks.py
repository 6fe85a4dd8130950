"""A dead letter says what its bytes look like."""

from __future__ import annotations

import gzip
import zlib

import pytest

from airflow_kinesis_snowflake.formats.looks import hint
from airflow_kinesis_snowflake.landing.envelope import refusal


@pytest.mark.parametrize(
    ("payload", "looks"),
    [
        (gzip.compress(b"1", mtime=0), "gzip, which compression='auto' reads"),
        (zlib.compress(b"1"), "zlib, which compression='auto' reads"),
        (b"Obj\x01", "Avro container"),
        (b"\xc3\x01\x00", "Avro single object"),
        (b"\xf3\x89\x9a\xc2", "KPL aggregate whose MD5 is wrong"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_a_reason_names_what_the_bytes_look_like(payload: bytes, looks: str) -> None:
    assert looks in (refusal(payload) or "")


def test_plain_text_looks_like_nothing() -> None:
    assert hint(b"GET /") == ""
