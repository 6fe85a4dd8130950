"""What the DAG files that come with the package hold."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param
from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_kinesis_snowflake import example_dags
from airflow_kinesis_snowflake.dag_factories.drain import COLUMNS, plan, summarise
from airflow_kinesis_snowflake.engine.report import DrainReport, ShardReport
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.operators.compat import AirflowFailException, AirflowSkipException
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.operators.maintenance import PlanStateResetOperator
from airflow_kinesis_snowflake.operators.mappings import ChosenMapping
from airflow_kinesis_snowflake.operators.settings import defaults
from airflow_kinesis_snowflake.sinks.snowflake import copy, streaming

README = Path(__file__).parents[2] / "README.md"
DAGS = Path(example_dags.__file__).parent
FILES = sorted(file.stem for file in DAGS.glob("*.py") if file.stem != "__init__")
# Lists, dicts and functions, for a DAG file of one's own; and what belongs to the connection.
NOT_IN_A_FORM = {
    "avro_schema_resolver",
    "botocore_config",
    "exclude",
    "include",
    "rename",
    "verify",
}
HEAVY = ("boto3", "botocore", "pyarrow", "snowflake.connector")


def load(name: str) -> DAG:
    namespace: dict[str, object] = {}
    exec((DAGS / f"{name}.py").read_text(), namespace)
    dag = namespace["dag"]
    assert isinstance(dag, DAG)
    return dag


@pytest.mark.parametrize("name", FILES)
def test_a_dag_file_holds_the_dag_of_its_name(name: str) -> None:
    assert load(name).dag_id == name


def test_parsing_dag_files_imports_no_heavy_library() -> None:
    program = f"""
import runpy, sys
for file in {[str(DAGS / f"{name}.py") for name in FILES]}:
    runpy.run_path(file)
    print(*(f"{{file}}: {{module}}" for module in {HEAVY} if module in sys.modules))
"""
    parsed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert parsed.stdout.split() == []


def test_the_drain_runs_every_ten_minutes_one_run_at_a_time_and_tries_again() -> None:
    dag = load("kinesis_to_snowflake")
    drain = dag.get_task("drain")
    assert str(dag.schedule) == "*/10 * * * *"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert drain.retries == 3
    assert drain.retry_exponential_backoff


def test_the_environment_can_turn_the_schedule_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINESIS_TO_SNOWFLAKE_SCHEDULE", "none")
    assert load("kinesis_to_snowflake").schedule is None


def test_every_setting_of_the_drain_that_a_form_can_take_has_a_field() -> None:
    dag = load("kinesis_to_snowflake")
    taken = KinesisToSnowflakeOperator.setting_types.keys() | COLUMNS.keys()
    assert dag.params.keys() == (taken - NOT_IN_A_FORM) | {"workers"}


def test_every_field_of_the_drain_fills_the_setting_of_its_name() -> None:
    dag = load("kinesis_to_snowflake")
    drain, plan = dag.get_task("drain"), dag.get_task("plan")
    assert isinstance(drain, MappedOperator)
    assert isinstance(plan, PythonOperator)
    templates = drain.partial_kwargs | vars(drain.partial_kwargs["mapping"]) | {**plan.op_kwargs}
    assert [name for name in dag.params if f"params.{name} " not in templates[name]] == []


TYPES = {
    **KinesisToSnowflakeOperator.setting_types,
    **ChosenMapping.setting_types,
    **PlanStateResetOperator.setting_types,
}


@pytest.mark.parametrize("dag", ["kinesis_to_snowflake", "kinesis_state_reset"])
def test_a_drop_down_offers_what_its_setting_takes(dag: str) -> None:
    offered = {
        name: {option for option in field.schema["enum"] if option is not None}
        for name, field in fields(dag)
        if "enum" in field.schema
    }
    for name, options in offered.items():
        assert all(TYPES[name].read(name, option) is not None for option in options)
        assert options >= {*TYPES[name].options}, name
    assert any(TYPES[name].options for name in offered)


def test_the_form_says_the_limits_of_both_sinks() -> None:
    described = {name: field.schema["description_md"] for name, field in fields("kinesis_to_snowflake")}
    for limits in (copy.LIMITS, streaming.LIMITS):
        for name, limit in vars(limits).items():
            assert f"{limit:.0f}" in re.findall(r"\d+", described[name]), name


def test_the_readme_has_each_setting_of_the_drain_with_its_default() -> None:
    _, section = README.read_text().split("## Settings of the operator")
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", section.split("\n## ")[0], re.MULTILINE)
    told = {tuple(re.findall(r"`(\w+)`", names)): re.findall(r"`(\w+)`", cell) for names, cell in rows}
    default = defaults(KinesisToSnowflakeOperator)
    assert {name for names in told for name in names} == KinesisToSnowflakeOperator.setting_types.keys()
    for names, literals in told.items():
        said = [str(default[name]) for name in names if default.get(name) not in (None, ())]
        assert [literal for literal in literals if literal not in default] == said, names


@pytest.mark.parametrize("name", FILES)
def test_every_field_of_a_form_is_used(name: str) -> None:
    dag = load(name)
    templates = " ".join(
        str(vars(value) if isinstance(value, ChosenMapping) else value)
        for task in dag.tasks
        for value in (getattr(task, "partial_kwargs", None) or vars(task)).values()
    )
    assert [field for field in dag.params if f"params.{field}" not in templates] == []


@pytest.mark.parametrize("workers", ["0", "101", "many", ""])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: str) -> None:
    with pytest.raises(AirflowFailException, match="workers"):
        plan.function("drain", "stream", "DB.RAW.CLICKS", workers)


def test_without_its_variables_the_drain_plans_nothing_and_says_which_to_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert plan.function("drain_clicks", "", "", "1") == []
    assert "drain_clicks_stream_name" in caplog.text
    assert "drain_clicks_table" in caplog.text


@pytest.mark.parametrize(
    ("stream", "table", "missing"), [("clicks", "", "table"), ("", "DB.RAW.CLICKS", "stream_name")]
)
def test_half_of_the_settings_is_a_mistake_and_names_the_other_half(
    stream: str, table: str, missing: str
) -> None:
    with pytest.raises(AirflowFailException, match=f"drain_clicks_{missing} "):
        plan.function("drain_clicks", stream, table, "1")


def test_a_run_that_planned_nothing_is_no_failure() -> None:
    with pytest.raises(AirflowSkipException, match="plan"):
        summarise.function([], None)


def test_a_run_fails_if_one_of_its_workers_did() -> None:
    with pytest.raises(AirflowFailException, match="1 of 2 workers"):
        summarise.function(["stream"] * 2, [DrainReport("stream", "app", "table", "worker").as_dict()])


def test_a_run_adds_up_what_its_workers_did() -> None:
    reports = [
        DrainReport(
            "stream",
            "app",
            "table",
            worker,
            records=records,
            shards={shard: ShardReport(millis_behind_latest=lag)},
        ).as_dict()
        | {"assets": {}}
        for worker, records, shard, lag in [("one", 3, "a", 5), ("two", 4, "b", 7), ("three", 0, "b", 0)]
    ]

    summed = summarise.function(["stream"] * 3, reports)

    assert (summed["records"], summed["shards"], summed["workers"]) == (7, 2, 2)
    assert summed["millis_behind_latest"] == 7


# --- forms -------------------------------------------------------------------------------------------------


def fields(name: str) -> list[tuple[str, Param]]:
    dag = load(name)
    return [(field, dag.params.get_param(field)) for field in dag.params]


FIELDS = [pytest.param(dag, name, field, id=f"{dag}: {name}") for dag in FILES for name, field in fields(dag)]


@pytest.mark.parametrize(("dag", "name", "field"), FIELDS)
def test_a_field_has_a_label_and_says_what_applies_when_it_is_empty(
    dag: str, name: str, field: Param
) -> None:
    assert field.schema["title"]
    described = field.schema["description_md"]
    nullable = "null" in field.schema["type"]
    variables = re.findall(r"the Variable (\w+)", described)
    if not nullable:
        assert variables == []
        assert ("**Required.**" in described) is (field.value is None)
    # What the run has left empty is looked up where the help text says.
    for variable in variables:
        assert f"'{variable}'" in templates(dag)
    assert all(variable.endswith(f"_{name}") for variable in variables)


def templates(dag: str) -> str:
    return " ".join(
        str(value)
        for task in load(dag).tasks
        for value in (getattr(task, "partial_kwargs", None) or vars(task)).values()
    )


@pytest.mark.parametrize(("dag", "name", "field"), FIELDS)
def test_a_drop_down_shows_words(dag: str, name: str, field: Param) -> None:
    options = field.schema.get("enum", [])
    assert len(field.schema.get("values_display", {})) == len(options)
    shown = field.schema.get("values_display", {})
    assert [shown.get(str(option)) for option in options if not shown.get(str(option))] == []
    assert "null" not in shown.values()


@pytest.mark.parametrize("dag", FILES)
def test_what_must_be_given_comes_first_and_the_rest_in_sections(dag: str) -> None:
    sections = [field.schema.get("section") for _, field in fields(dag)]
    assert sections[0] is None
    assert len(set(sections)) == len([one for one, other in pairwise([*sections, ""]) if one != other])
    required = [field for _, field in fields(dag) if "**Required" in field.schema["description_md"]]
    assert all(field.schema.get("section") is None for field in required)


def test_the_connections_come_last_in_every_form() -> None:
    for dag in FILES:
        assert fields(dag)[-1][1].schema["section"] == "Connections"


def test_settings_of_the_mapping_and_of_batches_have_their_sections() -> None:
    section = {name: field.schema.get("section") for name, field in fields("kinesis_to_snowflake")}
    mapping = {name for name, its in section.items() if its == "Mapping"}
    assert mapping == {*COLUMNS, "metadata_columns", "create_table"}
    batches = {name for name, its in section.items() if its == "Batches"}
    assert batches == {"max_batch_bytes", "max_batch_records", "max_batch_seconds"}


def drained(**settings: str) -> KinesisToSnowflakeOperator:
    """The operator of the DAG as a form and the defaults fill it in."""
    mapping = ChosenMapping(**(COLUMNS | settings))
    names: dict[str, Any] = {"stream_name": "clicks", "application_name": "clicks", "table": "D.S.CLICKS"}
    with DAG("dag", schedule=None):
        return KinesisToSnowflakeOperator(task_id="drain", mapping=mapping, **names)


def test_a_form_that_says_nothing_of_columns_lands_envelopes() -> None:
    operator = drained()
    assert operator.columns_settings() is None
    assert operator.decoder() is None


def test_the_settings_of_columns_in_a_form_are_those_of_the_mapping() -> None:
    operator = drained(
        mapping="columns",
        columns='{"AMOUNT": "NUMBER(12, 2)"}',
        epochs='{"TS": "ms"}',
        flatten="1",
        names="snake",
        on_type_conflict="rescue",
    )
    settings = operator.columns_settings()
    assert settings is not None
    assert (settings.columns, settings.epochs) == ({"AMOUNT": "NUMBER(12, 2)"}, {"TS": "ms"})
    assert (settings.names, settings.numbers, settings.aside) == ("snake", "wide", ("_RESCUED",))
    decode = operator.decoder()
    assert decode is not None
    assert decode(b'{"a":{"b":1}}') == [b'{"a_b":1}']


@pytest.mark.parametrize(
    "wrong",
    [{"columns": "{"}, {"columns": '{"A": "NUMBR"}'}, {"epochs": '{"TS": "h"}'}, {"mapping": "column"}],
)
def test_a_form_that_cannot_be_meant_is_refused_by_the_name_of_its_field(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError, match=f"^{next(iter(wrong))}"):
        drained(**wrong)
