"""What Airflow loads."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from airflow_kinesis_snowflake.monitoring import app
from airflow_kinesis_snowflake.monitoring.plugin import KinesisSnowflakePlugin


def test_airflow_finds_the_plugin() -> None:
    [entry] = [e for e in entry_points(group="airflow.plugins") if e.name == "kinesis_snowflake"]
    assert entry.load() is KinesisSnowflakePlugin


def test_loading_the_plugin_doesnt_load_the_page() -> None:
    heavy = ("airflow_kinesis_snowflake.monitoring.app", "boto3", "snowflake.connector")
    program = f"""
import sys
from airflow_kinesis_snowflake.monitoring.plugin import KinesisSnowflakePlugin
KinesisSnowflakePlugin().external_views
print(*(module for module in {heavy} if module in sys.modules))
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    ("base_url", "href"),
    [
        ("http://localhost:8080", "/kinesis-snowflake/"),
        ("https://example.com/airflow/", "/airflow/kinesis-snowflake/"),
    ],
)
def test_the_page_is_where_airflow_is(base_url: str, href: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    [view] = KinesisSnowflakePlugin().external_views
    assert view["href"] == href


def test_every_file_of_the_page_is_served_and_nothing_comes_from_elsewhere() -> None:
    folder = Path(app.__file__).with_name("static")
    assert {file.name for file in folder.iterdir()} == app._FILES.keys()
    for file in folder.iterdir():
        addresses = [word for word in file.read_text().split() if "://" in word]
        assert all("www.w3.org/2000/svg" in address for address in addresses), file.name
        assert "innerHTML" not in file.read_text()
