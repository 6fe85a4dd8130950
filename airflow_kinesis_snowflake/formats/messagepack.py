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
_FIXED_MAPS, _MAPS = range(0x80, 0x90), (0xDE, 0xDF)
# fmt: off
# By the first byte of a value: how many bytes the number of its bytes or pairs has, where there is one.
_WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDE: 2, 0xDF: 4}
# And how many bytes the value has besides those, without what is in a map or an array; others have one.
_SIZES = {
    **{first: first - 0x9F for first in range(0xA0, 0xC0)},
    0xC4: 2, 0xC5: 3, 0xC6: 5, 0xC7: 3, 0xC8: 4, 0xC9: 6, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5,
    0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9, 0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18, 0xD9: 2,
    0xDA: 3, 0xDB: 5, 0xDC: 3, 0xDD: 5, 0xDE: 3, 0xDF: 5,
}
# fmt: on
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class MessagePack:
    """One MessagePack value per payload.

    Bytes become base64, extension types an object with ``type`` and ``data`` in base64, timestamps ISO 8601
    to the microsecond, NaN and the infinities text. Keys that aren't text become their JSON text. If two keys
    of a map are the same, its last value counts, as in JSON; but a payload with other keys than text is
    refused then, such as one with 1 and "1", 1 and true, or 1 twice.
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
    keys = _KeysMet()
    try:
        document = _encode(_plain(_decode(payload), keys))
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError):
        looks_like = hint(payload)
        # It may begin like one, and be cut off or followed by another.
        told = "" if "'msgpack'" in looks_like else looks_like
        raise UndecodableError(f"not one whole MessagePack value{told}") from None
    except RecursionError:
        raise UndecodableError("nested too deeply") from None
    if not keys.only_text and keys.number < _pairs(payload):
        raise UndecodableError("two keys of a map are the same")
    return [document]


class _KeysMet:
    """What is known of the keys of all maps."""

    number = 0
    only_text = True


def _plain(value: Any, keys: _KeysMet) -> Any:
    if isinstance(value, dict):
        named = {_name(key, keys): _plain(item, keys) for key, item in value.items()}
        keys.number += len(named)
        return named
    if isinstance(value, (list, tuple)):
        return [_plain(item, keys) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return values.floating(value)
    if isinstance(value, msgspec.msgpack.Ext):
        return {"type": value.code, "data": base64.b64encode(value.data).decode("ascii")}
    return value


def _name(key: Any, keys: _KeysMet) -> str:
    if isinstance(key, str):
        return key
    keys.only_text = False
    return _encode(_plain(key, keys)).decode()


def _pairs(payload: bytes) -> int:
    """How many pairs the maps of a payload say they have: keys that are equal in Python were one in a dict.

    :param payload: one whole value
    """
    place = pairs = 0
    while place < len(payload):
        first = payload[place]
        begin = place + 1
        place += _SIZES.get(first, 1)
        if first in _FIXED_MAPS:
            pairs += first - _FIXED_MAPS.start
        elif first in _WIDTHS:
            number = int.from_bytes(payload[begin : begin + _WIDTHS[first]])
            if first in _MAPS:
                pairs += number
            else:
                place += number
    return pairs
