"""Every key fills its column, or the record becomes a dead letter that says which column refused it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_kinesis_snowflake.landing.column_types import Column, ColumnType, Kind
from airflow_kinesis_snowflake.landing.columns import ColumnsMapping
from airflow_kinesis_snowflake.landing.fields import Field, Form
from airflow_kinesis_snowflake.landing.schema import AddColumn, ColumnsSettings, DropNotNull, WidenColumn
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.landing.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.landing.envelope import Encoded

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

    def load(self, mapping: ColumnsMapping, *pages: Encoded) -> bool:
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

    def take(self, page: Encoded, filled: set[str]) -> None:
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


def stored(item: Field, column: ColumnType, value: Any) -> Any:
    """What Snowflake stores for a value of a field."""
    if column.kind in {Kind.VARIANT, Kind.OBJECT, Kind.ARRAY}:
        return parsed(value) if item.form is Form.JSON else value
    if column.kind is Kind.NUMBER:
        number = Decimal(value)
        assert number == number.quantize(Decimal(1).scaleb(-column.scale), context=Context(prec=60))
        assert abs(number) < Decimal(10) ** (column.precision - column.scale)
        return number
    if column.kind is Kind.FLOAT:
        assert item.form is Form.DOUBLE
    return value


def parsed(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def expected(column: ColumnType, text: str) -> Any:
    """What a sent value is in a column."""
    value = parsed(text)
    if column.kind is Kind.FLOAT:
        return float(value)
    if column.kind is Kind.NUMBER:
        return Decimal(value)
    if column.kind is Kind.VARCHAR and not isinstance(value, str):
        return text
    return value


def record(number: int, data: bytes) -> Record:
    return Record(sequence_number=str(number), approximate_arrival=1.0, partition_key="key", data=data)


def encode(mapping: ColumnsMapping, payloads: Sequence[Any], *, first: int = 0) -> Encoded:
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
few = settings(max_examples=60, deadline=None)
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

    def encoded(mapping: ColumnsMapping) -> list[Encoded]:
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
