"""Compressed payloads are inflated up to a bound; what isn't compressed stays as it is."""

from __future__ import annotations

import gzip
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.compression import decompressing, inflater

KINDS = ["gzip", "zlib", "zstd", "lz4"]
MAGIC = [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"x^", b"x\x9c", b"hC"]


def compressed(kind: str, data: bytes) -> bytes:
    if kind == "gzip":
        return gzip.compress(data)
    if kind == "zlib":
        return zlib.compress(data)
    return bytes(pa.Codec(kind).compress(data, asbytes=True))


@pytest.mark.parametrize("kind", KINDS)
@given(members=st.lists(st.binary(), min_size=1, max_size=3))
def test_every_member_comes_out_as_it_went_in(kind: str, members: list[bytes]) -> None:
    payload = b"".join(compressed(kind, member) for member in members)
    assert inflater(kind)(payload) == b"".join(members)
    assert inflater("auto")(payload) == b"".join(members)


@given(st.sampled_from([b"", *MAGIC]), st.text(max_size=40))
def test_auto_leaves_text_as_it_is_whatever_it_begins_with(magic: bytes, text: str) -> None:
    payload = magic + text.encode(errors="replace")
    assert inflater("auto")(payload) == payload


@pytest.mark.parametrize("kind", KINDS)
@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=60))
def test_bytes_that_are_no_stream_are_refused(kind: str, magic: bytes, data: bytes) -> None:
    with pytest.raises(UndecodableError, match="not whole"):
        inflater(kind)(magic + data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_cut_off_is_refused(kind: str) -> None:
    whole = compressed(kind, b'{"a": 1}' * 20)
    for end in range(len(whole)):
        with pytest.raises(UndecodableError):
            inflater(kind)(whole[:end])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("setting", ["auto", "named"])
def test_a_payload_inflates_to_its_bound_and_no_further(kind: str, setting: str) -> None:
    inflate = inflater("auto" if setting == "auto" else kind, most=1000)
    assert len(inflate(compressed(kind, bytes(1000)))) == 1000
    for payload in (compressed(kind, bytes(1001)), compressed(kind, bytes(600)) * 2):
        with pytest.raises(UndecodableError, match="more than 1,000 bytes"):
            inflate(payload)


def test_what_comes_out_is_decoded() -> None:
    assert decompressing(inflater("gzip"), None)(gzip.compress(b"1")) == [b"1"]
    assert decompressing(inflater("gzip"), lambda data, _: [data, data])(gzip.compress(b"1")) == [b"1", b"1"]


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="auto, gzip"):
        inflater("bzip2")
