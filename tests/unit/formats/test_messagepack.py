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
