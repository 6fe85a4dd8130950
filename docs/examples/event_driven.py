"""Drains the stream ``clicks`` whenever it has something new."""

from __future__ import annotations

from airflow.sdk import AssetWatcher

from airflow_kinesis_snowflake.assets.kinesis_stream import create_asset
from airflow_kinesis_snowflake.dag_factories.drain import build_drain_dag
from airflow_kinesis_snowflake.triggers.backlog import KinesisBacklogTrigger

watcher = AssetWatcher(
    name="clicks-to-snowflake",
    trigger=KinesisBacklogTrigger(stream_name="clicks", application_name="clicks-to-snowflake"),
)
clicks = create_asset(region="eu-west-1", account="123456789012", stream="clicks", watchers=[watcher])

# The Variables drain_clicks_stream_name, ..._application_name and ..._table say what to drain.
dag = build_drain_dag(dag_id="drain_clicks", schedule=clicks)
