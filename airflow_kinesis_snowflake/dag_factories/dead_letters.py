"""The DAG that replays dead letters, by hand or from the monitoring page."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_kinesis_snowflake.dag_factories.drain import drain_params
from airflow_kinesis_snowflake.dag_factories.settings import setting, text
from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator

# What says how a record becomes rows, and its default; the same as of the drain.
_LANDING = {
    "mapping": "envelope",
    "schema_evolution": "true",
    "unknown_keys": "ignore",
    "infer_timestamps": "false",
    "metadata_columns": "",
    "payload_format": "json",
    "compression": "",
    "json_documents": "one",
    "avro_schema": "",
    "create_table": "",
    "snowflake_conn_id": "snowflake_default",
}


def build_replay_dag(
    *, dag_id: str = "kinesis_dead_letter_replay", drain_dag_id: str = "kinesis_to_snowflake"
) -> DAG:
    """A DAG of one task, a :class:`ReplayDeadLettersOperator`, started by hand.

    Whatever is left empty in the form is what the drain's DAG uses by its Variables.

    :param dag_id: of the DAG
    :param drain_dag_id: the DAG that drains, built by :func:`build_drain_dag`
    """
    with DAG(
        dag_id,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        params=replay_params(drain_dag_id),
        tags=["kinesis", "snowflake", "maintenance"],
        doc_md="""Moves dead letters into the landing table, after what was wrong with them has been mended.
        What lands is deleted from the dead letters in the same transaction; what still fails stays.""",
    ) as dag:
        names: dict[str, Any] = {
            "stream_name": "",
            "application_name": drain_dag_id,
            "table": "",
            **_LANDING,
        }
        ReplayDeadLettersOperator(
            task_id="replay",
            reason="{{ params.reason or '' }}",
            column="{{ params.column or '' }}",
            failed_since="{{ params.failed_since or '' }}",
            failed_until="{{ params.failed_until or '' }}",
            **{name: setting(drain_dag_id, name, default) for name, default in names.items()},
        )
    return dag


def replay_params(drain_dag_id: str) -> dict[str, Param]:
    """The form of the DAG; every field may be left empty."""
    of_drain = drain_params(drain_dag_id)
    names = ("stream_name", "application_name", "table", *_LANDING)
    return {
        "reason": text("Reason", "Only dead letters with this text in their reason. Default: all."),
        "column": text("Column", "Only those that this column refused. Default: all."),
        "failed_since": text("Failed since", "ISO-8601 with a time zone. Default: all.", format="date-time"),
        "failed_until": text(
            "Failed until", "ISO-8601 with a time zone. Default: up to now.", format="date-time"
        ),
        **{name: of_drain[name] for name in names},
    }
