"""The DAG that watches an application and alerts people when it needs attention."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories.settings import CONNECTIONS, variable
from airflow_kinesis_snowflake.operators.alerts import KinesisAlertsOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import BaseNotifier


def build_alerts_dag(
    *,
    dag_id: str = "kinesis_alerts",
    drain_dag_id: str = "kinesis_to_snowflake",
    schedule: str | None = "*/5 * * * *",
    notifiers: Sequence[BaseNotifier] = (),
    repeat_after: timedelta = timedelta(hours=6),
) -> DAG:
    """A DAG of one task, a :class:`KinesisAlertsOperator`, which watches what another DAG drains.

    Stream, application and connection are those that the drain's DAG gets from its Variables.

    :param dag_id: of the DAG
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`
    :param schedule: cron expression, preset, or None for manual runs only
    :param notifiers: who is told
    :param repeat_after: an alert that persists is sent again after this long
    """
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=20)},
        tags=["kinesis", "snowflake", "monitoring"],
        doc_md=f"""Watches what the DAG `{drain_dag_id}` drains, and alerts people to lag, to records that
        approach the end of their retention, to abandoned leases, and to streams that nobody reads.""",
    ) as dag:
        KinesisAlertsOperator(
            task_id="look",
            stream_name=variable_of(drain_dag_id, "stream_name"),
            application_name=variable_of(drain_dag_id, "application_name", drain_dag_id),
            aws_conn_id=variable_of(drain_dag_id, "aws_conn_id", CONNECTIONS["aws_conn_id"]),
            dynamodb_conn_id=variable_of(drain_dag_id, "dynamodb_conn_id"),
            region_name=variable_of(drain_dag_id, "region_name"),
            notifiers=notifiers,
            repeat_after=repeat_after,
        )
    return dag


def variable_of(drain_dag_id: str, name: str, default: str = "") -> str:
    """A template: the value of a Variable of the drain's DAG, otherwise the default. This DAG has no form."""
    return f"{{{{ var.value.get({variable(drain_dag_id, name)!r}, {default!r}) }}}}"
