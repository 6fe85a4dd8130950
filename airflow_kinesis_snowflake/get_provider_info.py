"""What Airflow shows about this provider, and where it finds its parts."""

from __future__ import annotations

from typing import Any

INTEGRATION = "Amazon Kinesis to Snowflake"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, for the entry point ``apache_airflow_provider``.

    There are no connection types of its own: the provider uses Airflow's ``aws`` and ``snowflake``.
    """
    return {
        "package-name": "airflow-kinesis-snowflake",
        "name": INTEGRATION,
        "description": "Drains Amazon Kinesis Data Streams into Snowflake, exactly once.",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://docs.aws.amazon.com/streams/latest/dev/introduction.html",
                "tags": ["aws"],
            }
        ],
        "hooks": [
            {
                "integration-name": INTEGRATION,
                "python-modules": [
                    "airflow_kinesis_snowflake.hooks.airflow_api",
                    "airflow_kinesis_snowflake.hooks.aws",
                    "airflow_kinesis_snowflake.hooks.backups",
                    "airflow_kinesis_snowflake.hooks.checkpoint",
                    "airflow_kinesis_snowflake.hooks.consumers",
                    "airflow_kinesis_snowflake.hooks.fan_out",
                    "airflow_kinesis_snowflake.hooks.kinesis",
                    "airflow_kinesis_snowflake.hooks.schema_registry",
                    "airflow_kinesis_snowflake.hooks.snowflake",
                    "airflow_kinesis_snowflake.hooks.streams",
                    "airflow_kinesis_snowflake.hooks.tables",
                ],
            }
        ],
        "operators": [
            {
                "integration-name": INTEGRATION,
                "python-modules": [
                    "airflow_kinesis_snowflake.operators.alerts",
                    "airflow_kinesis_snowflake.operators.approval",
                    "airflow_kinesis_snowflake.operators.audit",
                    "airflow_kinesis_snowflake.operators.check",
                    "airflow_kinesis_snowflake.operators.consumer",
                    "airflow_kinesis_snowflake.operators.dead_letters",
                    "airflow_kinesis_snowflake.operators.kinesis_streams_to_snowflake",
                    "airflow_kinesis_snowflake.operators.kinesis_to_snowflake",
                    "airflow_kinesis_snowflake.operators.landing",
                    "airflow_kinesis_snowflake.operators.maintenance",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": INTEGRATION,
                "python-modules": [
                    "airflow_kinesis_snowflake.triggers.backlog",
                    "airflow_kinesis_snowflake.triggers.lag",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": INTEGRATION,
                "python-modules": ["airflow_kinesis_snowflake.sensors.lag"],
            }
        ],
        "extra-links": [
            f"airflow_kinesis_snowflake.links.kinesis_to_snowflake.{link}"
            for link in ("MonitoringPageLink", "StreamLink", "CheckpointTableLink", "LandingTableLink")
        ],
        "notifications": ["airflow_kinesis_snowflake.notifications.alerts.DrainAlertNotifier"],
        "asset-uris": [
            {
                "schemes": ["kinesis-stream"],
                "handler": "airflow_kinesis_snowflake.assets.kinesis_stream.sanitize_uri",
                "factory": "airflow_kinesis_snowflake.assets.kinesis_stream.create_asset",
                "to_openlineage_converter": (
                    "airflow_kinesis_snowflake.assets.kinesis_stream.convert_asset_to_openlineage"
                ),
            }
        ],
        "cli": ["airflow_kinesis_snowflake.cli.get_cli_commands"],
    }
