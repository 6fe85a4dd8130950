"""What the page says about dead letters."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import sqlglot
from airflow.serialization.helpers import serialize_template_field

from airflow_kinesis_snowflake.dag_factories.drain import COLUMNS
from airflow_kinesis_snowflake.monitoring.drains import Application, Run, Settings
from airflow_kinesis_snowflake.monitoring.letters import DeadLetters, dead_letters_of
from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator
from airflow_kinesis_snowflake.operators.mappings import ChosenMapping

APPLICATION = Application("clicks-to-snowflake", "clicks")
TABLE = "ANALYTICS.RAW.CLICKS"


def run(**reasons: int) -> Run:
    return Run(dag_id="d", run_id="r", state="success", dead_letters=sum(reasons.values()), reasons=reasons)


def letters(
    *runs: Run, table: str = TABLE, application: Application = APPLICATION, **said: Any
) -> DeadLetters:
    found = dead_letters_of(application, runs, Settings("a", "s", table, **said), table)
    assert found is not None
    return found


def test_reasons_add_up_the_most_frequent_first() -> None:
    found = letters(run(rare=1, often=5), run(often=2))
    assert (found.count, found.reasons) == (8, (("often", 7), ("rare", 1)))


def test_the_sql_asks_the_table_beside_the_landing_table() -> None:
    found = letters(table='ana."R w".clicks')
    for text in (found.reasons_sql, found.records_sql):
        statement = sqlglot.parse_one(text, dialect="snowflake")
        [table] = statement.find_all(sqlglot.exp.Table)
        assert (table.catalog, table.db, table.name) == ("ANA", "R w", "KINESIS_DEAD_LETTERS")


@pytest.mark.parametrize("name", ["it's", "back\\slash", "\\'; DROP TABLE X; --"])
def test_names_stay_values_in_the_sql(name: str) -> None:
    found = letters(application=Application(name, name))
    statement = sqlglot.parse_one(found.records_sql, dialect="snowflake")
    values = [literal.this for literal in statement.find_all(sqlglot.exp.Literal) if literal.is_string]
    assert values == [name, name]


def test_without_a_table_that_can_be_one_nothing_is_said() -> None:
    assert dead_letters_of(APPLICATION, [run()], None, "") is None
    assert dead_letters_of(APPLICATION, [run()], None, "no table") is None


def test_the_replay_has_the_settings_of_the_drain_that_arent_the_operators_own() -> None:
    found = letters(
        mapping="columns", schema_evolution="true", json_documents="sequence", compression="", exclude=[]
    )
    chosen = {
        "application_name": APPLICATION.name, "stream_name": APPLICATION.stream, "table": TABLE,
        "mapping": "columns", "json_documents": "sequence",
    }  # fmt: skip
    assert found.form == chosen
    [_, call] = ast.parse(found.operator).body
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    given = {str(each.arg): ast.literal_eval(each.value) for each in call.value.keywords}
    assert given == {"task_id": "replay", **chosen}
    assert ReplayDeadLettersOperator(**given).mapping == "columns"


def test_the_mapping_of_the_shipped_dag_is_known_with_its_settings() -> None:
    plain = serialize_template_field(ChosenMapping(**COLUMNS), "mapping")
    found = letters(mapping=plain)
    assert (found.form, found.objects) == (letters().form, ())

    more = {"mapping": "columns", "columns": '{"A": "DATE"}', "names": "snake", "flatten": "1"}
    found = letters(mapping=serialize_template_field(ChosenMapping(**(COLUMNS | more)), "mapping"))
    assert found.form == {**(letters().form or {}), **more}
    namespace: dict[str, Any] = {}
    exec(found.operator.replace("\nReplay", "\nmade = Replay"), namespace)
    settings = namespace["made"].columns_settings()
    assert (settings.columns, settings.names) == ({"A": "DATE"}, "snake")

    ignored = serialize_template_field(ChosenMapping(**(COLUMNS | more | {"mapping": "envelope"})), "mapping")
    assert letters(mapping=ignored).form == letters().form


def test_settings_that_airflow_keeps_only_as_text_are_left_for_a_person() -> None:
    found = letters(payload_format="<CSV object at 0x7f>", columns={"A": "NUMBER"})
    assert (found.form, found.objects) == (None, ("payload_format",))
    assert "    payload_format=...,  # as the drain has it" in found.operator
    assert "    columns={'A': 'NUMBER'}," in found.operator
    assert letters(columns={"A": "NUMBER"}).form is None
