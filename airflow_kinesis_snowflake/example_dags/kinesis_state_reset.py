"""Resets the state of an application; manual, with a form. See ``build_state_reset_dag``."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.state_reset import build_state_reset_dag

dag = build_state_reset_dag()
