"""Inflates payloads, up to a bound, so that a small record can't fill the memory.

gzip and zlib are read by libdeflate if the extra ``gzip`` is installed; without it, and where there is more
than one member or stream, by the standard library. The others are read by Arrow.

====== ===================================================================================================
gzip   RFC 1952, one member or several
zlib   RFC 1950, one stream or several
zstd   RFC 8878, one frame or several
lz4    frames (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md), one or several; or a block
       after its inflated size in 4 bytes, little-endian, as the bindings for Python and Java write it
snappy the framing format (https://github.com/google/snappy/blob/main/framing_format.txt), whose
       checksums aren't verified; or the raw format, which begins with the inflated size
====== ===================================================================================================
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

    Inflate = Callable[[bytes], bytes]

MAX_INFLATED_BYTES = 64 * 2**20
"""Bytes that a payload may inflate to."""

MAX_MEMBERS = 10_000
"""Members, streams or chunks of a payload: they may be empty, so a bound on their bytes isn't enough."""

_SNAPPY_STREAM = b"\xff\x06\x00\x00sNaPpY"
_SNAPPY_CHUNK = 2**16
_CHECKSUM_BYTES = 4
# What follows a member is copied, so a payload of many members is fed in pieces.
_PIECE = 2**16
# zlib's format doesn't say how much comes out, and libdeflate wants to know how much may.
_USUAL_RATIO = 32


def _libdeflate() -> Any:
    try:
        import deflate
    except ImportError:
        return None
    return deflate


_deflate = _libdeflate()


class _TooLargeError(UndecodableError):
    """A payload inflates to more than it may."""


class _BadDataError(Exception):
    """Not a complete, valid stream of the kind."""


def inflater(compression: str, *, most: int = MAX_INFLATED_BYTES) -> Inflate:
    """The function that inflates payloads.

    :param compression: ``gzip``, ``zlib``, ``zstd``, ``lz4`` or ``snappy``; or ``auto``, which recognizes
        these by their first bytes, and leaves a payload as it is unless it is such a stream from the first
        byte to the last. Blocks of lz4 and raw snappy have no signature, so ``auto`` takes them for
        uncompressed payloads
    :param most: bytes that may come out
    :return: raises :class:`UndecodableError` for a payload that can't be inflated, or to more than ``most``
    :raises InvalidSettingError: the name is unknown
    """
    if compression == "auto":
        return partial(_inflate_if_compressed, most=most)
    if compression not in _READERS:
        raise InvalidSettingError(
            f"compression must be one of {', '.join(COMPRESSIONS)}, not {compression!r}"
        )
    read = _READERS[compression]

    def inflate(payload: bytes) -> bytes:
        try:
            return read(payload, most)
        except _BadDataError:
            raise _invalid(compression) from None

    return inflate


def decompressing(inflate: Inflate, decode: Decoder | None) -> Decoder:
    """A decoder that inflates payloads first.

    :param decode: takes inflated payloads apart; ``None``: each is its document
    """

    def document(payload: bytes, _key: str = "", /) -> Documents:
        return [inflate(payload)]

    def documents(payload: bytes, key: str = "", /) -> Documents:
        assert decode is not None
        return decode(inflate(payload), key)

    return document if decode is None else documents


def kind_of(payload: bytes) -> str | None:
    """The compression that a payload's first bytes suggest; other data may begin with the same bytes."""
    if payload.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if payload.startswith(b"\x04\x22\x4d\x18"):
        return "lz4"
    if payload.startswith(_SNAPPY_STREAM):
        return "snappy"
    # RFC 1950: deflate, a window of at most 32 KiB, and a check over both bytes.
    if len(payload) > 1 and payload[0] & 0x8F == 8 and int.from_bytes(payload[:2]) % 31 == 0:
        return "zlib"
    return None


def inflate_block(codec: str | None, block: bytes, most: int) -> bytes:
    """What a block of an Avro container inflates to.

    :param codec: ``null``, ``deflate`` (RFC 1951), ``snappy`` (raw, followed by a 4-byte checksum), ``zstd``,
        ``bzip2`` or ``xz``
    :param most: bytes that may come out
    :raises UndecodableError: it can't be inflated, or to more than ``most``; or the codec is unknown
    """
    if codec is None:
        raise UndecodableError("compressed with a codec that Avro doesn't have")
    try:
        return _BLOCK_READERS[codec](block, most)
    except _BadDataError:
        raise _invalid(codec) from None


def _invalid(kind: str) -> UndecodableError:
    return UndecodableError(f"not valid {kind} data")


def _inflate_if_compressed(payload: bytes, *, most: int) -> bytes:
    kind = kind_of(payload)
    if kind is None:
        return payload
    try:
        return _READERS[kind](payload, most)
    except _BadDataError:
        return payload


# --- gzip and zlib -----------------------------------------------------------------------------------------


def _gzip(payload: bytes, most: int) -> bytes:
    end = payload[-4:]
    size = int.from_bytes(end, "little")
    # libdeflate doesn't look at the checksum of a header, which only one with flags can have.
    if _deflate is not None and 0 < size <= most and payload[3:4] == b"\0":
        try:
            inflated = _deflate.gzip_decompress(payload, size)
        except _deflate.DeflateError:
            pass
        else:
            if len(inflated) == size and _ends_with_first(payload, end):
                return bytes(inflated)
    return _zlib_members(31, payload, most)


def _zlib(payload: bytes, most: int) -> bytes:
    if _deflate is not None:
        try:
            inflated = _deflate.zlib_decompress(payload, min(most, _USUAL_RATIO * len(payload)))
        except _deflate.DeflateError:
            pass
        else:
            if _ends_with_first(payload, _deflate.adler32(inflated).to_bytes(4)):
                return bytes(inflated)
    return _zlib_members(15, payload, most)


def _ends_with_first(payload: bytes, end: bytes) -> bool:
    """Whether nothing follows the stream that a payload begins with, which libdeflate doesn't say.

    If something did, the end of the stream would occur ahead of it. It may occur inside the stream too, so
    ``False`` means that nobody knows.

    :param end: the last four bytes of the stream
    """
    return payload.find(end) == len(payload) - len(end)


def _zlib_members(window: int, payload: bytes, most: int) -> bytes:
    inflating = zlib.decompressobj(window)
    try:
        # One byte more than allowed, since 0 stands for no limit.
        inflated = inflating.decompress(payload, most + 1)
    except zlib.error:
        raise _BadDataError from None
    if inflating.eof and not inflating.unused_data and len(inflated) <= most:
        return inflated
    _check(most - len(inflated), most)
    return _zlib_pieces(window, memoryview(payload), most)


def _zlib_pieces(window: int, payload: memoryview, most: int) -> bytes:
    inflated: list[bytes] = []
    members, begin, left = 1, 0, most
    inflating = zlib.decompressobj(window)
    while begin < len(payload):
        piece = payload[begin : begin + _PIECE]
        try:
            inflated.append(inflating.decompress(piece, left + 1))
        except zlib.error:
            raise _BadDataError from None
        left -= len(inflated[-1])
        _check(left, most)
        begin += len(piece) - len(inflating.unused_data)
        if inflating.eof and begin < len(payload):
            inflating = zlib.decompressobj(window)
            members += 1
            _check_members(members)
    if not inflating.eof:
        raise _BadDataError
    return b"".join(inflated)


# --- what Arrow reads --------------------------------------------------------------------------------------


def _arrow_members(codec: str, payload: bytes, most: int) -> bytes:
    import pyarrow as pa

    if not payload:
        raise _BadDataError
    try:
        inflated: bytes = pa.input_stream(pa.py_buffer(payload), compression=codec).read(most + 1)
    except (OSError, pa.ArrowInvalid):
        raise _BadDataError from None
    _check(most - len(inflated), most)
    return inflated


def _arrow_block(codec: str, block: bytes, size: int) -> bytes:
    """What a block inflates to.

    :param size: of the result, as the data declare it
    """
    import pyarrow as pa

    try:
        inflated: bytes = pa.Codec(codec).decompress(block, size, asbytes=True)
    except (OSError, pa.ArrowInvalid):
        raise _BadDataError from None
    return inflated


def _zstd(payload: bytes, most: int) -> bytes:
    size = _zstd_size(payload)
    if size is not None and size <= most:
        try:
            return _arrow_block("zstd", payload, size)
        except _BadDataError:
            pass  # Usually because there is more than one frame.
    return _arrow_members("zstd", payload, most)


def _zstd_size(payload: bytes) -> int | None:
    """The size that the first frame inflates to, if its header has it (RFC 8878, 3.1.1.1) and it isn't 0."""
    if len(payload) < 5:
        return None
    descriptor = payload[4]
    alone = descriptor >> 5 & 1
    length = (alone, 2, 4, 8)[descriptor >> 6]
    begin = 6 - alone + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(payload[begin : begin + length], "little")
    return (size + 256 if length == 2 else size) or None


def _lz4(payload: bytes, most: int) -> bytes:
    if payload.startswith(b"\x04\x22\x4d\x18"):
        return _arrow_members("lz4", payload, most)
    if len(payload) <= 4:
        raise _BadDataError
    size = int.from_bytes(payload[:4], "little")
    # A byte of a block stands for at most 255 (see lz4_Block_format.md), so data that claim more aren't one.
    if size > 255 * len(payload):
        raise _BadDataError
    _check(most - size, most)
    block = payload[4:]
    inflated = _arrow_block("lz4_raw", block, size)
    if size and _fits(block, size - 1):
        # Arrow doesn't report that there was less, and the rest is whatever was in memory.
        raise _BadDataError
    return inflated


def _fits(block: bytes, size: int) -> bool:
    try:
        _arrow_block("lz4_raw", block, size)
    except _BadDataError:
        return False
    return True


def _snappy(payload: bytes, most: int) -> bytes:
    if payload.startswith(_SNAPPY_STREAM):
        try:
            return _snappy_chunks(payload, most)
        except _BadDataError:
            pass  # A raw block may begin with the same bytes.
    return _snappy_block(payload, most)


def _snappy_block(payload: bytes, most: int) -> bytes:
    size = _snappy_size(payload)
    _check(most - size, most)
    return _arrow_block("snappy", payload, size)


def _snappy_size(block: bytes) -> int:
    """The inflated size, a varint of at most 32 bits in front of a block."""
    size = 0
    for index, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            # No three bytes of a block stand for more than 64 (format_description.txt of snappy).
            if size > 64 * len(block):
                break
            return size
    raise _BadDataError


def _snappy_chunks(payload: bytes, most: int) -> bytes:
    inflated: list[bytes] = []
    begin, left, chunks = 0, most, 0
    while begin < len(payload):
        kind, size = payload[begin], int.from_bytes(payload[begin + 1 : begin + 4], "little")
        chunk = payload[begin + 4 : begin + 4 + size]
        begin += 4 + size
        if begin > len(payload):
            raise _BadDataError
        data = _snappy_chunk(kind, chunk)
        left -= len(data)
        chunks += 1
        _check(left, most)
        _check_members(chunks)
        inflated.append(data)
    return b"".join(inflated)


def _snappy_chunk(kind: int, chunk: bytes) -> bytes:
    if kind >= 0x80:  # padding, chunks to skip, and the beginning of a stream
        return b""
    if kind > 1 or len(chunk) < _CHECKSUM_BYTES:
        raise _BadDataError
    data = chunk[_CHECKSUM_BYTES:]
    if kind == 1:
        return data
    if _snappy_size(data) > _SNAPPY_CHUNK:
        raise _BadDataError
    return _snappy_block(data, _SNAPPY_CHUNK)


# --- blocks of Avro containers ------------------------------------------------------------------------------


def _plain_block(block: bytes, most: int) -> bytes:
    _check(most - len(block), most)
    return block


def _snappy_with_checksum(block: bytes, most: int) -> bytes:
    data, checksum = block[:-_CHECKSUM_BYTES], block[-_CHECKSUM_BYTES:]
    inflated = _snappy_block(data, most)
    if zlib.crc32(inflated) != int.from_bytes(checksum):
        raise _BadDataError
    return inflated


def _deflated_block(block: bytes, most: int) -> bytes:
    """A deflate stream; fastavro leaves bytes of zlib's checksum after it."""
    inflating = zlib.decompressobj(-15)
    try:
        inflated = inflating.decompress(block, most + 1)
    except zlib.error:
        raise _BadDataError from None
    _check(most - len(inflated), most)
    if not inflating.eof or len(inflating.unused_data) > _CHECKSUM_BYTES:
        raise _BadDataError
    return inflated


def _streamed_block(make: Callable[[], Any], block: bytes, most: int) -> bytes:
    """A stream of bzip2 or xz."""
    inflating = make()
    try:
        inflated: bytes = inflating.decompress(block, most + 1)
    except (OSError, EOFError, lzma.LZMAError):
        raise _BadDataError from None
    _check(most - len(inflated), most)
    if not inflating.eof or inflating.unused_data:
        raise _BadDataError
    return inflated


# --- bounds ------------------------------------------------------------------------------------------------


def _check(left: int, most: int) -> None:
    if left < 0:
        raise _TooLargeError(f"inflates to more than {most:,} bytes")


def _check_members(count: int) -> None:
    if count > MAX_MEMBERS:
        raise _TooLargeError(f"compressed in more than {MAX_MEMBERS:,} members")


_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "zlib": _zlib,
    "zstd": _zstd,
    "lz4": _lz4,
    "snappy": _snappy,
}

COMPRESSIONS = ("auto", *_READERS)

_BLOCK_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    "null": _plain_block,
    "deflate": _deflated_block,
    "snappy": _snappy_with_checksum,
    "zstd": _zstd,
    "bzip2": partial(_streamed_block, bz2.BZ2Decompressor),
    "xz": partial(_streamed_block, partial(lzma.LZMADecompressor, memlimit=MAX_INFLATED_BYTES)),
}
