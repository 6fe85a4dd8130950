"""A limit for rows in front of a sink that takes none larger: their records become dead letters.

COPY has no need of it: what Snowflake refuses is found by loading parts of a batch. A row that can't be sent
would stop its shard.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_snowflake.formats.column_types import SEMI_STRUCTURED, DataType
from airflow_kinesis_snowflake.formats.dead_letters import JSON_PER_BYTE, DeadLetter
from airflow_kinesis_snowflake.formats.envelope import CONTENT
from airflow_kinesis_snowflake.formats.fields import Encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.formats.fields import FileColumn
    from airflow_kinesis_snowflake.stream.records import Record

    Coordinates = tuple[str, int]

# Names of columns, metadata, and numbers.
_ROOM_BESIDE = 2**20


class LimitedEncoder:
    """Makes dead letters of records with a row that may be larger than a sink takes.

    :param encoder: makes the rows
    :param most: bytes that a row of JSON may have; 1 MiB of it is left for all that isn't text
    """

    def __init__(self, encoder: Encoder, *, most: int) -> None:
        self._encoder = encoder
        self._most = most - _ROOM_BESIDE

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        """Turn records of one shard into rows and dead letters, those with rows that are too large too."""
        encoded = self._encoder.encode(records, stream_name=stream_name, shard_id=shard_id)
        large = _large_rows(encoded, self._most)
        if not large:
            return encoded
        refused = {_coordinates(encoded.rows, number) for number in large}
        taken = records[: len(records) - encoded.left]
        letters = [DeadLetter(record, self._reason) for record in taken if _origin(record) in refused]
        landing = [record for record in taken if _origin(record) not in refused]
        again = self._encoder.encode(landing, stream_name=stream_name, shard_id=shard_id)
        return replace(
            again,
            dead_letters=(*again.dead_letters, *letters),
            bytes=encoded.bytes,
            left=encoded.left,
        )

    @property
    def _reason(self) -> str:
        return (
            f"a row of more than the {self._most:,} bytes of text that can be streamed; with "
            "sink='copy', Snowflake decides"
        )


def _large_rows(encoded: EncodedRecords, most: int) -> list[int]:
    """Rows whose texts have more bytes as JSON."""
    rows = encoded.rows
    if rows.nbytes * JSON_PER_BYTE <= most:
        return []
    texts = {
        name: column
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
        if pa.types.is_string(column.type)
    }
    sizes = pa.array([0] * rows.num_rows, pa.int64())
    for column in texts.values():
        sizes = pc.add(sizes, pc.fill_null(pc.binary_length(column), 0).cast(pa.int64()))
    suspects = pc.indices_nonzero(pc.greater(sizes, most // JSON_PER_BYTE)).to_pylist()
    fields = {item.name: item for item in encoded.fields}
    return [
        number
        for number in suspects
        if sum(_size(column[number].as_py(), fields.get(name), name=name) for name, column in texts.items())
        > most
    ]


def _size(text: str | None, field: FileColumn | None, *, name: str) -> int:
    """The most bytes that a text of a file takes in a row of JSON."""
    if text is None:
        return 0
    raw = field is not None and field.encoding is Encoding.JSON and field.type.kind in SEMI_STRUCTURED
    if raw or name == CONTENT:
        return len(text.encode())
    if field is not None and field.type.kind is DataType.BINARY:
        # Base64 in the file, and perhaps hexadecimal in the row.
        return len(text) * 3 // 2
    return len(msgspec.json.encode(text))


def _coordinates(rows: pa.RecordBatch, number: int) -> Coordinates:
    return rows["sequenceNumber"][number].as_py(), rows["subSequenceNumber"][number].as_py()


def _origin(record: Record) -> Coordinates:
    return record.sequence_number, record.sub_sequence_number or 0
