"""Functions that build the DAGs of this package, for short files in a DAG folder."""

from __future__ import annotations

from airflow_kinesis_snowflake.dag_factories.drain import build_drain_dag

__all__ = ["build_drain_dag"]
