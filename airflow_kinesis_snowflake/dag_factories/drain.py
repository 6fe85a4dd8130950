"""The DAG that drains a stream on a schedule."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories.settings import choice, number, setting, text
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator

if TYPE_CHECKING:
    from airflow.sdk import Param

EVERY_TEN_MINUTES = "*/10 * * * *"


def build_drain_dag(
    *, dag_id: str = "kinesis_to_snowflake", schedule: str | None = EVERY_TEN_MINUTES, workers: int = 1
) -> DAG:
    """A DAG with the task ``drain``, a :class:`KinesisToSnowflakeOperator`.

    Each setting comes from the run's Param, else from the Airflow Variable ``<dag_id>_<setting>``, else it
    has a default: ``stream_name`` and ``table`` (none: one of the two places must say them),
    ``application_name`` (the DAG id), ``initial_position`` (``TRIM_HORIZON``), ``initial_timestamp``,
    ``stop_at`` (the start of the task), ``max_seconds`` (no limit), ``on_data_loss`` (``fail``),
    ``aws_conn_id`` (``aws_default``), ``snowflake_conn_id`` (``snowflake_default``).

    One run at a time. A task that fails for a passing reason is tried again three times, after 10 seconds and
    then longer, up to 5 minutes.

    :param dag_id: also the default application name, so a legal name of a DynamoDB table
    :param schedule: cron expression, preset such as ``@hourly``, or None for runs by hand only
    :param workers: number of drain tasks at a time; leases share out the shards among them
    :raises InvalidSettingError: fewer than one worker
    """
    if workers < 1:
        raise InvalidSettingError(f"a drain needs at least one worker, not {workers}")
    names = ("stream_name", "table", "initial_timestamp", "stop_at", "max_seconds")
    defaults = dict.fromkeys(names, "") | {
        "application_name": dag_id,
        "initial_position": "TRIM_HORIZON",
        "on_data_loss": "fail",
        "aws_conn_id": "aws_default",
        "snowflake_conn_id": "snowflake_default",
    }
    settings: dict[str, Any] = {name: setting(dag_id, name, default) for name, default in defaults.items()}
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 3,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=5),
        },
        params=drain_params(dag_id),
        tags=["kinesis", "snowflake"],
        doc_md=f"""Moves new records of a Kinesis stream into a Snowflake table, exactly once.

        Settings left empty in the form come from the Airflow Variables `{dag_id}_<setting>`.""",
    ) as dag:
        if workers == 1:
            KinesisToSnowflakeOperator(task_id="drain", **settings)
        else:
            stream_name = settings.pop("stream_name")
            KinesisToSnowflakeOperator.partial(task_id="drain", **settings).expand(
                stream_name=[stream_name] * workers
            )
    return dag


def drain_params(dag_id: str) -> dict[str, Param]:
    """The form of the DAG; every field may be left empty."""
    return {
        "stream_name": text("Stream", "Name of the Kinesis stream."),
        "application_name": text(
            "Application",
            "Whose checkpoints these are; also the name of the DynamoDB table that holds them. "
            f"Default: `{dag_id}`.",
        ),
        "table": text("Landing table", "`DATABASE.SCHEMA.TABLE`; it is made if it is missing."),
        "initial_position": choice(
            "Initial position",
            "Where the application starts on its first run on the stream. Default: `TRIM_HORIZON`.",
            ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
        ),
        "initial_timestamp": text(
            "Initial timestamp", "For `AT_TIMESTAMP`: ISO-8601 with a time zone.", format="date-time"
        ),
        "stop_at": text(
            "Stop at",
            "Records that arrived at or after it stay for the next run: ISO-8601 with a time zone. "
            "Default: the start of the task.",
            format="date-time",
        ),
        "max_seconds": number("Longest time", "Seconds after which nothing more is read. Default: no limit."),
        "on_data_loss": choice(
            "On data loss",
            "What to do when records aged out of the stream before they were read. Default: `fail`.",
            ("fail", "warn"),
        ),
        "aws_conn_id": text("AWS connection", "Airflow connection of type `aws`. Default: `aws_default`."),
        "snowflake_conn_id": text(
            "Snowflake connection", "Airflow connection of type `snowflake`. Default: `snowflake_default`."
        ),
    }
