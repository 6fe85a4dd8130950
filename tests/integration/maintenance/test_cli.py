"""The command line, on the local services."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers_manager import ProvidersManager

from airflow_kinesis_snowflake.cli import main

if TYPE_CHECKING:
    from tests.integration.drain.conftest import Pipeline

AIRFLOW_TAKES_COMMANDS = hasattr(ProvidersManager, "cli_command_functions")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["state", *arguments])
    return status, *capsys.readouterr()


def of(pipeline: Pipeline) -> tuple[str, ...]:
    return "--application", pipeline.application, "--stream", pipeline.stream


def test_json_is_all_that_a_program_gets_on_the_standard_output(drained: Pipeline) -> None:
    command = [sys.executable, "-m", "airflow_kinesis_snowflake", "state", "show", *of(drained), "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert {shard["shard_id"] for shard in answer["shards"]} == set(drained.state.shards)
    assert answer["findings"] == []


@pytest.mark.skipif(not AIRFLOW_TAKES_COMMANDS, reason="this Airflow takes no commands of providers")
def test_airflow_has_the_same_commands(drained: Pipeline) -> None:
    airflow = Path(sys.executable).with_name("airflow")
    command = [airflow, "kinesis-snowflake", "state", "show", *of(drained), "--json"]
    shown = subprocess.run(command, check=True, capture_output=True)
    assert {shard["shard_id"] for shard in json.loads(shown.stdout)["shards"]} == set(drained.state.shards)

    refused = subprocess.run(
        [airflow, "kinesis-snowflake", "state", "plan", *of(drained), "--method", "rewind"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    assert "MaintenanceRefusedError" in refused.stderr or "InvalidSettingError" in refused.stderr


def test_people_get_a_table(drained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "show", *of(drained))
    assert status == 0
    assert all(shard_id in out for shard_id in drained.state.shards)


def test_a_plan_counts_what_would_be_loaded_again(
    drained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--method", "rewind", "--position", "TRIM_HORIZON", "--table", str(drained.table))
    _, out, _ = run(capsys, "plan", *of(drained), *arguments)
    assert "20 records that are in Snowflake will be loaded again" in out


def test_a_refusal_ends_with_1_and_says_why(drained: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--method", "rewind", "--position", "2100-01-01T00:00:00Z")
    status, _, err = run(capsys, "plan", *of(drained), *arguments)
    assert status == 1
    assert "in the future" in err


def test_state_is_exported_and_a_copy_imported(
    drained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "export", "--application", drained.application, "--folder", str(tmp_path))
    assert "2 rows saved" in out
    source, drained.application = drained.application, f"{drained.application}-2"
    _, out, _ = run(capsys, "import", *of(drained), "--source", source, "--dry-run")
    assert not drained.store.exists()
    _, out, _ = run(capsys, "import", *of(drained), "--source", source)
    assert "2 rows were written" in out
    assert len(drained.state.shards) == 2


def test_a_policy_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "iam", "--application", "app", "--stream", "orders", "--for", "reset")
    assert json.loads(out)["Version"] == "2012-10-17"
