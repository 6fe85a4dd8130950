"""One whole Airflow, for all tests here: a start of it takes longer than most of them.

It ends with the last of them: as long as it runs, it takes a tenth of a processor.
"""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from local.airflow import EXAMPLE_DAGS, LocalAirflow
from local.transfer import BY_HAND_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.services import LocalServices

LOOK_FOR_FILES = {
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
}


@dataclass(frozen=True)
class Metrics:
    """Where Airflow sends its metrics.

    :param server: the socket that gets them
    """

    server: socket.socket

    def sums(self) -> dict[str, float]:
        """The sum of each metric that was sent since the last time."""
        sums: dict[str, float] = {}
        while True:
            try:
                datagram = self.server.recv(65_536).decode()
            except BlockingIOError:
                return sums
            for line in datagram.splitlines():
                name, _, value = line.partition(":")
                sums[name] = sums.get(name, 0) + float(value.partition("|")[0])


@pytest.fixture(scope="package")
def metrics() -> Iterator[Metrics]:
    """Metrics of the package, from Airflow's start on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield Metrics(server)


@pytest.fixture(scope="package")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's folder of DAG files: the example DAGs, and what tests add."""
    return shutil.copytree(EXAMPLE_DAGS, tmp_path_factory.mktemp("airflow") / "dags")


@pytest.fixture(scope="package")
def airflow(services: LocalServices, metrics: Metrics, dags: Path) -> Iterator[LocalAirflow]:
    env = {
        **services.airflow_connections(),
        **BY_HAND_ONLY,
        **LOOK_FOR_FILES,
        "AIRFLOW__METRICS__STATSD_ON": "true",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(metrics.server.getsockname()[1]),
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "^kinesis_snowflake",
    }
    with LocalAirflow(env=env, dags=dags) as airflow:
        yield airflow


@pytest.fixture
def add_dags(dags: Path) -> Iterator[Callable[[str, str], None]]:
    """Function that writes a DAG file of this name and text, which goes when the test ends."""
    files = []

    def add(name: str, text: str) -> None:
        files.append(dags / name)
        files[-1].write_text(text)

    yield add
    for file in files:
        file.unlink()
