"""The DAG that replays dead letters, manually or from the monitoring page."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_kinesis_snowflake.dag_factories.drain import COLUMNS, drain_params, drain_settings
from airflow_kinesis_snowflake.dag_factories.settings import FormField, form, text
from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator

_WHOSE = ("stream_name", "table", "application_name")


def build_replay_dag(
    *, dag_id: str = "kinesis_dead_letter_replay", drain_dag_id: str = "kinesis_to_snowflake"
) -> DAG:
    """A DAG of one task, a :class:`ReplayDeadLettersOperator`, for manual runs.

    Fields left empty in the form take the values that the drain's DAG gets from its Variables.

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
        doc_md="""Moves dead letters into the landing table, after what was wrong with them has been fixed.
        What lands is deleted from the dead letters in the same transaction; what still fails stays.""",
    ) as dag:
        ReplayDeadLettersOperator(
            task_id="replay",
            reason="{{ params.reason or '' }}",
            column="{{ params.column or '' }}",
            failed_since="{{ params.failed_since or '' }}",
            failed_until="{{ params.failed_until or '' }}",
            **drain_settings(drain_dag_id, ReplayDeadLettersOperator),
        )
    return dag


def replay_params(drain_dag_id: str) -> dict[str, Param]:
    """The form of the DAG; every field may be left empty."""
    of_drain = drain_params(drain_dag_id)
    taken = {*COLUMNS, *ReplayDeadLettersOperator.setting_types}
    chosen = {
        "reason": _filter("Reason", "Only dead letters with this text in their reason."),
        "column": _filter("Column", "Only those that this column refused."),
        "failed_since": _filter("Failed since", "ISO-8601 with a time zone.", format="date-time"),
        "failed_until": _filter("Failed until", "ISO-8601 with a time zone.", format="date-time"),
    }
    return {
        **{name: of_drain[name] for name in _WHOSE},
        **form(drain_dag_id, {"Which dead letters": chosen}),
        **{name: field for name, field in of_drain.items() if name in taken.difference(_WHOSE)},
    }


def _filter(title: str, description: str, **schema: Any) -> FormField:
    return text(title, f"{description} Default: all.", otherwise=None, has_variable=False, **schema)
