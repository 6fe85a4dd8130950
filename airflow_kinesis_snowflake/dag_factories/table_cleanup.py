"""The DAG that finds tables of applications that nobody needs any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories.settings import (
    FormField,
    connection_settings,
    connections,
    form,
    names,
    setting,
    switch,
    text,
    variable,
)
from airflow_kinesis_snowflake.operators.approval import ApprovePlanOperator
from airflow_kinesis_snowflake.operators.maintenance import (
    DeleteCheckpointTablesOperator,
    PlanTableCleanupOperator,
)

if TYPE_CHECKING:
    from airflow.sdk import Param


def build_table_cleanup_dag(
    *,
    dag_id: str = "kinesis_table_cleanup",
    drain_dag_id: str = "kinesis_to_snowflake",
    schedule: str | None = "@weekly",
    approval_timeout: timedelta = timedelta(days=6),
) -> DAG:
    """A DAG that plans, asks and deletes; by default it only plans.

    The application of the drain's DAG counts as used, and so do those in the Variable ``<dag_id>_used``.

    :param dag_id: of the DAG
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`
    :param schedule: cron expression, preset, or None for manual runs only
    :param approval_timeout: how long to wait for approval; then the plan counts as rejected
    """
    stream = f"var.value.get({variable(drain_dag_id, 'stream_name')!r}, '')"
    common: dict[str, Any] = {
        # Its ARN contains the region of the drain's state.
        "stream_name": f"{{{{ '' if params.region_name else {stream} }}}}",
        "table": "{{ params.table or '' }}",
        **connection_settings(drain_dag_id),
    }
    drained = f"var.value.get({variable(drain_dag_id, 'application_name')!r}, {drain_dag_id!r})"
    used = f"var.value.get({variable(dag_id, 'used')!r}, '')"
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        params=cleanup_params(dag_id, drain_dag_id),
        tags=["kinesis", "snowflake", "maintenance"],
        doc_md="""Lists the DynamoDB tables of applications, each with the reason to keep or delete it.
        Deletes only if `dry_run` is off, and after an approval.""",
    ) as dag:
        plan = PlanTableCleanupOperator(
            task_id="plan",
            days="{{ params.days }}",
            used=f"{{{{ params.used | join(',') }}}},{{{{ {used} }}}},{{{{ {drained} }}}}",
            named="{{ params.named | join(',') }}",
            most="{{ params.most }}",
            streams="{{ params.streams | join(',') }}",
            airflow_conn_id=setting(dag_id, "airflow_conn_id"),
            **common,
        )
        approve = ApprovePlanOperator(
            task_id="approve",
            subject=(
                "Delete {{ ti.xcom_pull(task_ids='plan')['to_delete'] | length }} tables of applications and "
                "{{ ti.xcom_pull(task_ids='plan')['offsets'] }} offsets, drop "
                "{{ ti.xcom_pull(task_ids='plan')['channels'] }} channels?"
            ),
            body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
            defaults=[ApprovePlanOperator.REJECT],
            response_timeout=approval_timeout,
            required=(
                "{{ params.approval and not params.dry_run "
                "and (ti.xcom_pull(task_ids='plan')['to_delete'] | length > 0 "
                "or ti.xcom_pull(task_ids='plan')['offsets'] > 0 "
                "or ti.xcom_pull(task_ids='plan')['channels'] > 0) }}"
            ),
        )
        delete = DeleteCheckpointTablesOperator(
            task_id="delete",
            plan=plan.output,
            folder=setting(dag_id, "backup_folder"),
            dry="{{ params.dry_run }}",
            **common,
        )
        plan >> approve >> delete
    return dag


def cleanup_params(dag_id: str, drain_dag_id: str) -> dict[str, Param]:
    """The form of the DAG."""
    return form(
        dag_id,
        {
            "": {
                "dry_run": switch("Dry run", "Only list; nothing is deleted.", on=True),
                "backup_folder": text(
                    "Backup folder",
                    "Where tables are saved before they are deleted: an absolute path that all workers "
                    "share, or s3://bucket/prefix.",
                    otherwise="only a dry run is possible",
                ),
                "approval": switch(
                    "Require approval",
                    "Off: tables are deleted without anyone having seen the plan.",
                    on=True,
                ),
            },
            "What may be deleted": _RULES,
            "Connections": {
                "airflow_conn_id": text(
                    "Airflow API connection ID",
                    "For finding out which applications tasks used recently.",
                    otherwise="it isn't asked",
                ),
                **connections(drain_dag_id),
            },
        },
    )


_RULES = {
    "days": FormField(
        title="Age (days)",
        description="Age from which an untouched table is stale.",
        schema={"type": "number", "exclusiveMinimum": 0},
        value=30,
        has_variable=False,
    ),
    "used": names("Applications in use", "Applications to keep in any case; one to a line."),
    "named": names(
        "Applications to delete",
        "Applications whose tables may be deleted although this package didn't create them, or although no "
        "row says when they were used; one to a line.",
    ),
    "streams": names(
        "Streams",
        "Look at their registered consumers too, besides those of the streams that the tables have rows of.",
    ),
    "most": FormField(
        title="Maximum deletions",
        description="Tables to delete in one run.",
        schema={"type": "integer", "minimum": 1},
        value=10,
        has_variable=False,
    ),
    "table": text(
        "Landing table",
        "DATABASE.SCHEMA.TABLE: also delete the offsets, channels and staged files of deleted "
        "applications, and offsets and channels that no application needs any more.",
        otherwise="none",
        has_variable=False,
    ),
}
