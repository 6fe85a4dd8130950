"""Drains the stream ``clicks`` every five minutes with four workers, and tells its readers once."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories.drain import summarise
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator

with DAG(
    "drain_clicks", schedule="*/5 * * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1
) as dag:
    streams = ["clicks"] * 4
    drain = KinesisToSnowflakeOperator.partial(
        task_id="drain", application_name="clicks-to-snowflake", table="ANALYTICS.RAW.CLICKS", retries=3
    ).expand(stream_name=streams)
    summarise(streams, drain.output)
