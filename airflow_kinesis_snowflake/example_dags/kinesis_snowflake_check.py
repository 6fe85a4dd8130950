"""Tests on your own account what the promises of a drain rest on; manual. See ``build_check_dag``."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.check import build_check_dag

dag = build_check_dag()
