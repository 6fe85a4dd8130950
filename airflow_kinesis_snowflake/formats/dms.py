"""Changes that AWS Database Migration Service writes to a Kinesis stream.

The JSON is that of "Using Amazon Kinesis Data Streams as a target for AWS Database Migration Service" in the
DMS user guide, on one line or several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.changes import DELETE, INSERT, READ, UPDATE, Change
from airflow_kinesis_snowflake.formats.engine import DroppedPayload, of_json

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

_OPERATIONS = {"load": READ, "insert": INSERT, "update": UPDATE, "delete": DELETE}


@dataclass(frozen=True)
class DMS:
    """Records of a DMS task. Control records, such as ``create-table``, are dropped and counted."""

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder."""
        return of_json(_document)


class _Metadata(msgspec.Struct):
    kind: str = msgspec.field(name="record-type")
    operation: str
    time: str | None = msgspec.field(default=None, name="timestamp")
    schema: str | None = msgspec.field(default=None, name="schema-name")
    table: str | None = msgspec.field(default=None, name="table-name")
    key_type: str | None = msgspec.field(default=None, name="partition-key-type")
    committed: str | None = msgspec.field(default=None, name="commit-timestamp")
    transaction: int | str | None = msgspec.field(default=None, name="transaction-id")


class _DmsRecord(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, msgspec.Raw] | None = None
    before: dict[str, msgspec.Raw] | None = msgspec.field(default=None, name="before-image")


class _RawMetadata(msgspec.Struct):
    metadata: msgspec.Raw


_decode = msgspec.json.Decoder(_DmsRecord).decode
_decode_raw_metadata = msgspec.json.Decoder(_RawMetadata).decode


def _document(payload: bytes, key: str = "", /) -> Documents:
    found = change(payload, key)
    return found if isinstance(found, DroppedPayload) else [found.document()]


def change(payload: bytes, key: str) -> Change | DroppedPayload:
    """The change that a record describes.

    :param key: partition key of the record: the values of the primary key, if DMS partitions by it
    :raises msgspec.DecodeError: it isn't a DMS record
    """
    record = _decode(payload)
    metadata = record.metadata
    if metadata.kind == "control":
        return DroppedPayload("control record of DMS")
    if metadata.kind != "data" or metadata.operation not in _OPERATIONS or record.data is None:
        raise UndecodableError("a DMS record of an unknown kind")
    deleted = metadata.operation == "delete"
    table = ".".join(part for part in (metadata.schema, metadata.table) if part)
    committed = metadata.committed or metadata.time
    source: Any = _decode_raw_metadata(payload).metadata
    return Change(
        operation=_OPERATIONS[metadata.operation],
        key=key if metadata.key_type == "primary-key" and key else None,
        # DMS puts the deleted row into "data".
        before=record.data if deleted else record.before,
        after=None if deleted else record.data,
        # Rows of a load have the time of DMS, which may be later than that of changes made after it.
        # Records of a transaction have one time, and come in order.
        order="0" if metadata.operation == "load" else committed or "0",
        time=committed,
        table=table or None,
        transaction=metadata.transaction,
        source=source,
    )
