"""MessagePack lands as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.engine import DroppedPayload

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def decoded(payload: bytes) -> Any:
    decode = payload_decoder("msgpack")
    assert decode is not None
    found = decode(payload)
    assert not isinstance(found, DroppedPayload)
    (document,) = found
    return json.loads(document)


@given(documents)
def test_what_json_holds_comes_out_as_it_went_in(value: Any) -> None:
    assert decoded(msgspec.msgpack.encode(value)) == value


@pytest.mark.parametrize(
    ("value", "lands"),
    [
        (b"\0\1\2", "AAEC"),
        (float("nan"), "NaN"),
        ({7: 1, "a": 2}, {"7": 1, "a": 2}),
        (msgspec.msgpack.Ext(5, b"\0"), {"type": 5, "data": "AA=="}),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
    ],
)
def test_what_json_does_not_hold_has_a_form_of_its_own(value: Any, lands: Any) -> None:
    assert decoded(msgspec.msgpack.encode(value)) == lands


def packed(*pairs: tuple[Any, Any]) -> bytes:
    """A map of pairs, whether or not their keys are equal in Python."""
    parts = [msgspec.msgpack.encode(each) for pair in pairs for each in pair]
    return bytes([0x80 + len(pairs)]) + b"".join(parts)


@pytest.mark.parametrize(
    "keys",
    [
        (1, True),
        (1, 1.0),
        (0, False),
        (0, -0.0),
        (0.0, -0.0),
        (2**53, float(2**53)),
        (7, 7),
        (None, None),
        (b"a", b"a"),
        ([1, "a"], [True, "a"]),
        (1, "1"),
        (None, "null"),
        (float("nan"), float("nan")),
        (7, "a", "a"),
    ],
)
def test_keys_that_would_be_the_same_make_a_dead_letter_where_they_are_not_all_text(
    keys: tuple[Any, ...],
) -> None:
    inner = packed(*((key, "value") for key in keys))
    for payload in (inner, b"\x92" + inner + b"\xc0", b"\x81\xa1a" + inner, b"\x81\x09\x91" + inner):
        with pytest.raises(UndecodableError, match="two keys of a map are the same"):
            decoded(payload)


def test_the_last_value_of_a_text_that_occurs_twice_lands_as_in_json() -> None:
    assert decoded(packed(("a", 1), ("b", 2), ("a", 3))) == {"a": 3, "b": 2}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False)
        | texts
        | st.binary(max_size=300)
        | st.text("x", min_size=30, max_size=300)
        | st.datetimes(timezones=st.just(UTC))
        | st.builds(msgspec.msgpack.Ext, st.integers(0, 127), st.binary(max_size=20)),
        lambda inner: (
            st.lists(inner, max_size=20)
            | st.dictionaries(st.integers(-(2**63), 2**64 - 1), inner, max_size=20)
        ),
        max_leaves=30,
    )
)
def test_maps_with_other_keys_than_text_are_read_whatever_is_in_them(value: Any) -> None:
    assert decoded(msgspec.msgpack.encode({7: value})).keys() == {"7"}


# Of each kind in the specification one, which has what begins a map where it is no map, if it can.
KINDS = [
    *[b"\x05", b"\xe0", b"\xc0", b"\xc2", b"\xc3", b"\xa0", b"\xbf" + b"x" * 31],
    *[b"\xc4\x01\x81", b"\xc5\0\x01\x81", b"\xc6\0\0\0\x01\x81"],
    *[b"\xc7\x01\x05\x81", b"\xc8\0\x01\x05\x81", b"\xc9\0\0\0\x01\x05\x81"],
    *[b"\xca\x81\0\0\0", b"\xcb\x81" + bytes(7)],
    *[b"\xcc\x81", b"\xcd\x81\x81", b"\xce" + b"\x81" * 4, b"\xcf" + b"\x81" * 8],
    *[b"\xd0\x81", b"\xd1\x81\x81", b"\xd2" + b"\x81" * 4, b"\xd3" + b"\x81" * 8],
    *[bytes([0xD4 + number, 5]) + b"\x81" * 2**number for number in range(5)],
    *[b"\xd9\x01x", b"\xda\0\x01x", b"\xdb\0\0\0\x01x"],
    *[b"\x90", b"\x91\x01", b"\xdc\0\x01\x01", b"\xdd\0\0\0\x01\x01"],
    *[b"\x80", b"\x81\x01\x02", b"\xde\0\x01\x01\x02", b"\xdf\0\0\0\x01\x01\x02"],
]


@pytest.mark.parametrize("first", KINDS)
def test_keys_are_counted_behind_values_of_every_kind(first: bytes) -> None:
    for second in KINDS:
        assert len(decoded(b"\x81\x07\x93" + first + second + b"\x81\x01\x02")["7"]) == 3
        with pytest.raises(UndecodableError, match="two keys"):
            decoded(b"\x81\x07\x93" + first + second + b"\x82\x01\x02\x01\x02")


def test_bytes_of_another_encoder_are_read() -> None:
    """As msgpack-python packs ``{"log": "hello", "n": 7}``."""
    assert decoded(bytes.fromhex("82a36c6f67a568656c6c6fa16e07")) == {"log": "hello", "n": 7}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x82\xa1a",
        b"\x01\x02",
        b"\x91" * 100_000 + b"\x01",
        b"\xa1\xff",
        # The keys 1 and "1".
        b"\x82\x01\x01\xa11\x02",
    ],
)
def test_what_is_not_messagepack_is_a_dead_letter(payload: bytes) -> None:
    with pytest.raises(UndecodableError):
        decoded(payload)


@pytest.mark.parametrize(
    "payload", [2 * msgspec.msgpack.encode({"a": 1}), msgspec.msgpack.encode({"a": 1})[:-1]]
)
def test_what_begins_like_messagepack_is_not_said_to_be_read_as_messagepack(payload: bytes) -> None:
    with pytest.raises(UndecodableError, match=r"^not one whole MessagePack value$"):
        decoded(payload)
