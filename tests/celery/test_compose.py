"""The Airflow of docker-compose.yaml as plain processes: its commands, settings, keys and health checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.utils.net import get_hostname

from local import flights, keys
from local.airflow import EXAMPLE_DAGS, AirflowApi, free_port, wait_until
from local.cluster import LocalCluster
from local.processes import Process
from local.transfer import BY_HAND_ONLY, transfer
from tests import compose
from tests.compose import AIRFLOW_PARTS, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

pytestmark = pytest.mark.celery

BIN = Path(sys.executable).parent


@pytest.fixture
def ports() -> dict[str, int]:
    return {"api": free_port(), "scheduler": free_port()}


@pytest.fixture
def replacing(services: LocalServices, tmp_path: Path, ports: dict[str, int]) -> Iterator[dict[str, str]]:
    """What stands on this machine for the addresses and paths of the compose file."""
    with LocalCluster() as cluster:
        env = cluster.airflow_environment()
        yield {
            "redis://redis:6379/0": env["AIRFLOW__CELERY__BROKER_URL"],
            "db+postgresql://airflow:airflow@postgres/airflow": env["AIRFLOW__CELERY__RESULT_BACKEND"],
            "postgresql+psycopg2://airflow:airflow@postgres/airflow": env[
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
            ],
            "http://api-server:8080": f"http://127.0.0.1:{ports['api']}",
            "127.0.0.1:8080": f"127.0.0.1:{ports['api']}",
            "127.0.0.1:8974": f"127.0.0.1:{ports['scheduler']}",
            "http://kinesis:4567": services.kinesis_url,
            "http://dynamodb:8000": services.dynamodb_url,
            '"host": "snowflake", "port": 8084': f'"host": "127.0.0.1", "port": {services.snowflake_port}',
            "https://snowflake:8085": services.streaming_url,
            "/opt/airflow/streaming/authority.pem": str(services.streaming_authority),
            "/opt/airflow-kinesis-snowflake": str(REPOSITORY),
            "/opt/airflow/dags": str(EXAMPLE_DAGS),
            "/opt/airflow": str(tmp_path),
        }


@pytest.fixture
def airflow(replacing: dict[str, str], ports: dict[str, int], tmp_path: Path) -> Airflow:
    (tmp_path / "keys").mkdir()
    airflow = Airflow(replacing, ports, home=tmp_path)
    airflow.init()
    return airflow


def test_each_part_becomes_healthy_and_together_they_move_a_stream(
    airflow: Airflow, services: LocalServices, kinesis: KinesisClient, application_name: str, table: str
) -> None:
    sample = flights.january().head(1_000)
    stream = f"flights-of-{application_name}"
    flights.put(kinesis, stream, sample)
    conf = {"stream_name": stream, "application_name": application_name, "table": table}
    assert [part for part in ("api-server", "triggerer", "worker") if airflow.is_healthy(part)] == []

    with ExitStack() as running:
        for part in AIRFLOW_PARTS:
            running.enter_context(airflow.start(part))
        for part in AIRFLOW_PARTS:
            airflow.wait_until_healthy(part)
        moved = transfer(airflow.api(), services, conf=conf)

    assert moved.records == len(sample)
    assert flights.landed(services, table) == flights.figures(sample)


class Airflow:
    """The parts of Airflow, started as the compose file says, except that they listen on 127.0.0.1 only."""

    def __init__(self, replacing: Mapping[str, str], ports: Mapping[str, int], *, home: Path) -> None:
        self._replacing = replacing
        self._ports = ports
        self._home = home

    def init(self) -> None:
        """Run the service that runs once."""
        (script,) = compose.command("airflow-init", replacing=self._replacing)
        entrypoint = compose.SERVICES["airflow-init"]["entrypoint"]
        subprocess.run([*entrypoint, script], env=self.environment("airflow-init"), check=True)

    def wait_until_healthy(self, part: str) -> None:
        """Wait until the health check of a part passes."""
        wait_until(lambda: self.is_healthy(part) or None, timeout=180, what=part)

    def start(self, part: str) -> Process:
        """Start a part."""
        without_log_server = [] if part in ("api-server", "dag-processor") else ["--skip-serve-logs"]
        command = compose.command(part, replacing=self._replacing)
        command = [str(BIN / "airflow"), *command, *without_log_server]
        return Process(part, command, folder=self._home, env=self.environment(part), grace=20)

    def is_healthy(self, part: str) -> bool:
        """Run the health check of a part."""
        command = compose.health_command(part, replacing=self._replacing)
        env = self.environment(part)
        return subprocess.run(command, env=env, check=False, capture_output=True).returncode == 0

    def api(self) -> AirflowApi:
        """Return a client that is logged in with the password that was made."""
        passwords = json.loads((self._home / "keys" / "passwords.json").read_text())
        url = f"http://127.0.0.1:{self._ports['api']}"
        return AirflowApi.log_in(url, user=keys.USER, password=passwords[keys.USER])

    def environment(self, part: str) -> dict[str, str]:
        """Return the environment variables of a part."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return {
            **inherited,
            **compose.environment(part, replacing=self._replacing),
            **BY_HAND_ONLY,
            "AIRFLOW_HOME": str(self._home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._ports["api"]),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(self._ports["scheduler"]),
            "HOSTNAME": get_hostname(),  # type: ignore[no-untyped-call]
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
