"""Replays dead letters, by hand or from the monitoring page. ``build_replay_dag`` says more."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.dead_letters import build_replay_dag

dag = build_replay_dag()
