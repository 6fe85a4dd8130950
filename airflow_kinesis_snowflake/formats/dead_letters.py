"""Records that can't be loaded, as rows of the dead-letter table."""

from __future__ import annotations

import base64
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_kinesis_snowflake.stream.records import Record

RECORD, GAP = "record", "gap"
MAX_TEXT_BYTES = 15 * 2**20
"""Bytes that a payload may have as a JSON string, so that its row can be streamed."""
JSON_PER_BYTE = 6
"""Bytes of a JSON string that a byte of text makes at most: a control character makes so many."""

SCHEMA = pa.schema(
    [
        pa.field("ID", pa.string(), nullable=False),
        pa.field("KIND", pa.string(), nullable=False),
        pa.field("APPLICATION", pa.string(), nullable=False),
        pa.field("STREAM", pa.string(), nullable=False),
        pa.field("SHARD_ID", pa.string(), nullable=False),
        pa.field("SEQUENCE_NUMBER", pa.string(), nullable=False),
        pa.field("SUB_SEQUENCE_NUMBER", pa.int64()),
        pa.field("PARTITION_KEY", pa.string(), nullable=False),
        pa.field("APPROXIMATE_ARRIVAL", pa.int64(), nullable=False),
        pa.field("REASON", pa.string(), nullable=False),
        pa.field("COLUMN_NAME", pa.string()),
        pa.field("PAYLOAD", pa.string(), nullable=False),
        pa.field("PAYLOAD_ENCODING", pa.string(), nullable=False),
    ]
)
"""Columns of a dead-letter file; those of the table except ``FAILED_AT``, which the table fills in."""


@dataclass(frozen=True)
class DeadLetter:
    """A record that can't be loaded, or a placeholder for records that are gone.

    :param reason: why, for a person to read; never quotes the payload
    :param column: the column that refused the value, where it was one column
    :param kind: ``record``, or ``gap`` where records aged out before they were read
    :param extent: of a gap: tells it from others at the same record, and sorts after that of an earlier one
    """

    record: Record
    reason: str
    column: str | None = None
    kind: str = RECORD
    extent: str = ""


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter as it is in the table."""

    id: str
    shard_id: str
    record: Record

    @property
    def whole(self) -> bool:
        """Whether it is a Kinesis record, and not a user record inside an aggregate."""
        return self.record.sub_sequence_number is None


@dataclass(frozen=True, kw_only=True)
class LetterFilter:
    """Which dead letters to select; gaps are never selected.

    :param reason: a part of the reason
    :param column: the column that refused the value
    :param since: failed at this moment or later
    :param until: failed at this moment or earlier
    """

    application: str
    stream: str
    reason: str | None = None
    column: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def dead_letter_rows(
    dead_letters: Sequence[DeadLetter], *, application: str, stream_name: str, shard_id: str
) -> pa.RecordBatch:
    """Turn dead letters of one shard into rows of :data:`SCHEMA`.

    ``PAYLOAD`` is the text of the payload if it is UTF-8, otherwise its base64 form; the largest record that
    Kinesis accepts (10 MiB) makes 14 MB of base64, which every Snowflake account can store. Megabytes of text
    that JSON would escape are base64 too.
    """
    records = [letter.record for letter in dead_letters]
    payloads = [_readable(record.data) for record in records]
    count = len(records)
    columns = [
        [str(uuid.uuid4()) for _ in records],
        [letter.kind for letter in dead_letters],
        [application] * count,
        [stream_name] * count,
        [shard_id] * count,
        [record.sequence_number for record in records],
        [record.sub_sequence_number for record in records],
        [record.partition_key for record in records],
        [record.arrival_millis for record in records],
        [letter.reason for letter in dead_letters],
        [letter.column for letter in dead_letters],
        [text for text, _ in payloads],
        [encoding for _, encoding in payloads],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def payload_of(text: str, encoding: str) -> bytes:
    """The payload that a dead letter keeps."""
    return base64.b64decode(text) if encoding == "base64" else text.encode()


def _readable(payload: bytes) -> tuple[str, str]:
    with suppress(UnicodeDecodeError):
        text = payload.decode()
        if len(payload) * JSON_PER_BYTE <= MAX_TEXT_BYTES or len(msgspec.json.encode(text)) <= MAX_TEXT_BYTES:
            return text, "utf-8"
    return base64.b64encode(payload).decode("ascii"), "base64"
