"""JSON, text, and bytes of any kind."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.engine import (
    BYTE_ORDER_MARK,
    MAX_DOCUMENTS,
    CheckedDocuments,
    check_count,
    check_objects,
    not_json,
)
from airflow_kinesis_snowflake.formats.looks import hint

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder

DOCUMENTS = ("one", "array", "sequence")

_PIECE = 2**20
_WHITESPACE = " \t\n\r"
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_raw_lines = msgspec.json.Decoder(msgspec.Raw).decode_lines
_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
# Only where a document ends is of interest, so numbers needn't be kept.
_next_document = json.JSONDecoder(parse_int=bool, parse_float=bool).raw_decode


@dataclass(frozen=True)
class Json:
    """JSON by RFC 8259.

    :param documents: what a payload holds: ``one`` document; the items of an ``array`` (a payload that isn't
        an array is one document); or a ``sequence`` of documents, one after the other, with or without
        whitespace or line breaks between them
    :raises InvalidSettingError: ``documents`` is none of these
    """

    documents: str = "one"
    has_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.documents not in DOCUMENTS:
            raise InvalidSettingError(
                f"json_documents must be one of {', '.join(DOCUMENTS)}, not {self.documents!r}"
            )

    def decoder(self) -> Decoder | None:
        """The decoder; ``None`` for one document, which is the payload."""
        return {"one": None, "array": array_items, "sequence": sequence}[self.documents]


@dataclass(frozen=True)
class Text:
    """UTF-8 text, which lands as a JSON string."""

    has_keys: ClassVar[bool] = False

    def decoder(self) -> Decoder:
        """The decoder."""
        return text


@dataclass(frozen=True)
class Binary:
    """Bytes of any kind, which land in base64, as a JSON string."""

    has_keys: ClassVar[bool] = False

    def decoder(self) -> Decoder:
        """The decoder."""
        return binary


def text(payload: bytes, _key: str = "", /) -> list[bytes]:
    """UTF-8 text as a JSON string: ``RECORD_CONTENT::VARCHAR`` gives the text back."""
    return [msgspec.json.encode(utf8(payload))]


def binary(payload: bytes, _key: str = "", /) -> list[bytes]:
    """Bytes in base64, as a JSON string: ``TO_BINARY(RECORD_CONTENT::VARCHAR, 'BASE64')`` gives them back.

    Not in hexadecimal, because the largest Kinesis record (10 MiB) would then exceed the 16 MB that a VARIANT
    can hold in every account.
    """
    return [b'"' + base64.b64encode(payload) + b'"']


def array_items(payload: bytes, _key: str = "", /) -> CheckedDocuments:
    """Items of a JSON array; any other document is a single one."""
    payload = payload.removeprefix(BYTE_ORDER_MARK)
    decoded = utf8(payload)
    if not payload.lstrip(_WHITESPACE.encode()).startswith(b"["):
        return CheckedDocuments([checked(payload)])
    if payload.count(b",") >= MAX_DOCUMENTS:
        _check_containers(payload)
        _count_items(decoded)
    try:
        items = _raw_items(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise not_json(error, payload) from None
    if not items:
        raise UndecodableError("empty: an array without items")
    return CheckedDocuments(map(bytes, items))


def _count_items(array: str) -> None:
    """Refuse an array with too many items; what isn't JSON is left for the caller to refuse.

    :raises UndecodableError: too many, or nested too deeply
    """
    count, end = 0, _skip(array, 0) + 1
    while True:
        try:
            _, end = _next_document(array, _skip(array, end))
        except ValueError:
            return
        except RecursionError as error:
            raise not_json(error, b"[") from None
        count += 1
        check_count(count)
        end = _skip(array, end)
        if array[end : end + 1] != ",":
            return
        end += 1


def sequence(payload: bytes, _key: str = "", /) -> CheckedDocuments:
    """JSON documents one after the other."""
    payload = payload.removeprefix(BYTE_ORDER_MARK)
    decoded = utf8(payload)
    try:
        lines = _lines(payload)
    except (msgspec.DecodeError, RecursionError):
        lines = CheckedDocuments()  # A line isn't a document: documents may span lines, or share one.
    if lines:
        return lines
    _check_containers(payload)
    documents = CheckedDocuments()
    end = _skip(decoded, 0)
    while end < len(decoded):
        begin = end
        try:
            _, end = _next_document(decoded, begin)
        except json.JSONDecodeError as error:
            raise UndecodableError(f"not JSON: {error.msg} at character {error.pos}{hint(payload)}") from None
        except RecursionError as error:
            raise not_json(error, payload) from None
        documents.append(checked(decoded[begin:end].encode()))
        check_count(len(documents))
        end = _skip(decoded, end)
    if not documents:
        raise UndecodableError("empty")
    return documents


def _check_containers(payload: bytes) -> None:
    """Refuse a payload from which the search for the end of a document may build too many objects."""
    check_objects(payload.count(b"[") + payload.count(b"{"))


def _lines(payload: bytes) -> CheckedDocuments:
    """Documents on a line each, decoded in pieces so that too many are noticed in time.

    :return: nothing if a line is so long that it may hold any number of documents
    :raises msgspec.DecodeError: a line isn't a document
    """
    lines = CheckedDocuments()
    begin = 0
    while begin < len(payload):
        end = payload.find(b"\n", begin + _PIECE, begin + 2 * _PIECE) + 1 or len(payload)
        if end - begin > 2 * _PIECE:
            return CheckedDocuments()
        lines += map(bytes, _raw_lines(payload[begin:end]))
        check_count(len(lines))
        begin = end
    return lines


def checked(document: bytes) -> bytes:
    """The document, if it is JSON by RFC 8259.

    :raises UndecodableError: it isn't
    """
    try:
        _raw(document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise not_json(error, document) from None
    return document


def utf8(payload: bytes) -> str:
    """The text of a payload.

    :raises UndecodableError: it isn't UTF-8
    """
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise UndecodableError(f"not UTF-8: {error.reason} at byte {error.start}{hint(payload)}") from None


def _skip(decoded: str, position: int) -> int:
    """The first position, from this one on, that isn't whitespace in JSON."""
    while position < len(decoded) and decoded[position] in _WHITESPACE:
        position += 1
    return position
