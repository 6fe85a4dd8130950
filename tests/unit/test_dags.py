"""What the DAG files of the repository hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import DAG

from airflow_kinesis_snowflake.dag_factories import build_drain_dag
from airflow_kinesis_snowflake.exceptions import InvalidSettingError

DAGS = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(file.stem for file in DAGS.glob("*.py"))
HEAVY = ("boto3", "botocore", "pyarrow", "snowflake.connector")


def load(name: str) -> DAG:
    namespace: dict[str, object] = {}
    exec((DAGS / f"{name}.py").read_text(), namespace)
    dag = namespace["dag"]
    assert isinstance(dag, DAG)
    return dag


@pytest.mark.parametrize("name", FILES)
def test_a_dag_file_holds_the_dag_of_its_name(name: str) -> None:
    assert load(name).dag_id == name


@pytest.mark.parametrize("name", FILES)
def test_parsing_a_dag_file_imports_no_heavy_library_and_opens_no_database(name: str) -> None:
    program = f"""
import runpy, sys
runpy.run_path({str(DAGS / f"{name}.py")!r})
print(*(module for module in {HEAVY} + ("airflow.models.variable",) if module in sys.modules))
"""
    parsed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert parsed.stdout.split() == []


def test_the_drain_runs_every_ten_minutes_one_run_at_a_time_and_tries_again() -> None:
    dag = load("kinesis_to_snowflake")
    drain = dag.get_task("drain")
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == ("*/10 * * * *", False, 1)
    assert drain.retries == 3
    assert drain.retry_exponential_backoff


def test_the_environment_can_turn_the_schedule_off_and_ask_for_more_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINESIS_TO_SNOWFLAKE_SCHEDULE", "none")
    monkeypatch.setenv("KINESIS_TO_SNOWFLAKE_WORKERS", "4")
    dag = load("kinesis_to_snowflake")
    assert dag.schedule is None
    assert dag.get_task("drain").is_mapped


def test_every_setting_of_the_drain_has_a_field_in_the_form() -> None:
    dag = load("kinesis_to_snowflake")
    drain = dag.get_task("drain")
    for name in dag.params:
        assert f"params.{name} " in getattr(drain, name)


def test_a_drain_without_workers_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="at least one worker"):
        build_drain_dag(workers=0)
