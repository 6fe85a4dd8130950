"""Finds tables of applications that nobody needs, every week. See ``build_table_cleanup_dag``."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.table_cleanup import build_table_cleanup_dag

dag = build_table_cleanup_dag()
