"""What Airflow loads through the entry point ``airflow.plugins``: the page, and its place in the UI's menu.

Every Airflow process loads plugins; only the API server requests the app, and only then are its imports
loaded.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf

try:
    from airflow.sdk.plugins_manager import AirflowPlugin
except ImportError:  # Airflow 3.1
    from airflow.plugins_manager import AirflowPlugin  # type: ignore[assignment]

PREFIX = "/kinesis-snowflake"
NAME = "Kinesis to Snowflake"


class KinesisSnowflakePlugin(AirflowPlugin):
    """The monitoring page, under *Browse*."""

    name = "kinesis_snowflake"

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The page's app."""
        from airflow_kinesis_snowflake.monitoring.app import app

        return [{"app": app, "url_prefix": PREFIX, "name": NAME}]

    @property
    def external_views(self) -> list[Any]:  # type: ignore[override]
        """The page in a frame of the UI."""
        base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
        return [
            {
                "name": NAME,
                "href": f"{base}{PREFIX}/",
                "destination": "nav",
                "category": "browse",
                "url_route": "kinesis-snowflake",
            }
        ]
