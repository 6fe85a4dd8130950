"""Replays dead letters, manually or from the monitoring page. See ``build_replay_dag``."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.dead_letters import build_replay_dag

dag = build_replay_dag()
