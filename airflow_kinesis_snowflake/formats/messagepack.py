"""MessagePack, as fluentd and many libraries write it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.engine import check_objects, check_size
from airflow_kinesis_snowflake.formats.looks import hint

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder

# What maps and arrays begin with; text and numbers may contain these bytes too, which a bound may ignore.
_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class MessagePack:
    """One MessagePack value per payload.

    Bytes become base64, extension types an object with ``type`` and ``data`` in base64, timestamps ISO 8601
    to the microsecond, NaN and the infinities text. Keys that aren't text become their JSON text; if that
    makes two keys the same, the payload is refused.
    """

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder."""
        return _document


def _document(payload: bytes, _key: str = "", /) -> list[bytes]:
    check_size(payload)
    check_objects(len(payload) - len(payload.translate(None, _CONTAINERS)))
    if not payload:
        raise UndecodableError("empty")
    try:
        return [_encode(_plain(_decode(payload)))]
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError):
        looks_like = hint(payload)
        # It may begin like one, and be cut off or followed by another.
        told = "" if "'msgpack'" in looks_like else looks_like
        raise UndecodableError(f"not one whole MessagePack value{told}") from None
    except RecursionError:
        raise UndecodableError("nested too deeply") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        named = {_name(key): _plain(item) for key, item in value.items()}
        if len(named) < len(value):
            raise ValueError
        return named
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return values.floating(value)
    if isinstance(value, msgspec.msgpack.Ext):
        return {"type": value.code, "data": base64.b64encode(value.data).decode("ascii")}
    return value


def _name(key: Any) -> str:
    return key if isinstance(key, str) else _encode(_plain(key)).decode()
