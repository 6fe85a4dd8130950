"""Drains the stream ``clicks`` all the time, with seconds of latency."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from airflow.sdk import DAG
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_kinesis_snowflake.dag_factories.drain import summarise
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator

HOUR = 3_600
hangs = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=HOUR + 900),
    callback=AsyncCallback(
        SnsNotifier,
        kwargs={
            "target_arn": "arn:aws:sns:eu-west-1:123456789012:on-call",
            "message": "A drain of clicks should have ended a quarter of an hour ago",
        },
    ),
)
with DAG(
    "drain_clicks",
    schedule="@continuous",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    deadline=hangs,
) as dag:
    streams = ["clicks"]
    drain = KinesisToSnowflakeOperator.partial(
        task_id="drain",
        application_name="clicks-to-snowflake",
        table="ANALYTICS.RAW.CLICKS",
        sink="streaming",
        follow_seconds=HOUR,
        retries=3,
        retry_delay=timedelta(seconds=10),
    ).expand(stream_name=streams)
    summarise(streams, drain.output)
