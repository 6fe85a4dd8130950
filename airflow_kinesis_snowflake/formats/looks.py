"""Says what a payload that can't be read looks like, and which setting reads it."""

from __future__ import annotations

import base64
import binascii
import json
import re

from airflow_kinesis_snowflake.formats.compression import kind_of

_BEGINNINGS = (
    (b"Obj\x01", "an Avro container, which payload_format='avro_container' reads"),
    (b"\xc3\x01", "an Avro single object, which payload_format=AvroSingleObject(...) reads"),
    (b"\xf3\x89\x9a\xc2", "a KPL aggregate whose MD5 is wrong"),
    (b"\xef\xbb\xbf", "text with a byte order mark"),
    (b"\xff\xfe", "UTF-16, which payload_format='binary' keeps"),
    (b"\xfe\xff", "UTF-16, which payload_format='binary' keeps"),
    (b"<", "XML, which payload_format='text' reads as text"),
)
_HEADERS = (
    (b"\x00", 5, "Confluent's"),
    (b"\x03\x00", 18, "AWS Glue's"),
    (b"\x03\x05", 18, "AWS Glue's"),
)
_REGISTRY = "schema registry in front, which payload_format='avro', 'protobuf' or 'json_schema' reads"
_SHOWN_BASE64 = 4096
_SHOWN_DOCUMENTS = 2**16
_first_document = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_NOT_A_NUMBER = re.compile(rb"[:,\[]\s{0,9}-?(?:NaN|Infinity)\b")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


def hint(payload: bytes) -> str:
    """The end of a reason; empty if the bytes look like nothing known. Never quotes them."""
    guess = _guess(payload)
    return f"; looks like {guess}" if guess else ""


def _guess(payload: bytes) -> str | None:
    for beginning, description in _BEGINNINGS:
        if payload.startswith(beginning):
            return description
    if kind := kind_of(payload):
        return f"{kind}, which compression='auto' reads if it is whole"
    for beginning, length, whose in _HEADERS:
        if payload.startswith(beginning) and len(payload) > length:
            first = payload[length : length + 1]
            kind = "JSON" if first in (b"{", b"[") else "a payload"
            return f"{kind} with the header of {whose} {_REGISTRY}"
    if payload[:1] in (b"{", b"[") and _NOT_A_NUMBER.search(_STRING.sub(b"", payload)):
        return "JSON with NaN or Infinity, which JSON doesn't allow and payload_format='text' keeps"
    return _documents(payload) or _base64_of(payload) or _map_of(payload)


def _documents(payload: bytes) -> str | None:
    if payload[:1] not in (b"{", b"["):
        return None
    text = payload[:_SHOWN_DOCUMENTS].decode(errors="replace")
    try:
        _, end = _first_document(text)
    except (ValueError, RecursionError):
        return None
    second = text[end:].lstrip()
    if second[:1] not in ("{", "["):
        return None
    try:
        _first_document(second)
    except (ValueError, RecursionError):
        if len(payload) <= _SHOWN_DOCUMENTS:
            return None
    return "several documents, which json_documents='sequence' reads as payload_format='json'"


def _base64_of(payload: bytes) -> str | None:
    text = payload.strip().strip(b'"')[:_SHOWN_BASE64]
    if len(text) < 8 or (len(text) < _SHOWN_BASE64 and len(text) % 4):
        return None
    try:
        inner = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    if inner[:1] in (b"{", b"["):
        return "base64 of JSON: the producer needn't encode what the AWS SDK encodes"
    if kind := kind_of(inner):
        return f"base64 of {kind}: the producer needn't encode what the AWS SDK encodes"
    return None


def _map_of(payload: bytes) -> str | None:
    """Maps of MessagePack and CBOR begin with the number of keys, and the first key with its length."""
    if len(payload) < 3 or not payload[2:3].isalnum():
        return None
    if 0x81 <= payload[0] <= 0x8F and 0xA1 <= payload[1] <= 0xBF:
        return "a MessagePack map, which payload_format='msgpack' reads"
    if 0xA1 <= payload[0] <= 0xB7 and 0x61 <= payload[1] <= 0x77:
        return "a CBOR map, which payload_format='binary' keeps"
    return None
