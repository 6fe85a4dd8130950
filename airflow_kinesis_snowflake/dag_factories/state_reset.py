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
from airflow_kinesis_snowflake.maintenance.methods import Method
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
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`: it is stopped meanwhile, and
        its Variable gets the new application name
    :param approval_timeout: how long to wait for approval; then the plan counts as rejected
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
        doc_md="""Resets where an application reads a stream. The plan says per shard what will happen;
        nothing changes before it is approved.""",
    ) as dag:
        inspect = InspectStateOperator(task_id="inspect", **common)
        plan = PlanStateResetOperator(
            task_id="plan",
            method="{{ params.method }}",
            shards="{{ (params.shards or []) | join(',') }}",
            position="{{ params.position or '' }}",
            new_application_name="{{ params.new_application_name or '' }}",
            initial_position=initial_position(drain_dag_id),
            trust_snowflake="{{ params.trust_snowflake }}",
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


def initial_position(drain_dag_id: str) -> str:
    """A template: where the drain's next run would start a new application."""
    timestamp, position = (
        f"var.value.get({variable(drain_dag_id, name)!r}, '')"
        for name in ("initial_timestamp", "initial_position")
    )
    return f"{{{{ params.initial_position or {timestamp} or {position} or 'TRIM_HORIZON' }}}}"


def reset_params(dag_id: str, drain_dag_id: str) -> dict[str, Param]:
    """The form of the DAG."""
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
                        "enum": [str(method) for method in Method],
                        "values_display": {str(method): f"{method}: {method.does}" for method in Method},
                    },
                    value=str(Method.REWIND),
                    has_variable=False,
                ),
                "position": _POSITION,
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
            "Rewind and recover": _REWIND_AND_RECOVER,
            "Rename and delete table": _new_application(drain_dag_id),
            "Approval and safety": _SAFETY,
            "Connections": {
                "airflow_conn_id": text(
                    "Airflow API connection ID",
                    f"For pausing the DAG {drain_dag_id} meanwhile.",
                    otherwise="it isn't paused, only awaited",
                ),
                **connections(drain_dag_id),
            },
        },
    )


def _new_application(drain_dag_id: str) -> dict[str, FormField]:
    return {
        "new_application_name": text(
            "New application name", "For rename.", otherwise="none", has_variable=False
        ),
        "initial_position": choice(
            "Initial position",
            "Where the drain starts a new application, for the forecast.",
            {
                "TRIM_HORIZON": "TRIM_HORIZON: the oldest record there is",
                "LATEST": "LATEST: what arrives from then on",
            },
            otherwise="TRIM_HORIZON",
            of_dag=drain_dag_id,
        ),
    }


_POSITION = text(
    "Position",
    "For rewind: TRIM_HORIZON, LATEST, an ISO-8601 timestamp with a time zone, or the sequence "
    "number of the last record that counts as loaded (for exactly one shard). For recover: where "
    "shards start of which Snowflake has nothing.",
    otherwise="none",
    has_variable=False,
)
_REWIND_AND_RECOVER = {
    "shards": names("Shards", "For rewind: only these, one per line. Empty: all."),
    "trust_snowflake": switch(
        "Trust Snowflake",
        "For recover: Snowflake went back in time (Time Travel, a clone, a failover to a replica). "
        "Checkpoints go back to its offsets too, and what is missing there is read again.",
        on=False,
    ),
}
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
        "Take leases from workers that may still be reading. What they commit meanwhile is loaded twice.",
        on=False,
    ),
}
