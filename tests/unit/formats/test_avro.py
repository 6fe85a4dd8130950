"""Avro payloads become the JSON that stands for the same values, to the last digit."""

from __future__ import annotations

import base64
import io
import json
import math
import uuid
import zlib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.engine import DroppedPayload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONG = st.integers(-(2**63), 2**63 - 1)


def encoded(schema: Any, value: Any) -> bytes:
    """One datum as others write it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def decoded(schema: Any, payload: bytes) -> Any:
    decode = payload_decoder("avro", avro_schema=json.dumps(schema))
    assert decode is not None
    documents = decode(payload)
    assert not isinstance(documents, DroppedPayload)
    (document,) = documents
    return json.loads(document, parse_float=Decimal)


def of(logical_type: str, base: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "logicalType": logical_type, **more}


RECORD: dict[str, Any] = {
    "type": "record",
    "name": "ns.Event",
    "fields": [
        {"name": "text", "type": "string"},
        {"name": "number", "type": ["null", "long"]},
        {"name": "raw", "type": "bytes"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "list", "type": {"type": "array", "items": "double"}},
        {"name": "map", "type": {"type": "map", "values": ["null", "boolean"]}},
        {"name": "again", "type": ["null", "ns.Kind"]},
    ],
}
events = st.fixed_dictionaries(
    {
        "text": st.text(st.characters(exclude_categories=["Cs"])),
        "number": st.none() | LONG,
        "raw": st.binary(),
        "kind": st.sampled_from("AB"),
        "list": st.lists(st.floats(allow_nan=False, allow_infinity=False)),
        "map": st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.booleans()),
        "again": st.sampled_from([None, "A"]),
    }
)


@given(events)
def test_a_record_comes_back_as_it_went_in(event: dict[str, Any]) -> None:
    document = decoded(RECORD, encoded(RECORD, event))

    assert base64.b64decode(document.pop("raw")) == event.pop("raw")
    assert [float(item) for item in document.pop("list")] == event.pop("list")
    assert document == event


@given(st.integers(-(10**60) + 1, 10**60 - 1), st.integers(0, 60))
def test_a_decimal_keeps_every_digit(unscaled: int, scale: int) -> None:
    payload = unscaled.to_bytes(26, signed=True)
    schema = of("decimal", "bytes", precision=60, scale=scale)
    fixed = {"name": "d", "size": 26, **of("decimal", "fixed", precision=60, scale=scale)}

    value = decoded(schema, bytes([52]) + payload)

    assert value == decoded(fixed, payload)
    with localcontext(prec=200):
        assert Decimal(value) == Decimal(unscaled).scaleb(-scale)
    digits = len(str(abs(unscaled)).zfill(scale + 1))
    assert isinstance(value, str) == (digits > 38 or scale > 37)


def test_a_decimal_beyond_the_precision_of_its_schema_is_not_rounded() -> None:
    schema = of("decimal", "bytes", precision=3, scale=2)
    assert decoded(schema, bytes([6]) + (123456).to_bytes(3)) == Decimal("1234.56")


@given(st.dates())
def test_a_date_comes_back_as_it_went_in(day: date) -> None:
    assert date.fromisoformat(decoded(of("date", "int"), encoded("int", (day - EPOCH.date()).days))) == day


@pytest.mark.parametrize(("unit", "digits"), [("millis", 3), ("micros", 6), ("nanos", 9)])
@given(count=LONG)
def test_a_timestamp_keeps_every_digit_and_its_zone(unit: str, digits: int, count: int) -> None:
    payload = encoded("long", count)
    try:
        moment = decoded(of(f"timestamp-{unit}", "long"), payload)
    except UndecodableError:
        seconds = count // 10**digits
        assert not -62_135_596_800 <= seconds < 253_402_300_800
        return
    whole, _, fraction = moment.partition(".")
    seconds = (datetime.fromisoformat(f"{whole}Z") - EPOCH) // timedelta(seconds=1)
    assert (seconds * 10**digits + int(fraction[:-1]), len(fraction)) == (count, digits + 1)
    assert fraction.endswith("Z")
    assert decoded(of(f"local-timestamp-{unit}", "long"), payload) == moment.removesuffix("Z")


@given(st.integers(0, 86_400_000_000 - 1))
def test_a_time_comes_back_as_it_went_in(micros: int) -> None:
    expected = (EPOCH + timedelta(microseconds=micros)).time()
    assert decoded(of("time-micros", "long"), encoded("long", micros)) == expected.isoformat("microseconds")
    assert decoded(of("time-millis", "int"), encoded("int", micros // 1000)) == expected.isoformat(
        "milliseconds"
    )


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (of("date", "int"), encoded("int", 2**31 - 1)),
        (of("time-millis", "int"), encoded("int", 86_400_000)),
        (of("timestamp-millis", "long"), encoded("long", 2**62)),
    ],
)
def test_a_moment_that_no_calendar_has_is_a_dead_letter(schema: Any, payload: bytes) -> None:
    with pytest.raises(UndecodableError, match="outside"):
        decoded(schema, payload)


def test_durations_and_uuids_are_readable() -> None:
    value = uuid.UUID(int=7)
    duration = {"name": "d", "size": 12, **of("duration", "fixed")}
    assert decoded(duration, bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])) == {
        "months": 1,
        "days": 2,
        "millis": 3,
    }
    assert decoded({"name": "u", "size": 16, **of("uuid", "fixed")}, value.bytes) == str(value)
    assert decoded(of("uuid", "string"), encoded("string", str(value))) == str(value)


@pytest.mark.parametrize(("value", "text"), [(math.nan, "NaN"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_floats_that_json_does_not_have_are_text_that_snowflake_casts(value: float, text: str) -> None:
    assert decoded("double", encoded("double", value)) == text


# --- what doesn't fit --------------------------------------------------------------------------------------


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_a_dead_letter(payload: bytes) -> None:
    try:
        document = decoded(RECORD, payload)
    except UndecodableError:
        return
    assert document.keys() == {field["name"] for field in RECORD["fields"]}


@given(events, st.binary(min_size=1, max_size=5))
def test_bytes_behind_the_datum_are_not_ignored(event: dict[str, Any], more: bytes) -> None:
    with pytest.raises(UndecodableError, match="left over"):
        decoded(RECORD, encoded(RECORD, event) + more)


def test_a_datum_that_is_cut_off_is_a_dead_letter() -> None:
    with pytest.raises(UndecodableError, match="doesn't fit the Avro schema"):
        decoded("string", encoded("string", "hello")[:-1])


def test_a_schema_that_contains_itself_is_refused() -> None:
    """fastavro would end the process on a payload that is nested ten thousand times."""
    tree = {
        "type": "record",
        "name": "Tree",
        "fields": [{"name": "children", "type": {"type": "array", "items": ["null", "Tree"]}}],
    }
    with pytest.raises(InvalidSettingError, match="contains itself"):
        payload_decoder("avro", avro_schema=tree)


# --- headers -----------------------------------------------------------------------------------------------

SCHEMA_ID = "00000000-0000-0000-0000-000000000007"


def by_registry(payload: bytes) -> list[Any]:
    asked: list[int | str] = []

    def resolve(schema_id: int | str) -> Any:
        asked.append(schema_id)
        return {7: {"type": "int"}, SCHEMA_ID: '"string"'}[schema_id]

    decode = payload_decoder("avro", avro_schema_resolver=resolve)
    assert decode is not None
    documents: list[Any] = []
    for _ in range(2):
        found = decode(payload)
        assert not isinstance(found, DroppedPayload)
        documents += map(json.loads, found)
    assert len(asked) == 1
    return [*documents, *asked]


def test_the_header_of_confluent_says_which_schema() -> None:
    assert by_registry(b"\0" + (7).to_bytes(4) + encoded("int", 5)) == [5, 5, 7]


@pytest.mark.parametrize("compressed", [False, True])
def test_the_header_of_glue_says_which_schema(compressed: bool) -> None:
    datum = encoded("string", "x")
    payload = bytes([3, 5]) + uuid.UUID(SCHEMA_ID).bytes + zlib.compress(datum)
    if not compressed:
        payload = bytes([3, 0]) + uuid.UUID(SCHEMA_ID).bytes + datum
    assert by_registry(payload) == ["x", "x", SCHEMA_ID]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "header"),
        (b"\0\0\0\0", "header"),
        (b"\1" + b"\0" * 30, "header"),
        (bytes([3, 1]) + b"\0" * 30, "header"),
        (b"\0" + (8).to_bytes(4) + b"\0", "the registry has no schema 8"),
        (bytes([3, 5]) + uuid.UUID(SCHEMA_ID).bytes + b"no zlib", "zlib"),
        (bytes([3, 5]) + uuid.UUID(SCHEMA_ID).bytes + zlib.compress(b"\2x")[:-5], "zlib"),
        (bytes([3, 5]) + uuid.UUID(SCHEMA_ID).bytes + zlib.compress(bytes(17 * 2**20)), "larger than 16 MiB"),
    ],
)
def test_a_payload_whose_header_leads_nowhere_is_a_dead_letter(payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        by_registry(payload)


@pytest.mark.parametrize("error", [ConnectionError("it is down"), InvalidSettingError("install something")])
def test_a_registry_that_fails_is_not_the_fault_of_the_record(error: Exception) -> None:
    def resolve(_: int | str) -> Any:
        raise error

    decode = payload_decoder("avro", avro_schema_resolver=resolve)
    assert decode is not None
    with pytest.raises(type(error)):
        decode(b"\0\0\0\0\7\2")


def test_a_resolver_is_asked_once_for_a_schema_that_it_refuses() -> None:
    asked: list[int | str] = []

    def resolve(schema_id: int | str) -> Any:
        asked.append(schema_id)
        raise UndecodableError("not for us")

    decode = payload_decoder("avro", avro_schema_resolver=resolve)
    assert decode is not None
    for _ in range(3):
        with pytest.raises(UndecodableError, match="schema 7 of the registry: not for us"):
            decode(b"\0\0\0\0\7\2")
    assert asked == [7]
