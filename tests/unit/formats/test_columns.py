"""Every key fills its column, or the record becomes a dead letter that says which column refused it."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Context, Decimal
from math import inf, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats import schema as module
from airflow_kinesis_snowflake.formats.cells import TypeMismatch, fit, moment
from airflow_kinesis_snowflake.formats.column_types import Column, ColumnType, DataType
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping, pack
from airflow_kinesis_snowflake.formats.envelope import METADATA_COLUMNS
from airflow_kinesis_snowflake.formats.fields import Encoding, FileColumn
from airflow_kinesis_snowflake.formats.names import column_name
from airflow_kinesis_snowflake.formats.schema import (
    AddColumn,
    ColumnsSettings,
    DropNotNull,
    Target,
    WidenColumn,
)
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords

METADATA = "KINESISMETADATA"
decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass
class Table:
    """A landing table that takes what a mapping makes, as Snowflake would, and its dead letters."""

    columns: dict[str, Column] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    dead_letters: dict[int, DeadLetter] = field(default_factory=dict)
    changes: list[Any] = field(default_factory=list)

    def mapping(self, how: ColumnsSettings | None = None) -> ColumnsMapping:
        return ColumnsMapping(how or ColumnsSettings(), read_columns=lambda: dict(self.columns))

    def load(self, mapping: ColumnsMapping, *pages: EncodedRecords) -> bool:
        """Evolve the table, then load pages as one batch; ``False`` if the table can't take them."""
        fields = {item for page in pages for item in page.fields}
        missing = {name for page in pages for name in page.missing}
        mapping.found(self.columns)
        for change in mapping.changes(fields, missing):
            self.change(change)
        mapping.found(self.columns)
        copy = mapping.copy(fields, missing)
        if copy is None:
            return False
        for page in pages:
            self.take(page, {name for name, _ in copy.columns})
        return True

    def change(self, change: Any) -> None:
        self.changes.append(change)
        if isinstance(change, AddColumn):
            self.columns.setdefault(change.column, Column(change.type))
        elif isinstance(change, WidenColumn):
            old = self.columns[change.column]
            assert change.type.scale == old.type.scale
            assert change.type.covers(old.type)
            self.columns[change.column] = replace(old, type=change.type)
        elif isinstance(change, DropNotNull):
            self.columns[change.column] = replace(self.columns[change.column], nullable=True)

    def take(self, page: EncodedRecords, filled: set[str]) -> None:
        by_name = {item.name: item for item in page.fields}
        for row in page.rows.to_pylist():
            landed = dict.fromkeys(self.columns)
            for name, value in row.items():
                if name in by_name and value is not None:
                    item = by_name[name]
                    assert item.column in filled
                    assert landed[item.column] is None
                    landed[item.column] = stored(item, self.columns[item.column].type, value)
            for name in filled - {METADATA}:
                assert landed[name] is not None or self.columns[name].nullable
            self.rows[int(row["sequenceNumber"])] = {
                name: value for name, value in landed.items() if value is not None
            }
        for letter in page.dead_letters:
            self.dead_letters[int(letter.record.sequence_number)] = letter


def stored(item: FileColumn, column: ColumnType, value: Any) -> Any:
    """What Snowflake stores for a value of a field."""
    if column.kind in {DataType.VARIANT, DataType.OBJECT, DataType.ARRAY}:
        return parsed(value) if item.encoding is Encoding.JSON else value
    if column.kind is DataType.NUMBER:
        number = Decimal(value)
        assert number == number.quantize(Decimal(1).scaleb(-column.scale), context=Context(prec=60))
        assert number.copy_abs() < 10 ** (column.precision - column.scale)
        return number
    if column.kind is DataType.FLOAT:
        assert item.encoding is Encoding.DOUBLE
    return value


def parsed(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def expected(column: ColumnType, text: str) -> Any:
    """What a sent value is in a column."""
    value = parsed(text)
    if column.kind is DataType.FLOAT:
        return float(value)
    if column.kind is DataType.NUMBER:
        return Decimal(value)
    if column.kind is DataType.VARCHAR and not isinstance(value, str):
        return text
    return value


def record(number: int, data: bytes) -> Record:
    return Record(sequence_number=str(number), approximate_arrival=1.0, partition_key="key", data=data)


def encode(mapping: ColumnsMapping, payloads: Sequence[Any], *, first: int = 0) -> EncodedRecords:
    records = [
        record(number, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        for number, payload in enumerate(payloads, start=first)
    ]
    return mapping.encode(records, stream_name="stream", shard_id="shardId-000000000000")


def land(
    *payloads: Any, table: Table | None = None, first: int = 0, how: ColumnsSettings | None = None
) -> Table:
    """Encode one page and load it."""
    table = table or Table()
    mapping = table.mapping(how)
    assert table.load(mapping, encode(mapping, payloads, first=first))
    return table


def types(table: Table) -> dict[str, str]:
    return {name: column.type.sql for name, column in table.columns.items()}


def table_of(**columns: str) -> Table:
    return Table({name: Column(ColumnType.parse(text)) for name, text in columns.items()})


# --- whatever is sent --------------------------------------------------------------------------------------

numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(min_value=-(10**45), max_value=10**45)
)
texts = st.text(max_size=4)
scalars = st.none() | st.booleans() | numbers | texts
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars, max_size=2)
# Every example teaches a schema anew, which takes milliseconds.
few = settings(max_examples=60)
few_keys = st.sampled_from(["a", "A", "b", 'say "hi"', "x.y", "", "é", "kinesismetadata", "l" * 300, "\0"])
documents = st.dictionaries(few_keys, values, max_size=4)
pages = st.lists(
    st.lists(
        documents.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=8), max_size=6
    ),
    max_size=4,
)


@few
@given(pages)
def test_rows_and_dead_letters_are_the_records_and_landed_values_equal_the_sent_ones(
    pages: list[list[bytes]],
) -> None:
    table = Table()
    sent: dict[int, bytes] = {}
    mapping = table.mapping()
    for page in pages:
        first = len(sent)
        sent |= dict(enumerate(page, start=first))
        encoded = encode(mapping, page, first=first)
        assert encoded.rows.num_rows + len(encoded.dead_letters) == len(page)
        assert encoded.bytes == sum(map(len, page))
        assert table.load(mapping, encoded)
    check(table, sent)


@few
@given(pages)
def test_pages_of_one_batch_that_differ_in_type_land_together_or_are_encoded_again(
    pages: list[list[bytes]],
) -> None:
    table = Table()
    sent = dict(enumerate(payload for page in pages for payload in page))

    def encoded(mapping: ColumnsMapping) -> list[EncodedRecords]:
        made, first = [], 0
        for page in pages:
            made.append(encode(mapping, page, first=first))
            first += len(page)
        return made

    mapping = table.mapping()
    if not table.load(mapping, *encoded(mapping)):
        assert table.load(mapping, *encoded(mapping))
    check(table, sent)


def check(table: Table, sent: Mapping[int, bytes]) -> None:
    assert table.rows.keys() | table.dead_letters.keys() == sent.keys()
    assert not table.rows.keys() & table.dead_letters.keys()
    for number, letter in table.dead_letters.items():
        assert letter.record.data == sent[number]
        assert letter.reason
    for number, row in table.rows.items():
        assert row == {
            key.upper(): expected(table.columns[key.upper()].type, bytes(raw).decode())
            for key, raw in decode_raw(sent[number]).items()
            if bytes(raw) != b"null"
        }


@few
@given(st.lists(documents, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_two_workers_that_evolve_at_once_lose_nothing(documents: list[dict[str, Any]], random: Any) -> None:
    table = Table()
    workers = [table.mapping(), table.mapping()]
    sent = {number: json.dumps(document).encode() for number, document in enumerate(documents)}
    shares = [[number for number in sent if number % 2 == which] for which in (0, 1)]
    made = [
        [encode(worker, [sent[number]], first=number) for number in share]
        for worker, share in zip(workers, shares, strict=True)
    ]
    order = [0, 1]
    random.shuffle(order)
    for which in order:
        if not table.load(workers[which], *made[which]):
            again = [encode(workers[which], [sent[number]], first=number) for number in shares[which]]
            assert table.load(workers[which], *again)
    check(table, sent)


# --- odd values --------------------------------------------------------------------------------------------

FLOAT_DIGITS = 0.1234567890123
LANDS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "empty object": ("{}", {}, {}),
    "null": ('{"a": null}', {}, {}),
    "empty nested object": ('{"a": {}}', {"A": "VARIANT"}, {"A": {}}),
    "nested numbers": (
        '{"a": {"b": [12345678901234567.89]}}',
        {"A": "VARIANT"},
        {"A": {"b": [Decimal("12345678901234567.89")]}},
    ),
    "quotes, dots and spaces in a key": (
        r'{"say \"hi\" .x": 1}',
        {'SAY "HI" .X': "NUMBER(38, 18)"},
        {'SAY "HI" .X': 1},
    ),
    "Unicode in a key": ('{"stra\u00dfe": 1}', {"STRASSE": "NUMBER(38, 18)"}, {"STRASSE": 1}),
    "a key twice": ('{"a": 1, "a": 2}', {"A": "NUMBER(38, 18)"}, {"A": 2}),
    "beyond 64 bits": (
        '{"a": 99999999999999999999999999999999999999}',
        {"A": "NUMBER(38, 0)"},
        {"A": Decimal(10**38 - 1)},
    ),
    "more digits than a double": (
        '{"a": 12345678901234567.89}',
        {"A": "NUMBER(38, 18)"},
        {"A": Decimal("12345678901234567.89")},
    ),
    "20 digits": (
        '{"a": 18446744073709551617}',
        {"A": "NUMBER(38, 18)"},
        {"A": 18446744073709551617},
    ),
    "25 digits": ('{"a": 1%s}|{"a": 0.5}' % ("0" * 24), {"A": "NUMBER(38, 13)"}, {"A": 10**24}),
    "many decimals": ('{"a": 0.1234567890123}', {"A": "FLOAT"}, {"A": FLOAT_DIGITS}),
    "exponent": ('{"a": 1e300}', {"A": "FLOAT"}, {"A": 1e300}),
    "exponent that is an integer": ('{"a": 1.5e3}', {"A": "NUMBER(38, 18)"}, {"A": 1500}),
    "zero behind the point": ('{"a": 1.0}', {"A": "NUMBER(38, 18)"}, {"A": 1}),
    "a mixture": ('{"a": 1}|{"a": "x"}', {"A": "VARIANT"}, {"A": 1}),
    "a date": ('{"a": "2024-01-02T03:04:05Z"}', {"A": "VARCHAR"}, {"A": "2024-01-02T03:04:05Z"}),
    "NUL in a text": (r'{"a": "x\u0000"}', {"A": "VARCHAR"}, {"A": "x\0"}),
    "1 MiB": (json.dumps({"a": "x" * 2**20}), {"A": "VARCHAR"}, {"A": "x" * 2**20}),
    "100 levels": (
        '{"a": %s}' % ("[" * 100 + "]" * 100),
        {"A": "VARIANT"},
        {"A": parsed("[" * 100 + "]" * 100)},
    ),
}


@pytest.mark.parametrize(
    ("text", "columns", "row"), [pytest.param(*case, id=name) for name, case in LANDS.items()]
)
def test_an_odd_value_lands(text: str, columns: dict[str, str], row: dict[str, Any]) -> None:
    table = land(*[part.encode() for part in text.split("|")])
    assert types(table) == columns
    assert table.rows[0] == row
    assert table.dead_letters == {}


REFUSED: dict[str, tuple[str, str | None, str]] = {
    "not an object": ("[1]", None, "not a JSON object"),
    "NaN": ('{"a": NaN}', None, "not JSON"),
    "Infinity": ('{"a": -Infinity}', None, "not JSON"),
    "lone surrogate": (r'{"a": "\ud800"}', None, "not JSON"),
    "lone surrogate in a key": (r'{"\ud800": 1}', None, "not JSON"),
    "40 digits": ('{"a": %s}' % ("1" * 40), "A", "more digits than Snowflake keeps"),
    "beyond a double": ('{"a": 1e400}', "A", "too large"),
    "empty key": ('{"": 1}', None, "can't be a column's name"),
    "long key": ('{"%s": 1}' % ("k" * 256), None, "can't be a column's name"),
    "case": ('{"a": 1, "A": 2}', "A", "several keys of the record fill the column"),
    "metadata": ('{"kinesisMetadata": 1}', METADATA, "rename or exclude"),
    "too deep": ('{"a": %s}' % ("[" * 100_000 + "]" * 100_000), None, "nested too deeply"),
}


@pytest.mark.parametrize(
    ("text", "column", "reason"), [pytest.param(*case, id=name) for name, case in REFUSED.items()]
)
def test_an_odd_value_is_refused_and_its_neighbours_land(text: str, column: str | None, reason: str) -> None:
    table = land({"b": 1}, text.encode(), {"b": 2})
    assert [row["B"] for row in table.rows.values()] == [1, 2]
    (letter,) = table.dead_letters.values()
    assert letter.column == column
    assert reason in letter.reason
    assert "1111" not in letter.reason


def test_a_byte_order_mark_in_front_is_skipped() -> None:
    table = land({"a": 1}, b'\xef\xbb\xbf{"a": 2, "b": 3}', {"a": 4})
    assert [row["A"] for row in table.rows.values()] == [1, 2, 4]
    assert table.dead_letters == {}


def test_invalid_utf8_is_refused_wherever_it_stands() -> None:
    payloads = [b'{"a": "\xff"}', b'{"b": ["\xff"]}', b'{"c": "\xff"}']
    table = land({"a": "x", "b": [], "c": 1}, *payloads, how=ColumnsSettings(exclude=("c",)))
    assert table.rows == {0: {"A": "x", "B": []}}
    assert {letter.reason.partition(":")[0] for letter in table.dead_letters.values()} == {"not UTF-8"}


def test_10000_keys_fill_the_table_up_to_its_limit_and_the_rest_is_refused_with_the_reason() -> None:
    mapping = Table().mapping()
    encoded = encode(mapping, [{f"k{number}": number} for number in range(10_000)])
    assert len(encoded.fields) == encoded.rows.num_rows == module.MAX_COLUMNS
    assert len(encoded.dead_letters) == 8_000
    assert "2,000 columns" in encoded.dead_letters[0].reason


def test_a_record_of_10000_keys_is_refused_and_its_neighbours_land() -> None:
    table = land({"a": 1}, {f"k{number}": number for number in range(10_000)}, {"a": 2})
    assert [row["A"] for row in table.rows.values()] == [1, 2]
    assert "2,000 columns" in table.dead_letters[1].reason


def test_more_keys_than_are_remembered_are_judged_all_the_same() -> None:
    documents = [{f"k{number}": number, "a": number} for number in range(module.MAX_KEYS + 100)]
    table = table_of(A="NUMBER(38, 0)")
    land(*documents, table=table, how=ColumnsSettings(schema_evolution=False))
    assert len(table.rows) == len(documents)


def test_keys_that_are_too_long_for_a_name_are_not_remembered() -> None:
    mapping = Table().mapping()
    encoded = encode(mapping, [{f"{number}".rjust(5_000, "k"): 1} for number in range(10)] + [{"a": 1}])
    assert encoded.rows.num_rows == 1
    assert all("1 to 255 characters" in letter.reason for letter in encoded.dead_letters)
    assert mapping._schema is not None
    assert set(mapping._schema.spellings) == {"a"}


# --- types, one after the other ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "lands"),
    [
        ("NUMBER(4, 2)", "12.50", Decimal("12.5")),
        ("NUMBER(4, 2)", "99.990", Decimal("99.99")),
        ("NUMBER(4, 2)", '"12.5"', Decimal("12.5")),
        ("NUMBER(4, 2)", "100", None),
        ("NUMBER(4, 2)", "0.125", None),
        ("NUMBER(4, 2)", '"012"', None),
        ("NUMBER(38, 1)", "1" + "0" * 45, None),
        ("NUMBER(38, 1)", "1" * 37 + ".5", Decimal("1" * 37 + ".5")),
        ("NUMBER(4, 0)", "1e2", 100),
        ("NUMBER(4, 0)", "10000", None),
        ("NUMBER(4, 0)", "-9999", -9999),
        ("NUMBER(4, 0)", "true", None),
        ("FLOAT", "1", 1.0),
        ("FLOAT", '"x"', None),
        ("FLOAT", '"inf"', inf),
        ("FLOAT", '"-inf"', -inf),
        ("FLOAT", '"infinity"', None),
        ("BOOLEAN", "false", False),
        ("BOOLEAN", "0", None),
        ("VARCHAR(3)", '"abc"', "abc"),
        ("VARCHAR(3)", '"abcd"', None),
        ("VARCHAR(9)", '{"a":1.0}', '{"a":1.0}'),
        ("VARIANT", '"x"', "x"),
        ("OBJECT", '{"a": 1}', {"a": 1}),
        ("OBJECT", "[1]", None),
        ("ARRAY", "[1]", [1]),
        ("ARRAY", "1", None),
        ("DATE", '"2024-02-29"', "2024-02-29"),
        ("DATE", '"2023-02-29"', None),
        ("DATE", '"2024-02-29T01:00"', None),
        ("TIMESTAMP_NTZ", '"2024-02-29 01:02"', "2024-02-29T01:02:00"),
        ("TIMESTAMP_NTZ", '"2024-02-29T24:00:00"', None),
        ("TIMESTAMP_NTZ(3)", '"2024-02-29T01:02:03.123000"', "2024-02-29T01:02:03.123"),
        ("TIMESTAMP_NTZ(3)", '"2024-02-29T01:02:03.1234"', None),
        ("TIMESTAMP_TZ", '"2024-02-29T01:02:03Z"', "2024-02-29T01:02:03+00:00"),
        ("TIMESTAMP_TZ", '"2024-02-29T01:02:03.123456789+0530"', "2024-02-29T01:02:03.123456789+05:30"),
        ("TIMESTAMP_TZ", '"2024-02-29T01:02:03"', None),
        ("TIMESTAMP_LTZ", "1709168523", None),
        ("TIMESTAMP_TZ", '"2024-02-29t01:02:03z"', "2024-02-29T01:02:03+00:00"),
        ("TIMESTAMP_TZ", '" 2024-02-29T01:02:03.5Z\\n"', "2024-02-29T01:02:03.5+00:00"),
        ("TIMESTAMP_NTZ", '"2024-02-29T01:02:03.12345678999"', "2024-02-29T01:02:03.123456789"),
        ("TIMESTAMP_NTZ(3)", '"2024-02-29T01:02:03.1230000000004"', "2024-02-29T01:02:03.123"),
        ("TIMESTAMP_TZ", '"2016-12-31T23:59:60Z"', "2017-01-01T00:00:00+00:00"),
        ("TIMESTAMP_TZ", '"2016-12-31T18:59:60.25-05:00"', "2016-12-31T19:00:00.25-05:00"),
        ("TIMESTAMP_TZ", '"2016-12-31T23:59:60-05:00"', None),
        ("TIMESTAMP_NTZ", '"2016-12-31T23:59:60"', "2017-01-01T00:00:00"),
        ("TIMESTAMP_NTZ", '"9999-12-31T23:59:60"', None),
        ("TIMESTAMP_NTZ", '"2024-02-29T01:02:61"', None),
        ("TIMESTAMP_TZ", '"20240229T010203.5+0530"', "2024-02-29T01:02:03.5+05:30"),
        ("TIMESTAMP_NTZ", '"20240229T0102"', "2024-02-29T01:02:00"),
        ("TIMESTAMP_NTZ", '"20240230T0102"', None),
        ("TIMESTAMP_NTZ", '"2024-02-29"', "2024-02-29T00:00:00"),
        ("DATE", '" 20240229"', "2024-02-29"),
        ("TIME", '"01:02"', "01:02:00"),
        ("TIME", '"23:02:03.120 "', "23:02:03.12"),
        ("TIME(0)", '"01:02:03.5"', None),
        ("TIME", '"24:00:00"', None),
        ("TIME", '"2024-02-29T01:02:03"', None),
        ("BINARY", '"AP8="', "AP8="),
        ("BINARY", '"AP8"', None),
        ("BINARY(1)", '"AP8="', None),
        ("BINARY", "1", None),
    ],
)
def test_a_column_that_exists_takes_what_fits_its_type(column: str, value: str, lands: Any) -> None:
    table = table_of(A=column)
    payload = b'{"a": %s}' % value.encode()
    land(b"{}", payload, payload, table=table, how=ColumnsSettings(schema_evolution=False))
    assert table.rows.pop(0) == {}
    if lands is None:
        assert [letter.column for letter in table.dead_letters.values()] == ["A", "A"]
        assert table.rows == {}
    else:
        assert table.rows == {1: {"A": lands}, 2: {"A": lands}}


@few
@given(st.integers(1, 37), st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 38))
def test_a_long_number_lands_if_its_column_has_room_for_the_digits_before_the_point(
    scale: int, number: int, digits: int
) -> None:
    number = number // 10 ** (38 - digits)
    table = table_of(A=f"NUMBER(38, {scale})")
    land(b'{"a": %d}' % number, table=table)
    if abs(number) < 10 ** (38 - scale):
        assert table.rows == {0: {"A": number}}
    else:
        assert "digits before the point" in table.dead_letters[0].reason


def test_not_a_number_lands_in_a_column_of_doubles() -> None:
    table = table_of(A="FLOAT")
    land(b'{"a": "NaN"}', b'{"a": 1}', table=table)
    assert isnan(table.rows[0]["A"])
    assert table.rows[1] == {"A": 1.0}


@pytest.mark.parametrize(
    ("column", "unit", "value", "lands"),
    [
        ("TIMESTAMP_LTZ", "s", "1709168523", "2024-02-29T01:02:03+00:00"),
        ("TIMESTAMP_LTZ", "ms", "1709168523004", "2024-02-29T01:02:03.004+00:00"),
        ("TIMESTAMP_TZ", "us", "1709168523000001", "2024-02-29T01:02:03.000001+00:00"),
        ("TIMESTAMP_TZ", "ns", "1709168523000000001", "2024-02-29T01:02:03.000000001+00:00"),
        ("TIMESTAMP_NTZ", "ms", "1709168523004", "2024-02-29T01:02:03.004"),
        ("TIMESTAMP_NTZ(3)", "us", "1709168523004000", "2024-02-29T01:02:03.004"),
        ("TIMESTAMP_NTZ(3)", "us", "1709168523004001", None),
        ("TIMESTAMP_LTZ", "s", "1709168523.123456789", "2024-02-29T01:02:03.123456789+00:00"),
        ("TIMESTAMP_LTZ", "s", "1.709168523e9", "2024-02-29T01:02:03+00:00"),
        ("TIMESTAMP_LTZ", "s", '"1709168523"', "2024-02-29T01:02:03+00:00"),
        ("TIMESTAMP_LTZ", "s", '"2024-02-29T01:02:03Z"', "2024-02-29T01:02:03+00:00"),
        ("TIMESTAMP_LTZ", "ms", "-1", "1969-12-31T23:59:59.999+00:00"),
        ("TIMESTAMP_LTZ", "s", "-62135596800", "0001-01-01T00:00:00+00:00"),
        ("TIMESTAMP_LTZ", "s", "-62135596801", None),
        ("TIMESTAMP_LTZ", "s", "253402300799", "9999-12-31T23:59:59+00:00"),
        ("TIMESTAMP_LTZ", "s", "1709168523004", None),
        ("TIMESTAMP_LTZ", "ns", "1" * 30, None),
        ("TIMESTAMP_LTZ", "s", "true", None),
        ("TIMESTAMP_LTZ", "s", '"soon"', None),
        ("DATE", "s", "1709164800", "2024-02-29"),
        ("DATE", "s", "1709164801", None),
        ("NUMBER(38, 0)", "s", "1709168523", 1709168523),
        ("VARCHAR", "s", "1709168523", "1709168523"),
    ],
)
def test_an_epoch_fills_a_column_of_times(column: str, unit: str, value: str, lands: Any) -> None:
    table = table_of(A=column)
    payloads = [b"{}", b'{"a": %s}' % value.encode(), b'{"a": null}']
    how = ColumnsSettings(epochs={"a": unit})
    land(*payloads, table=table, how=how)
    land(*payloads, b'{"a": "\xff"}', table=table, how=how, first=3)
    refused = set() if lands is not None else {1, 4}
    assert table.dead_letters.keys() == refused | {6}
    landed = {"A": lands}
    assert table.rows == {0: {}, 2: {}, 3: {}, 5: {}} | (dict.fromkeys((1, 4), landed) if lands else {})


@few
@given(
    st.lists(
        st.integers(min_value=-(10**24), max_value=10**24) | st.integers(min_value=-100, max_value=2**41)
    ),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_epochs_of_a_page_are_what_each_is_alone(epochs: list[int], unit: str) -> None:
    how, column = ColumnsSettings(epochs={"a": unit}), ColumnType.of(DataType.TIMESTAMP_LTZ)
    table = land(*({"a": epoch} for epoch in epochs), table=table_of(A="TIMESTAMP_LTZ"), how=how)
    for number, epoch in enumerate(epochs):
        try:
            alone = datetime.fromisoformat(str(fit(column, str(epoch), epoch=unit)))
        except TypeMismatch:
            assert number in table.dead_letters
        else:
            assert datetime.fromisoformat(table.rows[number]["A"]) == alone


def test_a_column_of_epochs_is_made_as_a_moment() -> None:
    how = ColumnsSettings(epochs={"ts": "ms", "local": "s"}, columns={"LOCAL": "DATETIME"})
    table = land({"ts": 1764000000123, "local": 1}, {"ts": 1764000000}, {"ts": "x"}, how=how)
    assert types(table) == {"TS": "TIMESTAMP_LTZ", "LOCAL": "TIMESTAMP_NTZ"}
    assert [row["TS"] for row in table.rows.values()] == [
        "2025-11-24T16:00:00.123+00:00",
        "1970-01-21T10:00:00.000+00:00",
    ]
    assert table.dead_letters.keys() == {2}


@pytest.mark.parametrize(
    ("text", "column"),
    {
        "INT": "NUMBER(38, 0)",
        "bigint": "NUMBER(38, 0)",
        "BYTEINT": "NUMBER(38, 0)",
        "DECIMAL(12,2)": "NUMBER(12, 2)",
        "numeric ( 5 )": "NUMBER(5, 0)",
        "DOUBLE": "FLOAT",
        "double  precision": "FLOAT",
        "FLOAT8": "FLOAT",
        "STRING": "VARCHAR",
        "Text": "VARCHAR",
        "NVARCHAR2(7)": "VARCHAR(7)",
        "CHAR": "VARCHAR(1)",
        "CHAR(3)": "VARCHAR(3)",
        "CHAR VARYING": "VARCHAR",
        "VARBINARY": "BINARY",
        "BINARY(16)": "BINARY(16)",
        "DATETIME": "TIMESTAMP_NTZ",
        "TIMESTAMP(3)": "TIMESTAMP_NTZ(3)",
        "TIMESTAMPTZ": "TIMESTAMP_TZ",
        "TIMESTAMP WITH LOCAL TIME ZONE": "TIMESTAMP_LTZ",
        "TIME(0)": "TIME(0)",
    }.items(),
)
def test_a_type_has_many_names(text: str, column: str) -> None:
    found = ColumnType.parse(text)
    assert found.sql == column
    assert ColumnType.parse(found.sql) == found


def test_a_type_that_can_not_be_says_of_which_column_and_what_could_be() -> None:
    with pytest.raises(InvalidSettingError, match=r"column PRICE: use NUMBER\(precision, scale\).*'MONEY'"):
        ColumnsSettings(columns={"ID": "INT", "PRICE": "MONEY"})


def test_a_name_that_is_there_in_two_cases_is_named() -> None:
    with pytest.raises(InvalidSettingError, match="leave one spelling of PRICE:"):
        ColumnsSettings(columns={"ID": "INT", "price": "INT", "PRICE": "INT"})


@few
@given(st.text("0123456789-:.,TtZz +", max_size=30) | st.datetimes().map(str))
def test_a_text_is_a_time_or_not_and_a_time_lands_as_itself(text: str) -> None:
    found = moment(text)
    if found is not None:
        assert moment(found.text) == found._replace(time=found.time or "00:00:00")
        datetime.fromisoformat(found.text.replace("+24:00", "+00:00"))


written = st.builds(
    "{}{}{}{}{}".format,
    st.dates().map(str)
    | st.sampled_from(["2024-02-30", "2023-02-29", "2024-13-01", "0000-01-01", "20240229"]),
    st.sampled_from(["T", " ", "t", "\n", ""]),
    st.times().map(lambda time: time.isoformat("seconds"))
    | st.sampled_from(["24:00:00", "23:59:60", "12:00", "", "12:60:00"]),
    st.sampled_from(["", ".5", ".50", ".000", ".123456789", ".1234567890", "."]),
    st.sampled_from(["", "Z", "z", "+05:30", "-23:59", "+24:00", "+0530", "-00:00", "+05:60"]),
)


@given(
    st.lists(written | st.none(), min_size=1, max_size=3),
    st.sampled_from(
        ["DATE", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ(3)", "TIMESTAMP_NTZ(0)"]
    ),
)
def test_times_of_a_page_are_what_each_is_alone(texts: list[str | None], sql_type: str) -> None:
    column = ColumnType.parse(sql_type)
    packed, _, bad = pack(Target("A", 0, column), list(texts))
    for number, text in enumerate(texts):
        try:
            alone = None if text is None else fit(column, json.dumps(text))
        except TypeMismatch:
            assert number in bad
            continue
        assert number not in bad
        assert (None if packed is None else packed[number].as_py()) == alone


def test_a_number_is_widened_but_its_scale_stays() -> None:
    table = table_of(A="NUMBER(3, 1)")
    land({"a": 12345.5}, {"a": 0.25}, {"a": 1}, table=table)
    assert types(table) == {"A": "NUMBER(38, 1)"}
    assert table.rows == {0: {"A": Decimal("12345.5")}, 2: {"A": 1}}
    assert "2 decimals" in table.dead_letters[1].reason


def test_a_pinned_column_is_not_widened() -> None:
    table = land({"a": 1}, {"a": 1000}, how=ColumnsSettings(columns={"a": "NUMBER(3,0)"}))
    assert types(table) == {"A": "NUMBER(3, 0)"}
    assert table.dead_letters.keys() == {1}


def test_not_null_is_dropped_when_a_value_is_missing_and_only_then() -> None:
    not_null = {name: Column(ColumnType.number(), nullable=False) for name in "ABC"}
    table = Table(not_null | {"D": Column(ColumnType.number(), nullable=False, default=True)})
    land({"a": 1, "b": 2}, {"a": 1, "b": None}, table=table)
    assert [change.column for change in table.changes] == ["B", "C"]


def test_what_was_learned_of_a_key_holds_until_the_column_is_made() -> None:
    table = Table()
    mapping = table.mapping()
    first = encode(mapping, [{"a": 1}])
    second = encode(mapping, [{"a": "x"}, {"a": [1]}], first=1)
    assert table.load(mapping, first, second)
    assert types(table) == {"A": "VARIANT"}
    assert table.rows == {0: {"A": 1}, 1: {"A": "x"}, 2: {"A": [1]}}


# --- drift -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "sent", "column", "refused"),
    [
        ("wide", ["10", "12.5"], "NUMBER(38, 18)", []),
        ("wide", ["21.5", "21.55"], "NUMBER(38, 18)", []),
        ("wide", ["1", "12345678901234567890.123456789012345678"], "NUMBER(38, 18)", []),
        ("wide", ["1", "1" * 21, "0.%s1" % ("0" * 18)], "NUMBER(38, 18)", [1, 2]),
        ("wide", ["1" * 21, "0.%s1" % ("0" * 16)], "NUMBER(38, 17)", []),
        ("wide", ["0.1234567890123", "1e-30"], "FLOAT", []),
        ("exact", ["10", "12.5"], "NUMBER(38, 0)", [1]),
        ("exact", ["21.5", "21.55", "1" * 37], "NUMBER(38, 1)", [1]),
        ("double", ["10", "12.5", "1e-30", "1" * 45], "FLOAT", []),
        ("double", ["1" * 45, "1"], "FLOAT", []),
    ],
)
def test_numbers_that_come_later_land_as_the_settings_made_room_for_them(
    numbers: str, sent: list[str], column: str, refused: list[int]
) -> None:
    table, how = Table(), ColumnsSettings(numbers=numbers)
    for number, text in enumerate(sent):
        land(b'{"a": %s}' % text.encode(), table=table, how=how, first=number)
    assert types(table) == {"A": column}
    assert sorted(table.dead_letters) == refused
    for number, row in table.rows.items():
        assert row == {"A": expected(table.columns["A"].type, sent[number])}


@pytest.mark.parametrize(
    ("numbers", "sent", "column"),
    [
        ("wide", ["0.30000000000000004", "0.10000000000000001"], "FLOAT"),
        ("wide", ["12345678901234567", "0.1234567890123"], "NUMBER(38, 18)"),
        ("wide", ["90071992547409931", "1e-12"], "NUMBER(38, 18)"),
        ("exact", ["51.123456789012345"], "NUMBER(38, 15)"),
        ("wide", ["12345678901234567", "1e-30"], "VARIANT"),
        ("double", ["12345678901234567", "0.1234567890123"], "FLOAT"),
    ],
)
def test_a_new_column_keeps_the_digits_that_were_sent_unless_doubles_are_asked_for(
    numbers: str, sent: list[str], column: str
) -> None:
    documents = [b'{"a": %s}' % text.encode() for text in sent]
    table = land(*documents, how=ColumnsSettings(numbers=numbers))
    assert types(table) == {"A": column}
    if numbers != "double":
        assert [Decimal(str(row["A"])) for row in table.rows.values()] == [
            Decimal(repr(float(text))) if column == "FLOAT" else Decimal(text) for text in sent
        ]


@pytest.mark.parametrize("numbers", ["wide", "exact", "double"])
@few
@given(pages)
def test_with_a_column_for_the_rest_all_objects_land_with_all_their_values(
    numbers: str, pages: list[list[bytes]]
) -> None:
    table = Table()
    sent: dict[int, bytes] = {}
    mapping = table.mapping(ColumnsSettings(on_type_conflict="rescue", numbers=numbers))
    for page in pages:
        first = len(sent)
        sent |= dict(enumerate(page, start=first))
        assert table.load(mapping, encode(mapping, page, first=first))
    assert table.rows.keys() | table.dead_letters.keys() == sent.keys()
    assert {letter.reason.partition(":")[0] for letter in table.dead_letters.values()} <= {
        "empty",
        "not JSON",
        "not UTF-8",
        "not a JSON object",
    }
    for number, row in table.rows.items():
        rescued = row.pop("_RESCUED", {})
        keys = {key: bytes(raw).decode() for key, raw in decode_raw(sent[number]).items()}
        given = {key: text for key, text in keys.items() if text != "null"}
        assert rescued == {key: parsed(given.pop(key)) for key in rescued}
        assert row == {
            key.upper(): expected(table.columns[key.upper()].type, text) for key, text in given.items()
        }


def test_what_fits_no_column_is_rescued_by_its_key() -> None:
    how = ColumnsSettings(on_type_conflict="rescue", columns={"ts": "TIMESTAMP_TZ", "n": "NUMBER(3, 0)"})
    documents = [
        {"ts": "soon", "n": 1},
        {"ts": "2024-02-29T01:02:03Z", "n": 1000, "b": True},
        {"N": 1, "n": 2, "": [1], "_rescued": "x", "kinesisMetadata": 5},
        {"n": 5},
    ]
    table = land(*documents, how=how)
    assert table.dead_letters == {}
    assert types(table) == {
        "TS": "TIMESTAMP_TZ",
        "N": "NUMBER(3, 0)",
        "B": "BOOLEAN",
        "_RESCUED": "VARIANT",
    }
    assert table.rows == {
        0: {"N": 1, "_RESCUED": {"ts": "soon"}},
        1: {"TS": "2024-02-29T01:02:03+00:00", "B": True, "_RESCUED": {"n": 1000}},
        2: {"N": 1, "_RESCUED": {"n": 2, "": [1], "_rescued": "x", "kinesisMetadata": 5}},
        3: {"N": 5},
    }


@pytest.mark.parametrize("evolution", [True, False])
def test_the_column_for_the_rest_is_matched_without_regard_to_case(evolution: bool) -> None:
    how = ColumnsSettings(on_type_conflict="rescue", rescue_column="rest", schema_evolution=evolution)
    table = land({"a": "x"}, table=table_of(A="NUMBER(3, 0)", REST="VARIANT"), how=how)
    assert table.rows == {0: {"REST": {"a": "x"}}}


def test_a_column_beside_is_matched_without_regard_to_case_and_never_a_computed_one() -> None:
    how = ColumnsSettings(on_type_conflict="column")
    table = table_of(a="DATE", B="DATE")
    table.columns["A__VARIANT"] = Column(ColumnType.parse("VARIANT"))
    table.columns["B__VARIANT"] = Column(ColumnType.parse("VARIANT"), computed=True)
    land({"a": "x"}, {"b": "x"}, table=table, how=how)
    assert table.rows == {0: {"A__VARIANT": "x"}}
    assert table.dead_letters[1].column == "B"


def test_a_table_that_is_made_has_the_column_for_the_rest() -> None:
    how = ColumnsSettings(on_type_conflict="rescue", rescue_column="REST", schema_evolution=False)
    mapping = Table().mapping(how)
    assert mapping.columns == mapping.required == ((METADATA, "OBJECT"), ("REST", "VARIANT"))


def test_without_evolution_unknown_keys_are_refused_all_the_same_where_the_settings_say_so() -> None:
    how = ColumnsSettings(on_type_conflict="rescue", schema_evolution=False, unknown_keys="dead_letter")
    table = table_of(A="NUMBER(38, 0)", _RESCUED="VARIANT")
    land({"a": 1}, {"a": "x"}, {"b": 1}, table=table, how=how)
    assert table.rows == {0: {"A": 1}, 1: {"_RESCUED": {"a": "x"}}}
    assert table.dead_letters[2].column == "B"


def test_what_does_not_fit_its_column_lands_in_the_one_beside_it() -> None:
    how = ColumnsSettings(on_type_conflict="column")
    table = table_of(A="NUMBER(3, 0)", b="DATE")
    documents = [
        {"a": 1},
        {"a": "x", "b": [1]},
        {"a": 5, "A": 6},
        b'{"a": 1e400}',
        {"a__variant": 1, "a": "y"},
        {"c": 1},
        {"C": {"d": 1}},
    ]
    land({"a": "w"}, table=table, how=how, first=7)
    land(*documents, table=table, how=how)
    assert table.rows == {
        0: {"A": 1},
        1: {"A__VARIANT": "x", "b__VARIANT": [1]},
        2: {"A": 5, "A__VARIANT": 6},
        5: {"C": 1},
        6: {"C": {"d": 1}},
        7: {"A__VARIANT": "w"},
    }
    assert {number: letter.column for number, letter in table.dead_letters.items()} == {3: "A", 4: "A"}
    assert types(table)["A__VARIANT"] == types(table)["b__VARIANT"] == "VARIANT"


def test_there_is_no_column_beside_another_that_nobody_may_add() -> None:
    how = ColumnsSettings(on_type_conflict="column", schema_evolution=False)
    table = table_of(A="DATE", A__VARIANT="VARIANT", B="DATE")
    land({"a": 1}, {"b": 1}, table=table, how=how)
    assert table.rows == {0: {"A__VARIANT": 1}}
    assert table.dead_letters[1].column == "B"


def test_facts_about_a_record_have_columns_of_their_own_that_no_key_fills() -> None:
    how = ColumnsSettings(metadata_columns=("arrival_time", "shard_id"), iceberg=True)
    table = Table()
    mapping = table.mapping(how)
    page = encode(mapping, [{"a": 1}, {"kinesis_shard_id": 1}, {"kinesis_stream": "x"}])
    assert [letter.column for letter in page.dead_letters] == ["KINESIS_SHARD_ID"]
    assert (
        mapping.columns
        == mapping.required
        == (
            (METADATA, "OBJECT"),
            ("KINESIS_ARRIVAL_TIME", "TIMESTAMP_LTZ(6)"),
            ("KINESIS_SHARD_ID", "VARCHAR"),
        )
    )
    table.columns |= {name: Column(ColumnType.parse(text)) for name, text in mapping.columns[1:]}
    assert table.load(mapping, page)
    assert [change.column for change in table.changes] == ["A", "KINESIS_STREAM"]
    copy = mapping.copy(page.fields, page.missing)
    assert copy is not None
    selects = dict(zip([name for name, _ in copy.columns], copy.copy_select, strict=True))
    assert selects["KINESIS_SHARD_ID"] == "$1:shardId::VARCHAR"


# --- the documentation -------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[3] / "docs" / "what-lands.md"


def rows_of(heading: str) -> list[list[str]]:
    """Cells of the table of the documentation that has these columns."""
    _, found, below = PAGE.read_text().partition(f"\n| {heading} |\n")
    assert found
    lines = below.splitlines()[1:]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip().strip("`") for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.mark.parametrize(
    ("numbers", "first", "column", "later", "result"),
    rows_of("`numbers` | First | Column | Later | Result"),
)
def test_later_numbers_land_as_the_documentation_says(
    numbers: str, first: str, column: str, later: str, result: str
) -> None:
    table, how = Table(), ColumnsSettings(numbers=numbers)
    for number, text in enumerate((first, later)):
        land(b'{"a": %s}' % text.encode(), table=table, how=how, first=number)
    assert types(table) == {"A": column}
    assert table.rows.keys() == ({0, 1} if result == "lands" else {0})


def test_facts_have_the_columns_that_the_documentation_says() -> None:
    shown = dict(rows_of("Fact | Column"))
    assert shown.keys() == METADATA_COLUMNS.keys()
    for fact, (name, sql_type, _) in METADATA_COLUMNS.items():
        assert shown[fact].startswith(f"{name}` {sql_type}")


@pytest.mark.parametrize(("setting", "result"), rows_of("`on_type_conflict` | Result"))
def test_a_conflict_ends_as_the_documentation_says(setting: str, result: str) -> None:
    how = ColumnsSettings(on_type_conflict=setting.split("`", maxsplit=1)[0])
    table = land({"id": 1, "temp": "hot"}, table=table_of(ID="INT", TEMP="NUMBER(38, 18)"), how=how)
    if "dead letter" in result:
        assert table.rows == {}
        assert f"`{table.dead_letters[0].column}" in result
    else:
        shown = (
            f"`{name}` {value if name == 'ID' else f'`{json.dumps(value)}'}"
            for name, value in table.rows[0].items()
        )
        assert ", ".join(shown) == f"`{result}"


@pytest.mark.parametrize(
    ("column", "unit", "sent", "lands"),
    [[column, "", sent, lands] for column, sent, lands in rows_of("Column | Sent | Lands as")]
    + rows_of("Column | Unit | Sent | Lands as"),
)
def test_a_time_lands_as_the_documentation_says(column: str, unit: str, sent: str, lands: str) -> None:
    how = ColumnsSettings(columns={"A": column}, epochs={"A": unit} if unit else {})
    table = land(b'{"a": %s}' % sent.encode(), how=how)
    assert table.dead_letters.keys() == ({0} if lands == "dead letter" else set())
    assert table.rows == ({} if lands == "dead letter" else {0: {"A": lands}})


# --- names -------------------------------------------------------------------------------------------------


def test_keys_match_columns_whatever_the_case_of_either() -> None:
    table = table_of(lower="NUMBER(38, 0)", UPPER="NUMBER(38, 0)")
    land({"LOWER": 1, "upper": 2}, {"Lower": 3}, table=table)
    assert table.rows == {0: {"lower": 1, "UPPER": 2}, 1: {"lower": 3}}


def test_of_columns_that_differ_in_case_the_one_that_is_written_alike_is_filled() -> None:
    table = table_of(a="NUMBER(38, 0)", A="NUMBER(38, 0)")
    land({"a": 1, "A": 2}, table=table)
    assert table.rows == {0: {"a": 1, "A": 2}}


def test_keys_are_renamed_included_and_excluded() -> None:
    how = ColumnsSettings(rename={"B": "beta"}, include=("a", "b", "C"), exclude=("c",))
    assert land({"A": 1, "b": 2, "c": 3, "d": 4}, how=how).rows == {0: {"A": 1, "BETA": 2}}


@pytest.mark.parametrize(
    ("rule", "key", "column"),
    [[rule, key, column] for rule, key, column in rows_of("`names` | Key | Column")],
)
def test_a_column_is_named_as_the_documentation_says(rule: str, key: str, column: str) -> None:
    assert column_name(key, rule) == column
    how = ColumnsSettings(names=rule)
    table = land({key: 1}, how=how)
    assert types(table) == {column: "NUMBER(38, 18)"}
    assert land({key: 2}, table=table, how=how, first=1).rows == {0: {column: 1}, 1: {column: 2}}


@few
@given(st.text(max_size=20))
@example("0a")
def test_a_name_in_snake_case_stays_so(key: str) -> None:
    name = column_name(key, "snake")
    assert column_name(name, "snake") == name
    if key.isascii():
        assert re.fullmatch(r"[A-Z_][A-Z0-9_]*|", name)


def test_times_that_an_iceberg_table_cannot_keep_are_text() -> None:
    how = ColumnsSettings(iceberg=True, infer_timestamps=True)
    documents = [{"a": "2026-01-02T03:04:05.1234567Z", "b": "2026-01-02T03:04:05.123456Z"}]
    table = land(*documents, how=how)
    assert types(table) == {"A": "VARCHAR", "B": "TIMESTAMP_LTZ(6)"}
    assert table.rows[0]["A"] == documents[0]["a"]


def test_text_that_no_column_takes_is_a_dead_letter_whatever_stands_beside_it() -> None:
    text = "x" * (2**24 + 1)
    for others in ({}, {"b": 1}):
        table = land({"a": text, **others}, {"a": "y"}, table=table_of(A="VARCHAR"))
        assert table.rows == {1: {"A": "y"}}


def test_a_long_key_gets_no_column_and_the_reason_says_so() -> None:
    how = ColumnsSettings(names="snake")
    table = land(b'{"a%sb": 1}' % (b"-" * 2**20), {"c": 1}, how=how)
    assert table.rows == {1: {"C": 1}}
    assert table.dead_letters[0].reason == "rename or exclude the key: it has more than 1,020 characters"


def test_keys_that_come_to_one_name_fill_one_column_and_never_in_one_record() -> None:
    documents = [{"userId": 1}, {"user-id": 2}, {"USER_ID": 3}, {"userId": 1, "user_id": None}]
    clash = {"userId": 4, "user_id": 5}
    table = land(*documents, clash, how=ColumnsSettings(names="snake"))
    assert [row["USER_ID"] for row in table.rows.values()] == [1, 2, 3, 1]
    assert table.dead_letters[4].column == "USER_ID"
    rescuing = ColumnsSettings(names="snake", on_type_conflict="rescue")
    assert land(clash, how=rescuing).rows == {0: {"USER_ID": 4, "_RESCUED": {"user_id": 5}}}


def test_as_they_are_names_that_differ_in_case_differ() -> None:
    how = ColumnsSettings(
        names="as_is", columns={"id": "INT", "ID": "DATE"}, rename={"Old": "new"}, epochs={"at": "s"}
    )
    table = table_of(LOWER="VARCHAR")
    land({"id": 1, "ID": "2024-02-29", "lower": "x", "OLD": 5, "at": 0, "AT": 0}, table=table, how=how)
    assert table.rows == {
        0: {
            "id": 1,
            "ID": "2024-02-29",
            "lower": "x",
            "new": 5,
            "at": "1970-01-01T00:00:00+00:00",
            "AT": 0,
        }
    }
    assert types(table)["at"] == "TIMESTAMP_LTZ"


def test_a_computed_column_is_left_alone() -> None:
    computed = Column(ColumnType.number(), nullable=False, default=True, computed=True)
    table = Table({"A": Column(ColumnType.number()), "TWICE": computed})
    mapping = table.mapping()
    first = encode(mapping, [{"a": 1}, {"a": 2, "twice": 4}])
    assert [item.column for item in first.fields] == ["A"]
    assert table.load(mapping, first)
    assert table.changes == []
    assert first.dead_letters[0].column == "TWICE"


def test_an_iceberg_table_gets_the_types_that_it_can_have() -> None:
    how = ColumnsSettings(
        iceberg=True, infer_timestamps=True, columns={"pinned": "DATETIME", "t": "TIME"}, epochs={"e": "ms"}
    )
    moment, local = "2024-02-29T01:02:03.123456Z", "2024-02-29T01:02:03"
    table = land(
        {"m": moment, "l": local, "s": "x", "n": 1.5, "o": {}, "pinned": local, "t": "01:02", "e": 1}, how=how
    )
    assert table.dead_letters == {}
    assert types(table) == {
        "M": "TIMESTAMP_LTZ(6)",
        "L": "TIMESTAMP_NTZ(6)",
        "S": "VARCHAR",
        "N": "NUMBER(38, 18)",
        "O": "VARIANT",
        "PINNED": "TIMESTAMP_NTZ(6)",
        "T": "TIME(6)",
        "E": "TIMESTAMP_LTZ(6)",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        *({"iceberg": True, "columns": {"A": text}} for text in ("TIMESTAMP_TZ", "CHAR", "OBJECT", "ARRAY")),
        {"names": "camel"},
        {"columns": {"A": "MONEY"}},
        {"columns": {"A": "NUMBER(39, 0)"}},
        {"columns": {"A": "NUMBER(3, 4)"}},
        {"columns": {"A": "VARCHAR; DROP TABLE T"}},
        {"columns": {"A": "INT(5)"}},
        {"columns": {"A": "VARCHAR(0)"}},
        {"columns": {"A": "BINARY(8388609)"}},
        {"columns": {"A": "TIME(10)"}},
        {"epochs": {"A": "minutes"}},
        {"epochs": {"A": "s"}, "columns": {"a": "NUMBER"}},
        {"epochs": {"A": "s"}, "columns": {"a": "TIME"}},
        {"epochs": {"A": "s", "a": "s"}},
        {"epochs": {"kinesismetadata": "s"}},
        {"numbers": "float"},
        {"on_type_conflict": "ignore"},
        {"rescue_column": ""},
        {"on_type_conflict": "rescue", "rename": {"a": "_rescued"}},
        {"columns": {"": "NUMBER"}},
        {"columns": {"a": "NUMBER", "A": "FLOAT"}},
        {"rename": {"a": "KinesisMetadata"}},
        {"unknown_keys": "drop"},
    ],
)
def test_settings_that_can_not_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError):
        ColumnsSettings(**wrong)
