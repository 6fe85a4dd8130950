"""Parameters of an operator reach it, wherever in its family they are declared."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.basic import Binary
from airflow_kinesis_snowflake.formats.delimited import CSV, Pattern
from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator

OPERATORS = [KinesisToSnowflakeOperator, ReplayDeadLettersOperator]
GIVEN: dict[str, Any] = {
    "application_name": "clicks-to-snowflake",
    "table": "ANALYTICS.RAW.CLICKS",
    "mapping": "columns",
    "snowflake_conn_id": "elsewhere",
}


def parameters(operator: Any) -> dict[str, Any]:
    return {name: getattr(operator, name) for name in GIVEN}


@pytest.mark.parametrize("operator_class", OPERATORS)
def test_default_args_of_a_dag_are_used(operator_class: Any) -> None:
    with DAG("dag", schedule=None, default_args=GIVEN):
        operator = operator_class(task_id="task", stream_name="clicks")
    assert parameters(operator) == GIVEN


@pytest.mark.parametrize("operator_class", OPERATORS)
def test_default_args_reach_mapped_tasks(operator_class: Any) -> None:
    with DAG("dag", schedule=None, default_args=GIVEN):
        mapped = operator_class.partial(task_id="task").expand(stream_name=["clicks", "views"])
    operator = mapped.unmap({"stream_name": "views"})
    assert (operator.stream_name, parameters(operator)) == ("views", GIVEN)


@pytest.mark.parametrize("operator_class", OPERATORS)
@pytest.mark.parametrize("left_out", ["stream_name", "application_name", "table"])
def test_what_has_no_default_must_be_given(operator_class: Any, left_out: str) -> None:
    given = {"stream_name": "clicks"} | GIVEN
    del given[left_out]
    with pytest.raises(TypeError, match=left_out):
        operator_class(task_id="task", **given)


@pytest.mark.parametrize("operator_class", OPERATORS)
def test_a_parameter_that_does_not_exist_is_refused_while_the_dag_is_parsed(operator_class: Any) -> None:
    with pytest.raises(TypeError, match="tabel"):
        operator_class(task_id="task", stream_name="clicks", tabel="A.B.C", **GIVEN)


# --- the settings of a format ------------------------------------------------------------------------------


@pytest.mark.parametrize("operator_class", OPERATORS)
def test_a_format_is_a_name_or_an_object_which_stays_as_it_is(operator_class: Any) -> None:
    pattern = Pattern("(?P<a>{{ ds }}|[^{%]+)")
    given = {"stream_name": "clicks"} | GIVEN | {"payload_format": pattern}
    with DAG("dag", schedule=None):
        operator = operator_class(task_id="task", **given)
    operator.render_template_fields({"ds": "2026-01-01"})
    assert operator.setting("payload_format") is pattern
    assert operator.decoder()(b"x") == [b'{"a":"x"}']


@pytest.mark.parametrize("payload_format", ["xls", "pattern", 7, {}, Binary()])
def test_a_format_that_cannot_be_meant_is_refused_while_the_dag_is_parsed(payload_format: Any) -> None:
    with pytest.raises(InvalidSettingError, match="payload_format"):
        KinesisToSnowflakeOperator(task_id="task", stream_name="s", **GIVEN, payload_format=payload_format)


@pytest.mark.parametrize("payload_format", ["cloudwatch_logs", "debezium", CSV(names=["id"])])
def test_formats_with_keys_make_columns(payload_format: Any) -> None:
    KinesisToSnowflakeOperator(task_id="task", stream_name="s", **GIVEN, payload_format=payload_format)
