"""The DAG that tests on the user's own account what the promises rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories.settings import (
    connection_settings,
    connections,
    form,
    setting,
    switch,
    text,
)
from airflow_kinesis_snowflake.operators.check import CheckAccountOperator

if TYPE_CHECKING:
    from airflow.sdk import Param


def build_check_dag(
    *,
    dag_id: str = "kinesis_snowflake_check",
    drain_dag_id: str = "kinesis_to_snowflake",
    schedule: str | None = None,
) -> DAG:
    """A DAG of one task, which fails unless all checks hold.

    Fields left empty in the form take the values that the drain's DAG gets from its Variables.

    :param dag_id: of the DAG
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`
    :param schedule: cron expression, preset, or None for manual runs only
    """
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        params=check_params(dag_id, drain_dag_id),
        tags=["kinesis", "snowflake", "maintenance"],
        doc_md="""Tests on your own account what the promises of a drain rest on, in a scratch schema and a
        scratch DynamoDB table that it removes.""",
    ) as dag:
        CheckAccountOperator(
            task_id="check",
            table=setting(drain_dag_id, "table"),
            database="{{ params.database or '' }}",
            stream_name=setting(drain_dag_id, "stream_name"),
            application_name=setting(drain_dag_id, "application_name", drain_dag_id),
            slow="{{ params.slow }}",
            scratch_table="{{ params.scratch_table }}",
            **connection_settings(drain_dag_id),
        )
    return dag


def check_params(dag_id: str, drain_dag_id: str) -> dict[str, Param]:
    """The form of the DAG."""
    return form(
        dag_id,
        {
            "": {
                "stream_name": text(
                    "Stream name",
                    "Name or ARN of the Kinesis stream, from which a few records are read.",
                    otherwise="nothing of Kinesis is checked",
                    of_dag=drain_dag_id,
                ),
                "table": text(
                    "Landing table",
                    "DATABASE.SCHEMA.TABLE: its privileges are checked.",
                    otherwise="only the database is used",
                    of_dag=drain_dag_id,
                ),
                "application_name": text(
                    "Application name",
                    "Its DynamoDB table is checked.",
                    otherwise=drain_dag_id,
                    of_dag=drain_dag_id,
                ),
            },
            "Which checks run": {
                "database": text(
                    "Database",
                    "Where the scratch schema is created. Default: the landing table's.",
                    otherwise="none",
                    has_variable=False,
                ),
                "scratch_table": switch(
                    "Scratch table", "Create a table in DynamoDB, test leases in it, and remove it.", on=True
                ),
                "slow": switch(
                    "Slow checks",
                    "Also run checks that take minutes: how long a killed worker keeps its locks, and "
                    "Iceberg.",
                    on=False,
                ),
            },
            "Connections": connections(drain_dag_id),
        },
    )
