"""Drains a Kinesis stream into Snowflake every ten minutes.

The environment variable ``KINESIS_TO_SNOWFLAKE_SCHEDULE`` (a cron expression or preset; ``none`` for manual
runs only) is read while this file is parsed, so set it for the DAG processor and the workers. Everything else
is set in the form of a run or in Airflow Variables; see ``build_drain_dag``.
"""

from __future__ import annotations

import os

from airflow_kinesis_snowflake.dag_factories.drain import EVERY_TEN_MINUTES, build_drain_dag

schedule = os.environ.get("KINESIS_TO_SNOWFLAKE_SCHEDULE", EVERY_TEN_MINUTES)

dag = build_drain_dag(schedule=None if schedule.lower() == "none" else schedule)
