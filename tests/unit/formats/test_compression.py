"""Compressed payloads are inflated up to a bound; what isn't compressed stays as it is."""

from __future__ import annotations

import gzip
import importlib.util
import random
import sys
import zlib
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats import compression
from airflow_kinesis_snowflake.formats.compression import decompressing, inflater

KINDS = ["gzip", "zlib", "zstd", "lz4"]
SNAPPY = b"\xff\x06\x00\x00sNaPpY"
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
    with pytest.raises(UndecodableError, match="not valid"):
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

    def twice(data: bytes, key: str = "", /) -> list[bytes]:
        return [data, data, key.encode()]

    assert decompressing(inflater("gzip"), twice)(gzip.compress(b"1"), "k") == [b"1", b"1", b"k"]


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="auto, gzip"):
        inflater("bzip2")


# --- with the extra, and without ---------------------------------------------------------------------------


def without_libdeflate() -> Any:
    """The module as it is where the extra isn't installed."""
    spec = importlib.util.find_spec(compression.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "deflate", None)
        spec.loader.exec_module(module)
    return module


STANDARD_LIBRARY = without_libdeflate()


def answer(inflate: Any, payload: bytes) -> bytes | str:
    try:
        inflated: bytes = inflate(payload)
    except UndecodableError as error:
        return str(error)
    return inflated


def test_the_extra_is_used_where_it_is_installed() -> None:
    assert compression._deflate.__name__ == "deflate"
    assert STANDARD_LIBRARY._deflate is None


@st.composite
def streams(draw: st.DrawFn, window: int) -> bytes:
    """Streams of any level and strategy, some with the optional parts of a header."""
    deflating = zlib.compressobj(
        draw(st.integers(0, 9)),
        wbits=window,
        memLevel=draw(st.integers(1, 9)),
        strategy=draw(st.integers(0, 4)),
    )
    data = draw(st.binary(max_size=60)) * draw(st.integers(0, 40))
    stream = deflating.compress(data) + deflating.flush()
    if window == 15:
        return stream
    flags = draw(st.integers(0, 255))
    parts = [(4, b"\x02\0xx"), (8, b"name\0"), (16, b"comment\0")]
    head = stream[:3] + bytes([flags]) + stream[4:10] + b"".join(part for flag, part in parts if flags & flag)
    if flags & 2:
        head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    return head + stream[10:]


@pytest.mark.parametrize(("kind", "window"), [("gzip", 31), ("zlib", 15)])
@given(draw=st.data())
def test_both_answer_the_same(kind: str, window: int, draw: st.DataObject) -> None:
    payload = bytearray(b"".join(draw.draw(st.lists(streams(window), min_size=1, max_size=3))))
    for place, byte in draw.draw(st.lists(st.tuples(st.integers(0, len(payload) - 1), st.integers(0, 255)))):
        payload[place] = byte
    payload = payload[: draw.draw(st.integers(0, len(payload)) | st.just(len(payload)))]
    payload += draw.draw(st.just(b"") | st.binary(max_size=3))
    for name in (kind, "auto"):
        answers = [
            answer(of.inflater(name, most=1000), bytes(payload)) for of in (compression, STANDARD_LIBRARY)
        ]
        assert answers[0] == answers[1]


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
@given(st.binary(max_size=60), st.binary(min_size=1, max_size=12))
def test_bytes_behind_a_stream_are_noticed(kind: str, data: bytes, more: bytes) -> None:
    for of in (compression, STANDARD_LIBRARY):
        assert answer(of.inflater(kind), compressed(kind, data) + more) == f"not valid {kind} data"


@pytest.mark.parametrize(("kind", "trailer"), [("gzip", 8), ("zlib", 4)])
@given(st.binary(min_size=1, max_size=60), st.binary(max_size=12))
def test_bytes_behind_a_stream_are_noticed_even_if_they_end_as_it_does(
    kind: str, trailer: int, data: bytes, more: bytes
) -> None:
    stream = compressed(kind, data)
    for of in (compression, STANDARD_LIBRARY):
        inflate = of.inflater(kind)
        assert answer(inflate, stream + stream) == data + data
        assert answer(inflate, stream + more + stream[-trailer:]) == f"not valid {kind} data"


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
def test_flags_of_gzip_that_mean_nothing_yet_are_refused(flag: int) -> None:
    payload = bytearray(gzip.compress(b"1"))
    payload[3] |= flag
    for of in (compression, STANDARD_LIBRARY):
        assert answer(of.inflater("gzip"), bytes(payload)) == "not valid gzip data"


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
@pytest.mark.parametrize("data", [random.Random(0).randbytes(200_000), bytes(200_000)])
def test_large_payloads_inflate_to_their_bound_and_no_further(kind: str, data: bytes) -> None:
    payload = compressed(kind, data)
    for of in (compression, STANDARD_LIBRARY):
        assert answer(of.inflater(kind, most=len(data)), payload) == data
        for too_much in (payload + payload, compressed(kind, data + b"x")):
            assert (
                answer(of.inflater(kind, most=len(data)), too_much) == "inflates to more than 200,000 bytes"
            )


# --- formats without a beginning of their own --------------------------------------------------------------


def snappy_chunk(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(3, "little") + data


def framed_snappy(data: bytes, *, size: int = 2**16) -> bytes:
    """The framing format, with chunks that are compressed and such that aren't, in turn."""
    out = [SNAPPY]
    for number, begin in enumerate(range(0, len(data), size)):
        part = data[begin : begin + size]
        stored = part if number % 2 else compressed("snappy", part)
        out.append(snappy_chunk(number % 2, b"\0\0\0\0" + stored))
    return b"".join([*out, snappy_chunk(0xFE, b"padding"), SNAPPY])


@given(st.binary(max_size=300), st.integers(1, 50))
def test_snappy_is_read_framed_and_raw(data: bytes, size: int) -> None:
    assert inflater("snappy")(framed_snappy(data, size=size)) == data
    assert inflater("auto")(framed_snappy(data, size=size)) == data
    assert inflater("snappy")(compressed("snappy", data)) == data


@given(st.binary(max_size=300))
def test_a_block_of_lz4_is_read_behind_its_size(data: bytes) -> None:
    payload = len(data).to_bytes(4, "little") + compressed("lz4_raw", data)
    assert inflater("lz4")(payload) == data
    assert inflater("auto")(payload) in (payload, data)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("snappy", b""),
        ("snappy", b"\xff\xff\xff\xff\xff\xff"),
        ("snappy", b"\x05"),
        ("snappy", framed_snappy(b"hello")[:-3]),
        ("snappy", SNAPPY + snappy_chunk(0x02, b"not to be skipped")),
        ("snappy", SNAPPY + snappy_chunk(0, b"\0")),
        ("snappy", b"\xff\xff\xff\xff\x0f"),
        ("lz4", b"\0\0\0\0"),
        ("lz4", b"\xff\xff\xff\x0f\0"),
    ],
)
def test_blocks_that_are_none_are_refused(kind: str, payload: bytes) -> None:
    with pytest.raises(UndecodableError, match="not valid"):
        inflater(kind)(payload)


@pytest.mark.parametrize("kind", ["snappy", "lz4"])
def test_blocks_inflate_to_their_bound_and_no_further(kind: str) -> None:
    def block(size: int) -> bytes:
        data = bytes(size)
        if kind == "snappy":
            return compressed("snappy", data)
        return size.to_bytes(4, "little") + compressed("lz4_raw", data)

    assert inflater(kind, most=1000)(block(1000)) == bytes(1000)
    with pytest.raises(UndecodableError, match="more than 1,000 bytes"):
        inflater(kind, most=1000)(block(1001))
    with pytest.raises(UndecodableError, match="more than 1,000 bytes"):
        inflater("snappy", most=1000)(framed_snappy(bytes(1001), size=100))
