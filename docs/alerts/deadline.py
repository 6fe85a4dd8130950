"""A drain that sends an alert if it takes longer than half an hour."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.amazon.aws.notifications.sns import SnsNotifier
from airflow.sdk import DAG
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator

too_long = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(minutes=30),
    callback=AsyncCallback(
        SnsNotifier,
        kwargs={
            "target_arn": "arn:aws:sns:eu-west-1:123456789012:on-call",
            "message": "A drain of clicks isn't done after 30 minutes",
        },
    ),
)
with DAG(
    "drain_clicks",
    schedule="*/10 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    deadline=too_long,
) as dag:
    KinesisToSnowflakeOperator(
        task_id="drain",
        stream_name="clicks",
        application_name="clicks-to-snowflake",
        table="ANALYTICS.RAW.CLICKS",
        retries=3,
    )
