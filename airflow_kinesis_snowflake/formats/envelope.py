"""The ``envelope`` mapping: one VARIANT with the whole payload, one OBJECT that says where it came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK
from airflow_kinesis_snowflake.formats.looks import hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_kinesis_snowflake.formats.decoding import Expansion
    from airflow_kinesis_snowflake.formats.fields import FileColumn
    from airflow_kinesis_snowflake.stream.records import Record

CONTENT = "RECORD_CONTENT"
METADATA = "KINESISMETADATA"

_METADATA_FIELDS = (
    ("stream", "VARCHAR", pa.string()),
    ("shardId", "VARCHAR", pa.string()),
    ("approximateArrival", "NUMBER", pa.int64()),
    ("partitionKey", "VARCHAR", pa.string()),
    ("sequenceNumber", "VARCHAR", pa.string()),
    ("subSequenceNumber", "NUMBER", pa.int64()),
)
_ICEBERG_TYPES = {"NUMBER": "NUMBER(19, 0)"}
METADATA_SELECT = (
    "OBJECT_CONSTRUCT("
    + ", ".join(f"'{name}', $1:{name}::{sql_type}" for name, sql_type, _ in _METADATA_FIELDS)
    + ", 'shardedSequenceNumber', $1:sequenceNumber::VARCHAR || LPAD($1:subSequenceNumber::VARCHAR, 20, '0'))"
)
"""Builds ``KINESISMETADATA`` from a landing file: seven fields, named and typed as Openflow does."""

METADATA_STRUCTURE = (
    "OBJECT("
    + ", ".join(f"{name} {_ICEBERG_TYPES.get(sql_type, sql_type)}" for name, sql_type, _ in _METADATA_FIELDS)
    + ", shardedSequenceNumber VARCHAR)"
)
"""Its type where an OBJECT must be a structured one, as in Iceberg tables."""

METADATA_FIELDS = tuple(
    pa.field(name, arrow_type, nullable=False) for name, _, arrow_type in _METADATA_FIELDS
)
"""What :func:`metadata_arrays` makes, as fields of a landing file."""

METADATA_COLUMNS = {
    "arrival_time": (
        "KINESIS_ARRIVAL_TIME",
        "TIMESTAMP_LTZ",
        "TO_TIMESTAMP_LTZ($1:approximateArrival::NUMBER, 3)",
    ),
    "stream": ("KINESIS_STREAM", "VARCHAR", "$1:stream::VARCHAR"),
    "shard_id": ("KINESIS_SHARD_ID", "VARCHAR", "$1:shardId::VARCHAR"),
    "sequence_number": ("KINESIS_SEQUENCE_NUMBER", "VARCHAR", "$1:sequenceNumber::VARCHAR"),
    "sub_sequence_number": (
        "KINESIS_SUB_SEQUENCE_NUMBER",
        "NUMBER(38, 0)",
        "$1:subSequenceNumber::NUMBER(38, 0)",
    ),
    "partition_key": ("KINESIS_PARTITION_KEY", "VARCHAR", "$1:partitionKey::VARCHAR"),
    "loaded_at": ("KINESIS_LOADED_AT", "TIMESTAMP_LTZ", "METADATA$START_SCAN_TIME"),
}
"""Facts about a record that can have columns of their own, which Snowflake can prune by: name, type, and what
COPY selects. METADATA$START_SCAN_TIME is when COPY began to read the file (Snowflake's documentation of
metadata for staged files, which recommends it instead of CURRENT_TIMESTAMP)."""

_SCHEMA = pa.schema([pa.field(CONTENT, pa.string(), nullable=False), *METADATA_FIELDS])
# msgspec.Raw checks the whole document without building it. It doesn't check the UTF-8 inside strings;
# Arrow does when the column is made.
_check_json = msgspec.json.Decoder(msgspec.Raw).decode

NO_ROWS = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
"""The rows of no records, in files of any schema."""


@dataclass(frozen=True)
class EncodedRecords:
    """Records of one shard, ready for a file.

    :param rows: the records that land, in order
    :param dead_letters: the records that can't, in order
    :param bytes: size of all payloads, landed or not
    :param fields: where the rows hold the values of columns, if the columns depend on the records
    :param missing: NOT NULL columns that have no value in some of the rows
    :param dropped: records without data, such as control messages, by what they are
    :param left: how many records at the end there was no room for: nothing of them is here
    """

    rows: pa.RecordBatch
    dead_letters: tuple[DeadLetter, ...]
    bytes: int
    fields: frozenset[FileColumn] = frozenset()
    missing: frozenset[str] = frozenset()
    dropped: Counter[str] = field(default_factory=Counter)
    left: int = 0


class EnvelopeMapping:
    """Lands any JSON document: objects, arrays and scalars alike.

    The document is loaded as the text that was received; Snowflake parses it (a key that occurs twice keeps
    its last value). A payload that isn't JSON by RFC 8259 (so no NaN, no lone surrogate, nothing but UTF-8)
    or is nested too deeply for a parser becomes a dead letter, so that Snowflake has nothing to refuse. A
    record has at most 10 MiB, which fits a VARIANT of 16 MB, Snowflake's lowest limit; one that was
    compressed may hold a larger document, which the sink has to deal with.

    :param metadata_columns: facts that get columns of their own: see :data:`METADATA_COLUMNS`
    """

    columns: tuple[tuple[str, str], ...] = ((CONTENT, "VARIANT"), (METADATA, "OBJECT"))
    """Columns of the landing table: name and Snowflake type."""

    copy_select: tuple[str, ...] = (f"PARSE_JSON($1:{CONTENT}::VARCHAR, 'd')", METADATA_SELECT)
    """What COPY selects from the file for each of :attr:`columns`."""

    required = columns
    """Columns that a landing table must have."""

    can_create = True
    """Whether enough is known to create a landing table."""

    def __init__(self, metadata_columns: Sequence[str] = ()) -> None:
        self.columns = self.required = (*self.columns, *own_columns(metadata_columns))
        self.copy_select = (*self.copy_select, *own_selects(metadata_columns))

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        """Turn records of one shard into rows and dead letters; each record becomes one or the other."""
        good: Sequence[Record] = records
        dead_letters: tuple[DeadLetter, ...] = ()
        payloads = [record.data for record in records]
        text = _text_if_all_land(payloads, checked=False)
        if text is None:
            good, dead_letters = _sort_out(records)
            text = _text([record.data.removeprefix(BYTE_ORDER_MARK) for record in good])
        metadata = metadata_arrays(good, stream_name=stream_name, shard_id=shard_id)
        return _encoded(text, metadata, dead_letters, size=sum(map(len, payloads)))

    def encode_documents(self, expansion: Expansion, *, stream_name: str, shard_id: str) -> EncodedRecords:
        """The same for the documents of records, without a record for each if all of them land."""
        text = _text_if_all_land(expansion.payloads, checked=expansion.checked)
        if text is None:
            return self.encode(expansion.records(), stream_name=stream_name, shard_id=shard_id)
        metadata = metadata_arrays(
            expansion.sources, stream_name=stream_name, shard_id=shard_id, runs=expansion.runs
        )
        return _encoded(text, metadata, (), size=sum(map(len, expansion.payloads)))


def _encoded(
    text: pa.StringArray, metadata: Sequence[pa.Array], dead_letters: tuple[DeadLetter, ...], *, size: int
) -> EncodedRecords:
    rows = pa.RecordBatch.from_arrays([text, *metadata], schema=_SCHEMA)
    return EncodedRecords(rows, dead_letters, size)


def own_columns(metadata_columns: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Names and types of the columns for facts about a record."""
    return tuple(METADATA_COLUMNS[fact][:2] for fact in metadata_columns)


def own_selects(metadata_columns: Iterable[str]) -> tuple[str, ...]:
    """What COPY selects for :func:`own_columns`."""
    return tuple(METADATA_COLUMNS[fact][2] for fact in metadata_columns)


def metadata_arrays(
    records: Sequence[Record], *, stream_name: str, shard_id: str, runs: Sequence[int] | None = None
) -> list[pa.Array]:
    """The columns that :data:`METADATA_SELECT` reads.

    ``subSequenceNumber`` is 0 for a record that isn't part of an aggregate.

    :param runs: how many rows there are of each record; ``None``: one
    """
    ends = list(accumulate(runs or ()))
    count = ends[-1] if ends else len(records)
    columns = _coordinates(records)
    return [
        pa.repeat(stream_name, count),
        pa.repeat(shard_id, count),
        *(columns if count == len(records) else [_repeated(column, ends) for column in columns]),
    ]


def _repeated(column: pa.Array, ends: Sequence[int]) -> pa.Array:
    """Each value up to where its run ends."""
    return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), column))


def _coordinates(records: Sequence[Record]) -> list[pa.Array]:
    seconds = pa.array([record.approximate_arrival for record in records], pa.float64())
    return [
        pc.round(pc.multiply(seconds, 1000.0)).cast(pa.int64()),
        pa.array([record.partition_key for record in records], pa.string()),
        pa.array([record.sequence_number for record in records], pa.string()),
        pa.array([record.sub_sequence_number or 0 for record in records], pa.int64()),
    ]


def _text_if_all_land(payloads: Sequence[bytes], *, checked: bool) -> pa.StringArray | None:
    """The payloads as one column, ``None`` if any of them can't land: much cheaper than judging each."""
    try:
        for payload in () if checked else payloads:
            _check_json(payload)
        return _text(payloads)
    except (msgspec.DecodeError, RecursionError, pa.ArrowInvalid):
        return None


def _sort_out(records: Sequence[Record]) -> tuple[list[Record], tuple[DeadLetter, ...]]:
    judged = [(record, refusal(record.data.removeprefix(BYTE_ORDER_MARK))) for record in records]
    return (
        [record for record, reason in judged if reason is None],
        tuple(DeadLetter(record, reason) for record, reason in judged if reason is not None),
    )


def refusal(payload: bytes) -> str | None:
    """Why a payload can't land with any mapping; ``None`` if it can. The reason never quotes it."""
    try:
        _check_json(payload)
        payload.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}{hint(payload)}"
    except msgspec.DecodeError as error:
        return f"not JSON: {error}{hint(payload)}" if payload.strip() else "empty"
    except RecursionError:
        return "nested too deeply"
    return None


def _text(payloads: Sequence[bytes]) -> pa.StringArray:
    """The payloads as one column, with two copies fewer than ``pa.array`` makes.

    :raises pyarrow.ArrowInvalid: one of them isn't UTF-8
    """
    ends = pa.array(list(accumulate(map(len, payloads), initial=0)), pa.int32())
    column = pa.StringArray.from_buffers(len(payloads), ends.buffers()[1], pa.py_buffer(b"".join(payloads)))
    column.validate(full=True)
    return column
