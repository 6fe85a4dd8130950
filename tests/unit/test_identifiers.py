"""Names are read as Snowflake reads them and written so that nothing in them is SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.identifiers import TableName, quote
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=255)


@given(names, names, names)
def test_any_quoted_name_is_read_back_as_it_was_written(database: str, schema: str, name: str) -> None:
    table = TableName(database, schema, name)
    assert TableName.parse(table.sql) == table
    assert TableName.parse(str(table)) == table


@given(names)
def test_a_quoted_name_has_no_quote_that_could_end_it(name: str) -> None:
    inside = quote(name)[1:-1]
    assert '"' not in inside.replace('""', "")


def test_unquoted_parts_fold_to_upper_case_and_quoted_parts_keep_theirs() -> None:
    assert TableName.parse('raw.Public."Click ""s"".x"') == TableName("RAW", "PUBLIC", 'Click "s".x')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t",
        "s.t",
        "a.b.c.d",
        "a.b.c.",
        ".b.c",
        "a..c",
        "a.b.c d",
        "a.b.1c",
        'a.b."c',
        'a.b.c"',
        'a.b.""',
        "a.b.c;",
        "a.b.c\n",
        'a.b."c"d',
        "a.b.ç",
    ],
)
def test_what_is_not_a_full_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettingError, match="full name"):
        TableName.parse(text)


@pytest.mark.parametrize("name", ["", "a" * 256, "a\0b"])
def test_names_that_snowflake_has_no_place_for_are_refused(name: str) -> None:
    with pytest.raises(InvalidSettingError, match="1 to 255"):
        TableName("A", "B", name)


def test_the_default_objects_lie_beside_the_landing_table() -> None:
    target = LandingTarget.beside(TableName("A", "b", "C"))
    assert [target.offsets, target.dead_letters, target.stage] == [
        TableName("A", "b", "KINESIS_OFFSETS"),
        TableName("A", "b", "KINESIS_DEAD_LETTERS"),
        TableName("A", "b", "KINESIS_STAGE"),
    ]
