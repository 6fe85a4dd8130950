"""The DAG that finds tables of applications that nobody needs any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_kinesis_snowflake.dag_factories.settings import setting, text, variable
from airflow_kinesis_snowflake.operators.approval import ApprovePlanOperator
from airflow_kinesis_snowflake.operators.maintenance import (
    DeleteCheckpointTablesOperator,
    PlanTableCleanupOperator,
)


def build_table_cleanup_dag(
    *,
    dag_id: str = "kinesis_table_cleanup",
    drain_dag_id: str = "kinesis_to_snowflake",
    schedule: str | None = "@weekly",
    approval_timeout: timedelta = timedelta(days=6),
) -> DAG:
    """A DAG that plans, asks and deletes; unless told otherwise it only plans.

    The application of the drain's DAG counts as used, and so do those in the Variable ``<dag_id>_used``.

    :param dag_id: of the DAG
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`
    :param schedule: cron expression, preset, or None for runs by hand only
    :param approval_timeout: how long to wait for a person; then the plan counts as rejected
    """
    common: dict[str, Any] = {
        "table": "{{ params.table or '' }}",
        "aws_conn_id": setting(drain_dag_id, "aws_conn_id", "aws_default"),
        "region_name": setting(drain_dag_id, "region_name"),
        "snowflake_conn_id": setting(drain_dag_id, "snowflake_conn_id", "snowflake_default"),
    }
    drained = f"var.value.get({variable(drain_dag_id, 'application_name')!r}, {drain_dag_id!r})"
    used = f"var.value.get({variable(dag_id, 'used')!r}, '')"
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        params=cleanup_params(dag_id),
        tags=["kinesis", "snowflake", "maintenance"],
        doc_md="""Lists the DynamoDB tables of applications, each with the reason to keep or delete it.
        Deletes only when `dry_run` is off, and after an approval.""",
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
                "Delete {{ ti.xcom_pull(task_ids='plan')['doomed'] | length }} tables of applications and "
                "{{ ti.xcom_pull(task_ids='plan')['offsets'] }} offsets?"
            ),
            body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
            defaults=[ApprovePlanOperator.REJECT],
            response_timeout=approval_timeout,
            required=(
                "{{ params.approval and not params.dry_run "
                "and (ti.xcom_pull(task_ids='plan')['doomed'] | length > 0 "
                "or ti.xcom_pull(task_ids='plan')['offsets'] > 0) }}"
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


def cleanup_params(dag_id: str) -> dict[str, Param]:
    """The form of the DAG."""
    return {
        "dry_run": Param(
            True, type="boolean", title="Dry run", description_md="Only list; nothing is deleted."
        ),
        "days": Param(
            30, type="number", exclusiveMinimum=0, title="Days", description_md="Stale after so many days."
        ),
        "used": names("In use", "Applications to keep, whatever else."),
        "named": names(
            "Named",
            "Applications whose tables may be deleted although this package didn't make them, or although no "
            "row says when they were used.",
        ),
        "streams": names(
            "Streams", "Look at their registered consumers too, besides those that the tables have rows of."
        ),
        "most": Param(
            10, type="integer", minimum=1, title="Most", description_md="Tables to delete in one run."
        ),
        "backup_folder": text(
            "Backup folder",
            "Where tables are saved before they are deleted: an absolute path that all workers share, or "
            f"`s3://bucket/prefix`. Default: the Variable `{variable(dag_id, 'backup_folder')}`.",
        ),
        "table": text(
            "Landing table",
            "`DATABASE.SCHEMA.TABLE`: also delete the offsets and staged files of deleted applications "
            "beside it, and offsets that no application needs any more.",
        ),
        "approval": Param(
            True,
            type="boolean",
            title="Ask for approval",
            description_md="Off: tables are deleted without a person having seen the plan.",
        ),
        "airflow_conn_id": text(
            "Connection to Airflow's API",
            "For finding out what applications tasks used lately. Default: the Variable "
            f"`{variable(dag_id, 'airflow_conn_id')}`.",
        ),
        "aws_conn_id": text("AWS connection", "Default: what the drain uses."),
        "region_name": text("AWS region", "Default: what the drain uses."),
        "snowflake_conn_id": text("Snowflake connection", "Default: what the drain uses."),
    }


def names(title: str, description: str) -> Param:
    """A list of names, one to a line."""
    return Param([], type="array", items={"type": "string"}, title=title, description_md=description)
