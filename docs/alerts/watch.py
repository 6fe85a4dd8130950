"""Watches what the DAG drain_clicks drains."""

from __future__ import annotations

from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

from airflow_kinesis_snowflake.dag_factories.alerts import build_alerts_dag

on_call = SnsNotifier(
    target_arn="arn:aws:sns:eu-west-1:123456789012:on-call",
    subject="{{ alert_subject }}",
    message="{{ alert_text }}",
)
dag = build_alerts_dag(dag_id="watch_clicks", drain_dag_id="drain_clicks", notifiers=[on_call])
