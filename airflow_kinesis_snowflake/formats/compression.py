"""Inflates payloads, up to a bound, so that a small record can't fill the memory.

gzip and zlib are read by the standard library, zstd and LZ4 frames by Arrow. Each may consist of several
members, one after the other.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.formats.avro import Decoder

    Inflate = Callable[[bytes], bytes]

MOST_INFLATED = 64 * 2**20
"""Bytes that a payload may inflate to."""


class _TooLargeError(UndecodableError):
    """A payload inflates to more than it may."""


class _BadDataError(Exception):
    """Not a whole stream of the kind."""


def inflater(compression: str, *, most: int = MOST_INFLATED) -> Inflate:
    """How payloads are inflated.

    :param compression: ``gzip``, ``zlib``, ``zstd`` or ``lz4`` (frames); or ``auto``, which tells these by
        their first bytes, and leaves a payload as it is that isn't such a stream from the first byte to the
        last
    :param most: bytes that may come out
    :return: raises :class:`UndecodableError` for a payload that can't be inflated, or to more than ``most``
    :raises InvalidSettingError: the name is unknown
    """
    if compression == "auto":
        return partial(_inflate_if_compressed, most=most)
    if compression not in _READERS:
        known = ", ".join(["auto", *_READERS])
        raise InvalidSettingError(f"compression must be one of {known}, not {compression!r}")
    return partial(_inflate, compression, most=most)


def decompressing(inflate: Inflate, decode: Decoder | None) -> Decoder:
    """A decoder of what payloads inflate to; ``None``: that is the document."""
    if decode is None:
        return lambda payload: [inflate(payload)]
    return lambda payload: decode(inflate(payload))


def kind_of(payload: bytes) -> str | None:
    """The compression that a payload's first bytes are of; other bytes may begin so too."""
    if payload.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if payload.startswith(b"\x04\x22\x4d\x18"):
        return "lz4"
    # RFC 1950: deflate, a window of at most 32 KiB, and a check over both bytes.
    if len(payload) > 1 and payload[0] & 0x8F == 8 and int.from_bytes(payload[:2]) % 31 == 0:
        return "zlib"
    return None


def _inflate(kind: str, payload: bytes, *, most: int) -> bytes:
    try:
        return _READERS[kind](payload, most)
    except _BadDataError:
        raise UndecodableError(f"not whole {kind} data") from None


def _inflate_if_compressed(payload: bytes, *, most: int) -> bytes:
    kind = kind_of(payload)
    if kind is None:
        return payload
    try:
        return _READERS[kind](payload, most)
    except _BadDataError:
        return payload


def _zlib_members(window: int, payload: bytes, most: int) -> bytes:
    members: list[bytes] = []
    left = most
    rest = payload
    while True:
        inflating = zlib.decompressobj(window)
        try:
            # One byte more than allowed, since 0 stands for no limit.
            members.append(inflating.decompress(rest, left + 1))
        except zlib.error:
            raise _BadDataError from None
        left -= len(members[-1])
        _check(left, most)
        if not inflating.eof:
            raise _BadDataError
        rest = inflating.unused_data
        if not rest:
            return b"".join(members)


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


def _check(left: int, most: int) -> None:
    if left < 0:
        raise _TooLargeError(f"inflates to more than {most:,} bytes")


_READERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": partial(_zlib_members, 31),
    "zlib": partial(_zlib_members, 15),
    "zstd": partial(_arrow_members, "zstd"),
    "lz4": partial(_arrow_members, "lz4"),
}
