"""Resets the state of an application; run by hand with a form. ``build_state_reset_dag`` says more."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.state_reset import build_state_reset_dag

dag = build_state_reset_dag()
