"""A dead letter says what its bytes look like."""

from __future__ import annotations

import base64
import gzip
import zlib

import pytest

from airflow_kinesis_snowflake.formats.envelope import refusal
from airflow_kinesis_snowflake.formats.looks import hint


@pytest.mark.parametrize(
    ("payload", "looks"),
    [
        (gzip.compress(b"1", mtime=0), "gzip, which compression='auto' reads if it is whole"),
        (zlib.compress(b"1"), "zlib, which compression='auto' reads if it is whole"),
        (b"Obj\x01", "Avro container"),
        (b"\xc3\x01\x00", "Avro single object"),
        (b"\xf3\x89\x9a\xc2", "KPL aggregate whose MD5 is wrong"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "UTF-16"),
        (b"<o><id>7</id></o>", "XML, which payload_format='text'"),
        (b'\0\0\0\0\7{"a":1}', "JSON with the header of Confluent's schema registry"),
        (b"\3\0" + bytes(16) + b"\2", "a payload with the header of AWS Glue's schema registry"),
        (bytes.fromhex("82a36c6f67a568656c6c6fa16e07"), "a MessagePack map, which payload_format='msgpack'"),
        (bytes.fromhex("a1616101"), "CBOR"),
        (b"eyJhIjoxfQ==", "base64 of JSON"),
        (base64.b64encode(gzip.compress(b"1", mtime=0)), "base64 of gzip"),
        (b'{"a":NaN}', "JSON with NaN"),
        (
            b'{"a":1}\n{"a":2}\n',
            "several documents, which json_documents='sequence' reads as payload_format='json'",
        ),
        (b'[{"a":1}]{"a":2}', "several documents"),
    ],
)
def test_a_reason_names_what_the_bytes_look_like(payload: bytes, looks: str) -> None:
    assert looks in (refusal(payload) or "")


@pytest.mark.parametrize(
    "payload",
    [b"GET /", b'{"a":1}{bad', b'{"a":1}[', b'{"m":"x [NaN] y"', b'{"m":"[NaN', b'{"m":"\\"[NaN]\\', b'["\\'],
)
def test_what_no_setting_reads_looks_like_nothing(payload: bytes) -> None:
    assert hint(payload) == ""


def test_documents_that_go_on_for_long_are_told_by_their_beginning() -> None:
    assert "several documents" in hint(b'{"a":1}{"a":"%s"}' % (b"x" * 2**17))
