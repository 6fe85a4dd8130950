"""Gives values in nested objects keys of their own, before a mapping sees the document."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK, MAX_OUTPUT_BYTES, DroppedPayload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def flattening(decode: Decoder | None, *, depth: int, paths: Mapping[str, str]) -> Decoder | None:
    """A decoder whose documents are flattened: see :func:`flatten`.

    :param decode: takes payloads apart; ``None``: each is its document
    """
    if not depth and not paths:
        return decode

    def decode_flat(payload: bytes, key: str = "", /) -> Documents:
        documents = [payload] if decode is None else decode(payload, key)
        if isinstance(documents, DroppedPayload):
            return documents
        return [flatten(document, depth=depth, paths=paths) for document in documents]

    return decode_flat


def flatten(document: bytes, *, depth: int, paths: Mapping[str, str]) -> bytes:
    """Replace nested objects by their members, and add values from deep inside under keys of their own.

    Values stay the text that was sent. Arrays and empty objects stay as they are, and so does a document that
    isn't an object: refusing it is left to the mapping.

    :param depth: how many levels of objects become keys such as ``user_address_city``; 0: none
    :param paths: keys that are added, with the path of the value: ``{"order_id": "detail.order.id"}``. A path
        that leads nowhere adds nothing
    :raises UndecodableError: two values get the same key, or the result is larger than 64 MiB
    """
    try:
        members = _members(document.removeprefix(BYTE_ORDER_MARK))
        found = list(_bounded(chain(_leaves(members, depth), _at_paths(members, paths))))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return document
    flat = dict(found)
    if len(flat) < len(found):
        raise UndecodableError("two values get the same key when nested objects are flattened")
    return b"{%s}" % b",".join(_encode(key) + b":" + value for key, value in flat.items())


def _bounded(members: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Members as they are found, unless they are too large together, with their full keys."""
    size = 0
    for key, value in members:
        size += len(key) + len(value)
        if size > MAX_OUTPUT_BYTES:
            raise UndecodableError(
                f"larger than {MAX_OUTPUT_BYTES >> 20} MiB when nested objects are flattened"
            )
        yield key, value


def _leaves(members: Mapping[str, msgspec.Raw], depth: int, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for key, raw in members.items():
        value = bytes(raw)
        inner = _members(value) if depth and value.startswith(b"{") else {}
        if inner:
            yield from _leaves(inner, depth - 1, f"{prefix}{key}_")
        else:
            yield prefix + key, value


def _at_paths(members: Mapping[str, msgspec.Raw], paths: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for key, path in paths.items():
        *outer, last = path.split(".")
        inner = members
        for step in outer:
            value = bytes(inner.get(step, b""))
            inner = _members(value) if value.startswith(b"{") else {}
        if last in inner:
            yield key, bytes(inner[last])
