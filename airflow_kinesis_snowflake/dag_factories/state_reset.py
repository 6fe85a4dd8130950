"""The DAG that resets the state of an application, manually and with an approval."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories.settings import (
    FormField,
    choice,
    connection_settings,
    connections,
    form,
    names,
    required,
    setting,
    switch,
    text,
    variable,
)
from airflow_kinesis_snowflake.maintenance.reset.fields import FIELDS, FieldKind
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, default_method, find_method, help_of
from airflow_kinesis_snowflake.operators.approval import ApprovePlanOperator
from airflow_kinesis_snowflake.operators.consumer import StartConsumerOperator, StopConsumerOperator
from airflow_kinesis_snowflake.operators.maintenance import (
    BackUpStateOperator,
    InspectStateOperator,
    PlanStateResetOperator,
    ResetStateOperator,
    VerifyStateResetOperator,
)

if TYPE_CHECKING:
    from airflow.sdk import Param

    from airflow_kinesis_snowflake.maintenance.reset.fields import RequestField


def build_state_reset_dag(
    *,
    dag_id: str = "kinesis_state_reset",
    drain_dag_id: str = "kinesis_to_snowflake",
    approval_timeout: timedelta = timedelta(hours=24),
) -> DAG:
    """A DAG for manual runs: inspect, plan, approve, stop, back_up, apply, verify, start_again.

    Fields left empty in the form take the values that the drain's DAG gets from its Variables: landing table,
    initial position and connections. The form explains each field.

    A run that failed downstream of ``stop`` leaves the drain's DAG paused; clear the failed task to continue.

    :param dag_id: of the DAG
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`: it is stopped in the meantime,
        and its Variable gets the new application name
    :param approval_timeout: how long to wait for a person; then the plan counts as rejected
    """
    common: dict[str, Any] = {
        "application_name": "{{ params.application_name }}",
        "stream_name": "{{ params.stream_name }}",
        "table": setting(drain_dag_id, "table"),
        **connection_settings(drain_dag_id),
    }
    airflow_conn_id = setting(dag_id, "airflow_conn_id")
    with DAG(
        dag_id,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        params=reset_params(dag_id, drain_dag_id),
        tags=["kinesis", "snowflake", "maintenance"],
        doc_md="""Resets where an application reads a stream. The plan says what will happen to each
        shard; nothing changes before it is approved.""",
    ) as dag:
        inspect = InspectStateOperator(task_id="inspect", **common)
        plan = PlanStateResetOperator(
            task_id="plan",
            method="{{ params.method }}",
            **{field.name: _template(field, drain_dag_id) for field in FIELDS},
            count_duplicates="{{ params.count_duplicates }}",
            force="{{ params.force }}",
            backup_folder=setting(dag_id, "backup_folder"),
            **common,
        )
        approve = ApprovePlanOperator(
            task_id="approve",
            subject="Reset {{ params.application_name }} on {{ params.stream_name }}?",
            body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
            defaults=[ApprovePlanOperator.REJECT],
            response_timeout=approval_timeout,
            required="{{ params.approval }}",
        )
        stop = StopConsumerOperator(
            task_id="stop",
            drain_dag_id=drain_dag_id,
            airflow_conn_id=airflow_conn_id,
            force="{{ params.force }}",
            **common,
        )
        back_up = BackUpStateOperator(task_id="back_up", folder=setting(dag_id, "backup_folder"), **common)
        apply = ResetStateOperator(
            task_id="apply",
            plan=plan.output,
            application_variable=variable(drain_dag_id, "application_name"),
            **common,
        )
        verify = VerifyStateResetOperator(task_id="verify", plan=plan.output, **common)
        start_again = StartConsumerOperator(
            task_id="start_again",
            paused="{{ ti.xcom_pull(task_ids='stop')['paused'] }}",
            drain_dag_id=drain_dag_id,
            airflow_conn_id=airflow_conn_id,
        )
        inspect >> plan >> approve >> stop >> back_up >> apply >> verify >> start_again
    return dag


def _template(field: RequestField, drain_dag_id: str) -> str:
    """A template: what the form holds; for a setting of the drain also what its next run would use."""
    name = field.name
    match field.kind:
        case FieldKind.LIST:
            return f"{{{{ (params.{name} or []) | join(',') }}}}"
        case FieldKind.SWITCH:
            return f"{{{{ params.{name} }}}}"
    return initial_position(drain_dag_id) if field.of_drain else f"{{{{ params.{name} or '' }}}}"


def initial_position(drain_dag_id: str) -> str:
    """A template: where the drain's next run would start a new application."""
    timestamp, position = (
        f"var.value.get({variable(drain_dag_id, name)!r}, '')"
        for name in ("initial_timestamp", "initial_position")
    )
    return f"{{{{ params.initial_position or {timestamp} or {position} or 'TRIM_HORIZON' }}}}"


def reset_params(dag_id: str, drain_dag_id: str) -> dict[str, Param]:
    """The form of the DAG. What the method that it begins with must have stands before all sections."""
    fields = {field.name: _field(field, drain_dag_id) for field in FIELDS}
    first = {field.name for field in find_method(default_method()).fields if field.required}
    return form(
        dag_id,
        {
            "": {
                "application_name": required(
                    "Application name",
                    "Whose state is reset; also the name of its DynamoDB table.",
                    minLength=3,
                ),
                "stream_name": required("Stream name", "The Kinesis stream: its name or ARN.", minLength=1),
                "method": FormField(
                    title="Method",
                    description="What happens to the checkpoints; the plan shows the consequences.",
                    schema={
                        "type": "string",
                        "enum": list(METHODS),
                        "values_display": {
                            name: f"{name}: {method.summary}" for name, method in METHODS.items()
                        },
                    },
                    value=default_method(),
                    has_variable=False,
                ),
                **{name: each for name, each in fields.items() if name in first},
                "backup_folder": text(
                    "Backup folder",
                    "Where the rows are saved before anything changes; tested before anything is counted: "
                    "an absolute path that all workers share, or s3://bucket/prefix.",
                    otherwise=None,
                ),
                "table": text(
                    "Landing table",
                    "DATABASE.SCHEMA.TABLE: where to count duplicates, close old incarnations and recover "
                    "from.",
                    otherwise="Snowflake isn't queried",
                    of_dag=drain_dag_id,
                ),
            },
            "What some methods need": {name: each for name, each in fields.items() if name not in first},
            "Approval and safety": _SAFETY,
            "Connections": {
                "airflow_conn_id": text(
                    "Airflow API connection ID",
                    f"For pausing the DAG {drain_dag_id} meanwhile.",
                    otherwise="it isn't paused, only waited for",
                ),
                **connections(drain_dag_id),
            },
        },
    )


def _field(field: RequestField, drain_dag_id: str) -> FormField:
    title, description = field.title, help_of(field.name)
    match field.kind:
        case FieldKind.LIST:
            return names(title, f"{description} One to a line.")
        case FieldKind.SWITCH:
            return switch(title, description, on=False)
    if field.of_drain:
        return choice(
            title,
            description,
            {
                "TRIM_HORIZON": "TRIM_HORIZON: the oldest record there is",
                "LATEST": "LATEST: what arrives from then on",
            },
            otherwise="TRIM_HORIZON",
            of_dag=drain_dag_id,
        )
    return text(title, description, otherwise="none", has_variable=False)


_SAFETY = {
    "count_duplicates": switch(
        "Count duplicates",
        "Count in Snowflake how many records will be loaded again. Uses the warehouse.",
        on=True,
    ),
    "approval": switch(
        "Require approval", "Off: the plan is carried out without anyone having seen it.", on=True
    ),
    "force": switch(
        "Force",
        "Take leases from workers that may still be reading. What those commit until then is loaded twice.",
        on=False,
    ),
}
