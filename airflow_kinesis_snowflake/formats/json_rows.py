"""Encoded records as JSON rows: an object per row, its keys the columns of the landing table.

A value becomes what COPY makes of the same field, so that a table looks the same whichever way its rows came.
Documents are put into rows as the text that was received, unparsed, but for line breaks: a row is one line,
because rows are sent as lines, and whoever reads a document with a line break would read two rows.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_snowflake.formats.column_types import SEMI_STRUCTURED, ColumnType, DataType
from airflow_kinesis_snowflake.formats.envelope import CONTENT, METADATA, METADATA_COLUMNS
from airflow_kinesis_snowflake.formats.fields import Encoding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_snowflake.formats.fields import FileColumn

_NEEDS_ESCAPING = r'["\\\x00-\x1f]'
_SUB_SEQUENCE_DIGITS = 20


@dataclass(frozen=True)
class JsonColumn:
    """A column of the landing table, and the fields that may hold its values.

    :param type: of the column
    :param default: a row that doesn't name it gets a default value, so NULL must be written
    """

    name: str
    type: ColumnType
    fields: tuple[FileColumn, ...]
    default: bool = False


def envelope_rows(
    rows: pa.RecordBatch, *, metadata_columns: Sequence[str], loaded_at: datetime
) -> list[bytes]:
    """Rows of the ``envelope`` mapping.

    :param metadata_columns: facts that have columns of their own
    :param loaded_at: what the fact ``loaded_at`` is
    """
    content = pc.binary_join_element_wise(f'{{"{CONTENT}":', rows.column(CONTENT), "")
    return _finished([content, *_metadata(rows, metadata_columns, loaded_at, first=False)])


def column_rows(
    rows: pa.RecordBatch,
    columns: Sequence[JsonColumn],
    *,
    metadata_columns: Sequence[str],
    loaded_at: datetime,
    hexadecimal: bool = False,
) -> list[bytes]:
    """Rows of the ``columns`` mapping.

    :param columns: those that the fields of the rows fill
    :param metadata_columns: facts that have columns of their own
    :param loaded_at: what the fact ``loaded_at`` is
    :param hexadecimal: write bytes as hexadecimal digits instead of base64
    """
    parts = _metadata(rows, metadata_columns, loaded_at, first=True)
    for column in columns:
        held = [(item, rows.column(item.name)) for item in column.fields if item.name in rows.schema.names]
        if held or column.default:
            parts.append(_column(column, held, count=rows.num_rows, hexadecimal=hexadecimal))
    return _finished(parts)


def letter_rows(rows: pa.RecordBatch, *, failed_at: str) -> list[bytes]:
    """Rows of the dead-letter table, whose columns are those of the rows.

    :param failed_at: what COPY leaves to the default of its column
    """
    return [msgspec.json.encode({**row, "FAILED_AT": failed_at}) for row in rows.to_pylist()]


def _finished(parts: Sequence[pa.Array | str]) -> list[bytes]:
    joined = pc.binary_join_element_wise(*parts, "}", "")
    text = (joined.buffers()[2] or pa.py_buffer(b"")).to_pybytes()
    # JSON has them between its tokens only, where a blank means the same. To search each row takes longer.
    for line_break in ("\n", "\r"):
        if line_break.encode() in text:
            joined = pc.replace_substring(joined, line_break, " ")
    found: list[bytes] = joined.cast(pa.binary()).to_pylist()
    return found


def _metadata(
    rows: pa.RecordBatch, metadata_columns: Sequence[str], loaded_at: datetime, *, first: bool
) -> list[pa.Array | str]:
    """``KINESISMETADATA`` and the facts beside it, each with its key."""
    arrival = rows.column("approximateArrival")
    sub = pc.cast(rows.column("subSequenceNumber"), pa.string())
    number = rows.column("sequenceNumber")
    values = {
        "stream": _quoted(rows.column("stream")),
        "shardId": _quoted(rows.column("shardId")),
        "approximateArrival": pc.cast(arrival, pa.string()),
        "partitionKey": _quoted(rows.column("partitionKey")),
        "sequenceNumber": _quoted(number),
        "subSequenceNumber": sub,
        "shardedSequenceNumber": pc.binary_join_element_wise(
            '"', number, pc.utf8_lpad(sub, _SUB_SEQUENCE_DIGITS, "0"), '"', ""
        ),
    }
    parts: list[pa.Array | str] = [f'{"{" if first else ","}"{METADATA}":']
    for at, (name, value) in enumerate(values.items()):
        parts += [f'{"," if at else "{"}"{name}":', value]
    parts.append("}")
    facts = {
        "stream": "stream",
        "shard_id": "shardId",
        "sequence_number": "sequenceNumber",
        "sub_sequence_number": "subSequenceNumber",
        "partition_key": "partitionKey",
    }
    for fact in metadata_columns:
        parts.append(f',"{METADATA_COLUMNS[fact][0]}":')
        match fact:
            case "loaded_at":
                parts.append(f'"{loaded_at.isoformat(timespec="milliseconds")}"')
            case "arrival_time":
                parts.append(_moments(arrival))
            case _:
                parts.append(values[facts[fact]])
    return parts


def _moments(millis: pa.Array) -> pa.Array:
    texts = pc.cast(pc.cast(millis, pa.timestamp("ms")), pa.string())
    return pc.binary_join_element_wise('"', pc.replace_substring(texts, " ", "T"), '+00:00"', "")


def _column(
    column: JsonColumn, held: Sequence[tuple[FileColumn, pa.Array]], *, count: int, hexadecimal: bool
) -> pa.Array:
    """The key and the value of each row; empty text for rows without a value."""
    name = msgspec.json.encode(column.name).decode()
    values = [_values(column.type, item.encoding, array, hexadecimal=hexadecimal) for item, array in held]
    found = pc.coalesce(*values) if values else pa.nulls(count, pa.string())
    absent = f",{name}:null" if column.default else ""
    return pc.fill_null(pc.binary_join_element_wise(f",{name}:", found, ""), absent)


def _values(column: ColumnType, encoding: Encoding, values: pa.Array, *, hexadecimal: bool) -> pa.Array:
    """The values of a field as JSON, for a column of this type."""
    if column.kind is DataType.BINARY and hexadecimal:
        return _hexadecimal(values)
    match encoding:
        case Encoding.JSON if column.kind in SEMI_STRUCTURED:
            return values
        case Encoding.INTEGER | Encoding.BOOLEAN:
            return pc.cast(values, pa.string())
        case Encoding.DOUBLE:
            texts = pc.cast(values, pa.string())
            return pc.if_else(pc.is_finite(values), texts, _quoted(texts))
        case _:
            # Decimals too: a JSON number may pass through a double on its way.
            return _quoted(values)


def _hexadecimal(values: pa.Array) -> pa.Array:
    """Base64 texts as JSON strings of hexadecimal digits."""
    return pa.array(
        [None if text is None else f'"{base64.b64decode(text).hex()}"' for text in values.to_pylist()],
        pa.string(),
    )


def _quoted(texts: pa.Array) -> pa.Array:
    """Texts as JSON strings."""
    if pc.any(pc.match_substring_regex(texts, _NEEDS_ESCAPING)).as_py():
        encode = msgspec.json.encode
        return pa.array(
            [None if text is None else encode(text).decode() for text in texts.to_pylist()], pa.string()
        )
    return pc.binary_join_element_wise('"', texts, '"', "")
