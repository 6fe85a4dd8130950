"""A decoder in front of a mapping: the stage between de-aggregation and mapping.

A record lands with all its documents or becomes one dead letter with the payload as it came; there is nothing
in between, so that a dead letter can be replayed as a whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.formats.engine import CheckedDocuments, DroppedPayload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.formats.engine import Decoder
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.stream.records import Record

ROOM_BYTES = 64 * 2**20
"""Bytes of documents after which the rest of a page is left for the next one."""

# About what Python and Arrow need for a document besides its text.
OVERHEAD_BYTES = 500


class Encoder(Protocol):
    """Turns records of one shard into rows and dead letters, as a mapping does."""

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords: ...


class Mapping(Encoder, Protocol):
    """An encoder that may be told more of records than they say."""

    def encode_documents(
        self, expansion: Expansion, *, stream_name: str, shard_id: str
    ) -> EncodedRecords: ...


@dataclass
class Expansion:
    """Documents of some records, in order.

    :param payloads: the documents
    :param sources: the records that have any
    :param runs: how many documents there are of each of these
    :param checked: all are :class:`CheckedDocuments`
    :param taken: how many of the records were taken apart; there was no room for the others
    """

    payloads: list[bytes] = field(default_factory=list)
    sources: list[Record] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    undecodable: list[DeadLetter] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    checked: bool = True
    taken: int = 0

    def records(self) -> list[Record]:
        """A record for each document; those of one record share its coordinates."""
        copy, documents = msgspec.structs.replace, iter(self.payloads)
        return [
            copy(source, data=document)
            for source, run in zip(self.sources, self.runs, strict=True)
            for document in islice(documents, run)
        ]


class DecodingEncoder:
    """A decoder in front of a mapping.

    :param decode: takes payloads apart
    :param mapping: makes rows of the documents
    :param room: bytes of documents that one call may make; those of its last record may exceed it
    """

    def __init__(self, decode: Decoder, mapping: Mapping, *, room: int = ROOM_BYTES) -> None:
        self._decode = decode
        self._mapping = mapping
        self._room = room

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        """Turn records into rows, several where a payload holds several documents, and dead letters.

        If the mapping refuses one document of a record, the record doesn't land at all. If documents take
        more memory than there is room for, the last records are left out: the result counts them in ``left``.
        """
        expanded = expand(records, self._decode, room=self._room)
        encoded = self._mapping.encode_documents(expanded, stream_name=stream_name, shard_id=shard_id)
        refused: dict[tuple[str, int | None], DeadLetter] = {}
        for letter in encoded.dead_letters:
            refused.setdefault(_coordinates(letter.record), letter)
        if refused:
            landing = [each for each in expanded.records() if _coordinates(each) not in refused]
            encoded = self._mapping.encode(landing, stream_name=stream_name, shard_id=shard_id)
        taken = records[: expanded.taken]
        whole = [
            replace(refused[_coordinates(record)], record=record)
            for record in (taken if refused else ())
            if _coordinates(record) in refused
        ]
        return replace(
            encoded,
            dead_letters=(*whole, *expanded.undecodable),
            bytes=sum([len(record.data) for record in taken]),
            dropped=expanded.dropped,
            left=len(records) - expanded.taken,
        )


def expand(records: Sequence[Record], decode: Decoder, *, room: int = ROOM_BYTES) -> Expansion:
    """Take records apart: as many as there is room for, and at least one."""
    expansion = Expansion()
    for record in records:
        expansion.taken += 1
        try:
            found = decode(record.data, record.partition_key)
        except UndecodableError as error:
            expansion.undecodable.append(DeadLetter(record, str(error)))
            continue
        if isinstance(found, DroppedPayload):
            expansion.dropped[found.what] += 1
            continue
        if found:
            expansion.payloads += found
            expansion.sources.append(record)
            expansion.runs.append(len(found))
            room -= sum(map(len, found)) + OVERHEAD_BYTES * len(found)
        expansion.checked = expansion.checked and isinstance(found, CheckedDocuments)
        if room <= 0:
            break
    return expansion


def _coordinates(record: Record) -> tuple[str, int | None]:
    return record.sequence_number, record.sub_sequence_number
