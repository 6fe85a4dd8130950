"""What a payload holds: JSON documents, text, bytes or Avro, each turned into JSON texts for a mapping.

A stage between de-aggregation and mapping. A record lands with all its documents or becomes one dead letter
with the payload as it came; there is nothing in between, so that a dead letter can be replayed as a whole.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.compression import decompressing, inflater
from airflow_kinesis_snowflake.landing.dead_letters import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.formats.avro import Decoder
    from airflow_kinesis_snowflake.landing.envelope import Encoded
    from airflow_kinesis_snowflake.stream.records import Record

FORMATS = ("json", "text", "binary", "avro")
DOCUMENTS = ("one", "array", "sequence")

_JSON_WHITESPACE = b" \t\n\r"
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_raw_lines = msgspec.json.Decoder(msgspec.Raw).decode_lines
_raw_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
# Only where a document ends is of interest, so numbers needn't be read.
_next_document = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


class Encoder(Protocol):
    """Turns records of one shard into rows and dead letters, as a mapping does."""

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> Encoded: ...


class DecodingEncoder:
    """A mapping behind a decoder.

    :param decode: takes payloads apart
    :param mapping: makes rows of the documents
    """

    def __init__(self, decode: Decoder, mapping: Encoder) -> None:
        self._decode = decode
        self._mapping = mapping

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> Encoded:
        """Turn records into rows, several where a payload holds several documents, and dead letters.

        A record of which the mapping refuses one document doesn't land at all.
        """
        documents, undecodable = expand(records, self._decode)
        encoded = self._mapping.encode(documents, stream_name=stream_name, shard_id=shard_id)
        refused: dict[tuple[str, int | None], DeadLetter] = {}
        for letter in encoded.dead_letters:
            refused.setdefault(_coordinates(letter.record), letter)
        if refused:
            landing = [document for document in documents if _coordinates(document) not in refused]
            encoded = self._mapping.encode(landing, stream_name=stream_name, shard_id=shard_id)
        whole = [
            replace(refused[_coordinates(record)], record=record)
            for record in records
            if _coordinates(record) in refused
        ]
        return replace(
            encoded,
            dead_letters=(*whole, *undecodable),
            bytes=sum(len(record.data) for record in records),
        )


def expand(records: Sequence[Record], decode: Decoder) -> tuple[list[Record], tuple[DeadLetter, ...]]:
    """Replace every record by one record per document; those that can't be decoded are apart.

    Documents of one record stand at the same coordinates, in their order.
    """
    documents: list[Record] = []
    dead_letters: list[DeadLetter] = []
    for record in records:
        try:
            texts = decode(record.data)
        except UndecodableError as error:
            dead_letters.append(DeadLetter(record, str(error)))
        else:
            documents += [msgspec.structs.replace(record, data=text) for text in texts]
    return documents, tuple(dead_letters)


def payload_decoder(
    payload_format: str = "json",
    *,
    compression: str | None = None,
    json_documents: str = "one",
    avro_schema: Any = None,
    avro_schema_resolver: Callable[[int | str], Any] | None = None,
) -> Decoder | None:
    """The decoder for the settings of a user; ``None`` where a payload is its document already.

    :param payload_format: ``json``, ``text``, ``binary`` or ``avro``
    :param compression: how payloads are compressed: see :func:`inflater`; ``None``: not at all
    :param json_documents: what a JSON payload holds: ``one`` document; the items of an ``array`` (a payload
        that is no array is one document); or a ``sequence`` of documents, one after the other with or without
        white space or line ends between them
    :param avro_schema: schema of Avro payloads without a header: JSON, as text or parsed
    :param avro_schema_resolver: gives the schema for an id in the payload's header
    :raises InvalidSettingError: a value is unknown, the Avro settings don't fit, or fastavro isn't installed
    """
    decode = _format_decoder(
        payload_format,
        json_documents=json_documents,
        avro_schema=avro_schema,
        avro_schema_resolver=avro_schema_resolver,
    )
    return decode if compression is None else decompressing(inflater(compression), decode)


def _format_decoder(
    payload_format: str,
    *,
    json_documents: str,
    avro_schema: Any,
    avro_schema_resolver: Callable[[int | str], Any] | None,
) -> Decoder | None:
    _require("payload_format", payload_format, FORMATS)
    _require("json_documents", json_documents, DOCUMENTS)
    if payload_format == "avro":
        from airflow_kinesis_snowflake.formats.avro import avro_decoder

        return avro_decoder(schema=avro_schema, resolver=avro_schema_resolver)
    if avro_schema is not None or avro_schema_resolver is not None:
        raise InvalidSettingError(f"an Avro schema belongs to payload_format='avro', not {payload_format!r}")
    if payload_format == "json":
        return {"one": None, "array": array_items, "sequence": sequence}[json_documents]
    if json_documents != "one":
        raise InvalidSettingError(f"json_documents belongs to payload_format='json', not {payload_format!r}")
    return text if payload_format == "text" else binary


def _require(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidSettingError(f"{name} must be one of {', '.join(known)}, not {value!r}")


# --- decoders ----------------------------------------------------------------------------------------------


def text(payload: bytes) -> list[bytes]:
    """UTF-8 text as a JSON string: ``RECORD_CONTENT::VARCHAR`` is the text again."""
    return [msgspec.json.encode(_utf8(payload))]


def binary(payload: bytes) -> list[bytes]:
    """Any bytes as a JSON string in base64: ``TO_BINARY(RECORD_CONTENT::VARCHAR, 'BASE64')`` are the bytes.

    Not hexadecimal, because the largest record of Kinesis (10 MiB) would be larger than a VARIANT may be
    everywhere (16 MB).
    """
    return [b'"' + base64.b64encode(payload) + b'"']


def array_items(payload: bytes) -> list[bytes]:
    """Items of a JSON array; another document is a single one."""
    _utf8(payload)
    if not payload.lstrip(_JSON_WHITESPACE).startswith(b"["):
        return [checked(payload)]
    try:
        items = _raw_items(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error, payload) from None
    if not items:
        raise UndecodableError("empty: an array without documents")
    return [bytes(item) for item in items]


def sequence(payload: bytes) -> list[bytes]:
    """JSON documents one after the other."""
    decoded = _utf8(payload)
    try:
        lines = [bytes(line) for line in _raw_lines(payload)]
    except (msgspec.DecodeError, RecursionError):
        lines = []  # A line isn't a document, as in most sequences of other kinds.
    if lines:
        return lines
    documents = []
    end = _skip(decoded, 0)
    while end < len(decoded):
        begin = end
        try:
            _, end = _next_document(decoded, begin)
        except json.JSONDecodeError as error:
            raise UndecodableError(f"not JSON: {error.msg} at character {error.pos}") from None
        except RecursionError as error:
            raise _not_json(error, payload) from None
        documents.append(checked(decoded[begin:end].encode()))
        end = _skip(decoded, end)
    if not documents:
        raise UndecodableError("empty")
    return documents


def checked(document: bytes) -> bytes:
    """The document, if it is one of RFC 8259.

    :raises UndecodableError: it isn't
    """
    try:
        _raw(document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error, document) from None
    return document


def _not_json(error: Exception, payload: bytes) -> UndecodableError:
    if isinstance(error, RecursionError):
        return UndecodableError("nested too deeply")
    return UndecodableError(f"not JSON: {error}" if payload.strip() else "empty")


def _utf8(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise UndecodableError(f"not UTF-8: {error.reason} at byte {error.start}") from None


def _skip(decoded: str, position: int) -> int:
    """The first position from this one on that is no white space of JSON."""
    while position < len(decoded) and decoded[position] in " \t\n\r":
        position += 1
    return position


def _coordinates(record: Record) -> tuple[str, int | None]:
    return record.sequence_number, record.sub_sequence_number
