"""CloudWatch Logs subscriptions: a row for each log event.

A subscription filter sends gzip of one JSON document with many events ("Real-time processing of log data with
subscriptions" in the CloudWatch Logs user guide). A document that was inflated on the way is read too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.compression import decompressing, inflater
from airflow_kinesis_snowflake.formats.engine import (
    CheckedDocuments,
    DroppedPayload,
    check_count,
    check_output,
    of_json,
)

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder, Documents

_check_json = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class CloudWatchLogs:
    """Messages of a CloudWatch Logs subscription.

    Each log event becomes an object with ``owner`` (an account), ``logGroup``, ``logStream``, ``id``,
    ``timestamp`` (ms since the epoch), ``message``, and ``extractedFields`` where the filter extracts some.
    A message that is a JSON object or array is one in the row; any other stays text. Control messages, with
    which CloudWatch checks that the stream can be reached, are dropped and counted.
    """

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder, which inflates payloads itself."""
        return decompressing(inflater("auto"), of_json(log_events))


class _Event(msgspec.Struct, gc=False):
    id: str
    timestamp: int
    message: str
    extracted: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="extractedFields")


class _Message(msgspec.Struct):
    kind: str = msgspec.field(name="messageType")
    owner: str
    group: str = msgspec.field(name="logGroup")
    stream: str = msgspec.field(name="logStream")
    events: list[_Event] = msgspec.field(name="logEvents")


_decode = msgspec.json.Decoder(_Message).decode


def log_events(payload: bytes, _key: str = "", /) -> Documents:
    """The events of an inflated message.

    :raises msgspec.DecodeError: it isn't one
    """
    message = _decode(payload)
    if message.kind == "CONTROL_MESSAGE":
        return DroppedPayload("control message of CloudWatch Logs")
    if message.kind != "DATA_MESSAGE":
        raise UndecodableError("a CloudWatch Logs message of an unknown type")
    if not message.events:
        return DroppedPayload("message of CloudWatch Logs without events")
    return _rows(message, size=len(payload))


def _rows(message: _Message, *, size: int) -> CheckedDocuments:
    """The events as JSON; what all of them share is encoded once.

    :param size: bytes of all events, or more
    """
    head = b'{"owner":%b,"logGroup":%b,"logStream":%b,"id":' % (
        _encode(message.owner),
        _encode(message.group),
        _encode(message.stream),
    )
    check_count(len(message.events))
    check_output(len(head) * len(message.events) + size)
    rows = CheckedDocuments()
    for event in message.events:
        extracted = b"" if event.extracted is msgspec.UNSET else b',"extractedFields":%b' % event.extracted
        number, moment, text = _encode(event.id), _encode(event.timestamp), as_json(event.message)
        rows.append(b"".join((head, number, b',"timestamp":', moment, b',"message":', text, extracted, b"}")))
    return rows


def as_json(message: str) -> bytes:
    """The message itself if it is a JSON object or array, otherwise as a JSON string."""
    document = message.strip(" \t\r\n")
    if document[:1] in ("{", "[") and document[-1:] in ("}", "]"):
        try:
            _check_json(document)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            return document.encode()
    return _encode(message)
