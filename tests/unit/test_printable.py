"""What comes from outside breaks no line of a log, an error or a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.engine.assignment import describe_holders
from airflow_kinesis_snowflake.exceptions import InvalidSettingError, ValueRefusedError
from airflow_kinesis_snowflake.formats.column_types import ColumnType
from airflow_kinesis_snowflake.formats.schema import AddColumn, DropNotNull, WidenColumn
from airflow_kinesis_snowflake.maintenance.rendering import Table
from airflow_kinesis_snowflake.printable import printable
from airflow_kinesis_snowflake.state.shards import ShardState

FORGED = "key\n2026-11-26 ERROR everything is lost\x1b[2J"
SHOWN = "key\\n2026-11-26 ERROR everything is lost\\x1b[2J"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bestellung Nr. 7 ¼ größer", "Bestellung Nr. 7 ¼ größer"),
        (FORGED, SHOWN),
        ("a\rb\u2028c\u202ed\x00", "a\\rb\\u2028c\\u202ed\\x00"),
        ("\ud800", "\\ud800"),
    ],
)
def test_only_what_cannot_be_seen_is_written_otherwise(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_any_log_takes(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()


def test_keys_of_records_break_no_line_of_the_log() -> None:
    number = ColumnType.number()
    for change in (AddColumn(FORGED, number), WidenColumn(FORGED, number), DropNotNull(FORGED)):
        assert SHOWN in str(change)


def test_owners_of_leases_break_no_line_of_the_log() -> None:
    assert SHOWN in describe_holders([ShardState("shard", lease_owner=FORGED)], now=0)


def test_errors_are_one_line() -> None:
    assert str(InvalidSettingError(FORGED)) == SHOWN
    refused = ValueRefusedError(FORGED, number=7)
    assert (str(refused), refused.number) == (SHOWN, 7)


def test_cells_break_no_table() -> None:
    lines = Table.of(("head", "other"), [(FORGED, "a|b")]).markdown().splitlines()
    assert len(lines) == 3
    assert SHOWN in lines[2]
    assert "a\\|b" in lines[2]
