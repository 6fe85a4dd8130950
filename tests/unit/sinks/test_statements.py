"""Statements are Snowflake's SQL, bind every value, and can't be broken by a name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake import audit_statements, statements
from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement, stage_folder
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

PLAIN = TableName("DB", "S", "T")
ICEBERG = TableOptions(iceberg=True)
HOSTILE = TableName("D %s B", "S'\\", 'T";--%d')
MAPPING = EnvelopeMapping()
HOSTILE_VALUE = "x'; DROP TABLE t; -- %s"


def every_statement(table: TableName, value: str = "a") -> dict[str, Statement]:
    keys = [(value, "i"), ("shardId-1", "i")]
    moves = [(value, "i", "000", "0015~", 3), ("shardId-1", "i", "0015~", "0016~", 4)]
    folder = stage_folder(value, "1")
    return {
        "columns": statements.list_columns(table),
        "landing": statements.create_landing_table(table, MAPPING.columns),
        "offsets": statements.create_offsets_table(table),
        "dead letters": statements.create_dead_letter_table(table),
        "stages": statements.list_stages(table),
        "stage": statements.create_stage(table),
        "new column": statements.add_column(table, 'say "hi"', "NUMBER(38, 2)"),
        "wider column": statements.widen_column(table, 'say "hi"', "NUMBER(38, 2)"),
        "nullable column": statements.drop_not_null(table, 'say "hi"'),
        "new column of an Iceberg table": statements.add_column(table, "A", "DATE", options=ICEBERG),
        "wider column of an Iceberg table": statements.widen_column(
            table, "A", "NUMBER(38, 2)", options=ICEBERG
        ),
        "nullable column of an Iceberg table": statements.drop_not_null(table, "A", options=ICEBERG),
        "dead letter column": statements.add_dead_letter_column(table, "KIND"),
        "name dead letters": statements.name_dead_letters(table),
        "read dead letters": statements.read_dead_letters(
            table,
            LetterFilter(
                application=value,
                stream=value,
                reason=value,
                column=value,
                since=datetime(2026, 1, 1, tzinfo=UTC),
                until=datetime(2026, 1, 2, tzinfo=UTC),
            ),
            most=5,
        ),
        "delete dead letters": statements.delete_dead_letters(
            table, application=value, stream=value, transaction="7", ids=[value, "a"]
        ),
        "unnamed dead letters": statements.unnamed_dead_letters(table),
        "list dead letters": statements.list_dead_letters(
            table, application=value, stream=value, ids=[value, "a"]
        ),
        "put": statements.put(Path("/tmp/it's \\ here/landing.parquet"), stage=table, folder=folder),
        "copy": statements.copy_landing(table, mapping=MAPPING, stage=table, folder=folder),
        "copy dead letters": statements.copy_dead_letters(table, stage=table, folder=folder),
        "merge": statements.ensure_offsets(table, application=value, stream=value, keys=keys),
        "read": statements.read_offsets(table, application=value, stream=value, keys=keys),
        "lock": statements.lock_offsets(table, application=value, stream=value),
        "applications": audit_statements.list_applications(table, stream=value),
        "count records": audit_statements.count_records(
            audited(table), stream=value, applications=[value, "b"], several_documents=True
        ),
        "coordinates": audit_statements.list_coordinates(
            audited(table), stream=value, applications=[value, "b"], since=5
        ),
        "move": statements.move_offsets(
            table, application=value, stream=value, batch_id=value, transaction="7", moves=moves
        ),
    }


def audited(table: TableName) -> LandingTarget:
    return LandingTarget(table, offsets=table.beside("O"), dead_letters=table.beside("L"), stage=table)


NAMES = list(every_statement(PLAIN))


def test_columns_of_an_iceberg_table_are_altered_by_its_own_statement() -> None:
    altering = [sql.sql for name, sql in every_statement(PLAIN).items() if "of an Iceberg table" in name]
    assert len(altering) == 3
    assert all(sql.startswith('ALTER ICEBERG TABLE "DB"."S"."T" ') for sql in altering)


def literal(value: str | int) -> str:
    """As the connector writes a bound value."""
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def as_sent(statement: Statement) -> str:
    return statement.sql % tuple(map(literal, statement.params)) if statement.params else statement.sql


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("table", [PLAIN, HOSTILE], ids=["plain", "hostile"])
def test_every_statement_is_one_statement_of_snowflake(name: str, table: TableName) -> None:
    sqlglot = pytest.importorskip("sqlglot")
    statement = every_statement(table, HOSTILE_VALUE)[name]
    (parsed,) = sqlglot.parse(as_sent(statement), read="snowflake")
    assert type(parsed).__name__ != "Command"


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_part_of_the_text(name: str) -> None:
    assert "DROP TABLE" not in every_statement(PLAIN, HOSTILE_VALUE)[name].sql


@pytest.mark.parametrize("name", NAMES)
def test_each_placeholder_has_its_value_whatever_the_names_are(name: str) -> None:
    plain, hostile = every_statement(PLAIN)[name], every_statement(HOSTILE)[name]
    assert plain.sql.count("%s") == len(plain.params)
    assert PLAIN.schema_sql in as_sent(plain) or name == "put"
    assert "D %s B" in as_sent(hostile)


@given(st.lists(st.text(min_size=1), min_size=1), st.lists(st.text(min_size=1), min_size=1))
def test_different_names_give_different_folders(one: list[str], other: list[str]) -> None:
    assert (stage_folder(*one) == stage_folder(*other)) == (one == other)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_folder_can_be_used(parts: list[str]) -> None:
    folder = stage_folder(*parts)
    assert all(part not in {"", ".", ".."} for part in folder.split("/"))
    assert (
        f"/{folder}/landing"
        in statements.copy_landing(PLAIN, mapping=MAPPING, stage=PLAIN, folder=folder).sql
    )


@pytest.mark.parametrize("folder", ["", "a//b", "/a", "a/", "a b", "a'b", "a\n", "a--b", "é"])
def test_a_folder_that_was_not_made_by_stage_folder_is_refused(folder: str) -> None:
    with pytest.raises(InvalidSettingError, match="stage_folder"):
        statements.put(Path("/f"), stage=PLAIN, folder=folder)


def test_a_folder_needs_names() -> None:
    with pytest.raises(InvalidSettingError, match="needs a name"):
        stage_folder("a", "")


@pytest.mark.parametrize("path", ["relative/f", "/a\nb", "/a*", "/a?", "/[a]"])
def test_a_path_that_the_connector_would_read_differently_is_refused(path: str) -> None:
    with pytest.raises(InvalidSettingError, match="absolute path"):
        statements.put(Path(path), stage=PLAIN, folder="a")


def test_a_location_is_in_single_quotes() -> None:
    assert ' \'@"DB"."S"."T"/a/\'' in statements.put(Path("/f"), stage=PLAIN, folder="a").sql


@pytest.mark.parametrize("name", ["move", "delete dead letters"])
def test_what_decides_does_nothing_outside_its_transaction(name: str) -> None:
    statement = every_statement(PLAIN)[name]
    assert statement.sql.endswith(" AND CURRENT_TRANSACTION() = %s")
    assert statement.params[-1] == "7"


def test_positions_are_compared_without_a_collation() -> None:
    sql = every_statement(PLAIN)["move"].sql
    assert """TO_BINARY("POSITION", 'UTF-8') = TO_BINARY(n."EXPECTED", 'UTF-8')""" in sql


def test_a_column_that_may_be_there_is_added_without_a_default() -> None:
    assert "DEFAULT" not in statements.add_dead_letter_column(PLAIN, "KIND").sql


@pytest.mark.parametrize("name", ["copy", "copy dead letters"])
def test_a_file_is_loaded_by_the_vectorized_scanner_as_a_whole_or_not_at_all(name: str) -> None:
    sql = every_statement(PLAIN)[name].sql
    assert "USE_VECTORIZED_SCANNER = TRUE" in sql
    assert "ON_ERROR = ABORT_STATEMENT" in sql


@pytest.mark.parametrize("name", ["copy", "copy dead letters"])
def test_a_file_is_never_loaded_by_force(name: str) -> None:
    assert "FORCE" not in every_statement(PLAIN)[name].sql


def test_landing_and_dead_letters_of_one_folder_are_loaded_apart() -> None:
    landing = statements.copy_landing(PLAIN, mapping=MAPPING, stage=PLAIN, folder="a").sql
    dead_letters = statements.copy_dead_letters(PLAIN, stage=PLAIN, folder="a").sql
    assert "/a/landing')" in landing
    assert "/a/dead_letters')" in dead_letters
