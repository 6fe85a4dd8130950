"""docs/first-dag.md, step by step and word by word, in an Airflow with the wheel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from snowflake.connector import connect

from local.airflow import LocalAirflow
from local.services import wait_until_active
from tests.helpers import fetch
from tests.install.conftest import ONLY_INSTALLED, REPOSITORY, constraints, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

pytestmark = pytest.mark.install

PAGE = (REPOSITORY / "docs" / "first-dag.md").read_text()
RECORDS = 5


class Step(NamedTuple):
    heading: str
    language: str
    code: str


def steps() -> list[Step]:
    """The blocks of the numbered sections, in their order."""
    return [
        Step(section.splitlines()[0], language, code)
        for section in re.split(r"\n## (?=\d)", PAGE.partition("\n## Instead")[0])[1:]
        for language, code in re.findall(r"```(\w+)\n(.+?)```", section, re.DOTALL)
    ]


def test_the_first_five_minutes_go_as_the_page_says(
    environment: Callable[[str], Path], services: LocalServices, kinesis: KinesisClient, tmp_path: Path
) -> None:
    commands = environment("3.3")
    shutil.copy(constraints("3.3"), tmp_path / "constraints.txt")
    dags = tmp_path / "dags"
    dags.mkdir()
    kinesis.create_stream(StreamName="clicks", ShardCount=1)
    wait_until_active(kinesis, "clicks")
    for n in range(RECORDS):
        kinesis.put_record(StreamName="clicks", Data=json.dumps({"n": n}).encode(), PartitionKey=str(n))
    # Connections of the environment come before those that the page makes, and lead to the local services.
    env = services.airflow_connections() | ONLY_INSTALLED | {"AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5"}
    with (
        connect(**services.snowflake_parameters()) as snowflake,
        LocalAirflow(env=env, dags=dags, program=commands / "airflow") as airflow,
    ):
        snowflake.cursor().execute("CREATE DATABASE ANALYTICS")
        snowflake.cursor().execute("CREATE SCHEMA ANALYTICS.RAW")
        api = airflow.api()
        shell = airflow.env | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
        for step in steps():
            if step.language == "bash":
                done = subprocess.run(
                    ["sh", "-ec", step.code],
                    cwd=tmp_path,
                    env=shell,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
            elif step.language == "python":
                (dags / "clicks.py").write_text(step.code)
                api.wait_for_dag("clicks")
            elif step.language == "sql":
                for run in api.runs("clicks"):
                    api.wait_for_run("clicks", run["dag_run_id"])
                rows = fetch(snowflake.cursor(), step.code)
                assert sorted(json.loads(row[0])["n"] for row in rows) == list(range(RECORDS))

        assert "<html" in opened(f"{airflow.url}/kinesis-snowflake/", api)
        applications = opened(f"{airflow.url}/kinesis-snowflake/api/applications", api)
        assert "clicks-to-snowflake" in applications
    assert [step.heading for step in steps() if step.language != "bash"] == [
        "3. Write the DAG",
        "5. Look at it",
    ]
