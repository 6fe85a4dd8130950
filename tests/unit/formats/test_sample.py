"""A sample says which columns its documents need, and nothing of their values."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.column_types import ColumnType
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.sample import MAX_KEYS, MAX_REASONS, Sample
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.stream.records import Record


def sample_of(*documents: Any, payload_format: Any = "json", **settings: Any) -> Sample:
    sample = Sample()
    decode = payload_decoder(payload_format, **settings)
    for document in documents:
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        sample.add(payload, "key", decode)
    return sample


def test_types_and_counts_are_told() -> None:
    sample = sample_of(
        {
            "id": 1,
            "temp": 21.5,
            "at": "2026-11-25T10:00:00Z",
            "ts": 1764000000123,
            "name": "secret",
            "n": None,
        },
        {"id": 2, "temp": 3, "at": "2026-11-25T10:00:01Z", "ts": 1764000000124, "deep": {"a": 1}},
        [1],
        b"secret",
    )
    assert sample.columns == {
        "ID": "NUMBER(38, 18)",
        "TEMP": "NUMBER(38, 18)",
        "AT": "TIMESTAMP_TZ",
        "NAME": "VARCHAR",
        "DEEP": "VARIANT",
    }
    assert (sample.epochs, sample.no_epochs) == ({"TS": "ms"}, {"TS": "NUMBER(38, 18)"})
    ColumnsSettings(columns=sample.columns, epochs=sample.epochs)
    assert (sample.records, sample.documents, sample.others) == (4, 3, 1)
    assert sample.keys["ts"].kinds == {"number": 2}
    assert [reason[:8] for reason in sample.dead_letters] == ["not JSON"]
    assert "secret" not in json.dumps(sample.as_dict())
    assert "1764" not in json.dumps(sample.as_dict())


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([1764000000], "s"),
        ([1764000000123], "ms"),
        ([1764000000123456], "us"),
        ([1764000000123456789], "ns"),
        ([1764000000, 7], None),
        ([1764000000.5], None),
        ([-1764000000], None),
        (["1764000000"], None),
        ([1764000000, "x"], None),
        ([None], None),
        ([10**30], None),
    ],
)
def test_numbers_that_may_be_moments_are_named_with_their_unit(values: list[Any], unit: str | None) -> None:
    sample = sample_of(*({"ts": value} for value in values))
    assert sample.epochs == ({"TS": unit} if unit else {})


def test_what_is_compressed_or_dropped_is_counted_as_a_drain_would() -> None:
    sample = sample_of(zlib.compress(b'{"a":1}\n{"b":2}'), compression="auto", json_documents="sequence")
    assert (sample.records, sample.documents, [*sample.keys]) == (1, 2, ["a", "b"])
    assert sample_of(b"", payload_format="debezium").dropped == {"tombstone of Debezium": 1}


def test_keys_that_differ_in_case_alone_and_odd_ones_are_told() -> None:
    sample = sample_of({"a": 1, "A": "x", "b\nc": 1, "": 1, "k" * 256: 1, "ß" * 200: 1}, {"d": 1e300})
    assert sample.columns == {"A": "VARIANT", "B\nC": "NUMBER(38, 18)", "D": "FLOAT"}
    assert sample.conflicts == {
        "a key can't name a column: rename or exclude it": 1,
        "several keys of a document fill one column: rename or exclude one": 1,
    }


@pytest.mark.parametrize("key", ["kinesisMetadata", "a\0b"])
def test_a_key_that_cannot_name_a_column_is_not_suggested(key: str) -> None:
    sample = sample_of({key: 1, "b": 1}, {key: None})
    assert (list(sample.columns), sample.conflicts.total()) == (["B"], 1)


def test_a_column_is_judged_by_all_keys_that_fill_it() -> None:
    sample = sample_of({"ts": 1764000000123, "n": 1}, {"TS": 5, "N": 2.5})
    assert (sample.epochs, sample.columns) == ({}, {"TS": "NUMBER(38, 18)", "N": "NUMBER(38, 18)"})


def test_columns_are_named_by_the_rule_that_was_chosen() -> None:
    documents = {"userId": 1, "@timestamp": "2026-01-02T00:00:00Z", "USERID": 2}
    expected = {
        "as_is": ["userId", "@timestamp", "USERID"],
        "snake": ["USER_ID", "TIMESTAMP", "USERID"],
        "upper": ["USERID", "@TIMESTAMP"],
    }
    for names, columns in expected.items():
        sample = Sample(names=names)
        sample.add(json.dumps(documents).encode(), "key", None)
        assert list(sample.columns) == columns


def test_what_a_sample_keeps_is_bounded() -> None:
    sample = sample_of({f"k{number}": 1 for number in range(2 * MAX_KEYS)})
    assert (len(sample.keys), sample.further_keys) == (MAX_KEYS, MAX_KEYS)
    letters = sample_of(*(b" " * number + b"x" for number in range(2 * MAX_REASONS)))
    assert len(letters.dead_letters) == MAX_REASONS + 1
    assert letters.dead_letters["other reasons"] == MAX_REASONS


def test_a_number_that_no_column_holds_goes_to_a_variant() -> None:
    sample = sample_of(b'{"a": 1234567890123456789012345678901234567890}', b'{"a": 1e400}')
    assert (sample.columns, sample.conflicts.total()) == ({"A": "VARIANT"}, 1)


scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from([0.5, 1e-9, 1e300])
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "A", ""]), scalars, max_size=3), max_size=5))
def test_records_of_the_sample_land_in_a_table_that_is_made_as_it_says(documents: list[Any]) -> None:
    sample = sample_of(*documents)
    for name, column in sample.columns.items():
        assert ColumnType.parse(column).sql == column, name
    mapping = ColumnsMapping(ColumnsSettings(columns=sample.columns), read_columns=dict)
    records = [
        Record(sequence_number=str(number), approximate_arrival=0, data=json.dumps(document).encode())
        for number, document in enumerate(documents)
    ]
    encoded = mapping.encode(records, stream_name="s", shard_id="0")
    most = max(sample.conflicts.values(), default=0)
    assert most <= len(encoded.dead_letters) <= sample.conflicts.total()
