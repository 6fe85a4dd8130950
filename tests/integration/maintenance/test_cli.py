"""The command line, on the local services."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers_manager import ProvidersManager

from airflow_kinesis_snowflake import __version__
from airflow_kinesis_snowflake.cli import main
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from tests.integration.drain.conftest import Pipeline

AIRFLOW_TAKES_COMMANDS = hasattr(ProvidersManager, "cli_command_functions")
PROGRAM = (sys.executable, "-m", "airflow_kinesis_snowflake")
LONG_AGO = ("--days", "0.0000001")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(arguments)
    return status, *capsys.readouterr()


def of(pipeline: Pipeline) -> tuple[str, ...]:
    return "--application", pipeline.application, "--stream", pipeline.stream


def rewind(pipeline: Pipeline, *more: str) -> tuple[str, ...]:
    table = ("--table", str(pipeline.table))
    return "reset", *of(pipeline), "--method", "rewind", "--position", "TRIM_HORIZON", *table, *more


def lease(pipeline: Pipeline) -> None:
    """Let a worker read one of the shards."""
    shard, now = pipeline.state.shards[max(pipeline.state.shards)], now_millis()
    pipeline.store.take_lease(
        pipeline.stream, shard, owner="alive", expiry=now + 60_000, now=now, incarnation="any"
    )


# --- the outputs -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_program_gets_json_on_the_standard_output_and_nothing_on_the_other(settled: Pipeline) -> None:
    shown = subprocess.run(
        [*PROGRAM, "show", *of(settled), "--output", "json"], check=True, capture_output=True
    )
    answer: dict[str, Any] = json.loads(shown.stdout)
    assert {shard["shard_id"] for shard in answer["shards"]} == set(settled.state.shards)
    assert answer["findings"] == []
    assert shown.stderr == b""


@pytest.mark.slow
@pytest.mark.skipif(not AIRFLOW_TAKES_COMMANDS, reason="this Airflow takes no commands of providers")
def test_airflow_has_the_same_commands(settled: Pipeline) -> None:
    airflow = Path(sys.executable).with_name("airflow")
    command = [str(airflow), "kinesis-snowflake", "show", *of(settled), "--output", "json"]
    shown = subprocess.run(command, check=True, capture_output=True)
    assert {shard["shard_id"] for shard in json.loads(shown.stdout)["shards"]} == set(settled.state.shards)
    assert shown.stderr == b""

    refused = subprocess.run(
        [airflow, "kinesis-snowflake", *rewind(settled, "--folder", "not/absolute", "--yes")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("InvalidSettingError: ")
    assert len(refused.stderr.splitlines()) == 1


def test_a_table_that_is_not_for_a_terminal_has_a_line_for_each_shard_and_no_frames(
    settled: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "show", *of(settled))
    assert (status, err) == (0, "")
    for shard_id, shard in settled.state.shards.items():
        [line] = [line for line in out.splitlines() if line.startswith(shard_id)]
        assert " 0 s " in line
        assert shard.checkpoint is not None
        assert shard.checkpoint.sequence_number in line
    assert not set(out) & set("│┃|*")


@pytest.mark.slow
def test_a_terminal_gets_frames(settled: Pipeline) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*PROGRAM, "show", *of(settled)], stdout=theirs) as process:
        os.close(theirs)
        shown = read_all(ours)
    assert process.returncode == 0
    assert "│" in shown
    assert all(shard_id in shown for shard_id in settled.state.shards)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# --- what they find and do ---------------------------------------------------------------------------------


def test_applications_are_listed_with_their_lag(
    drained: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    lease(drained)
    status, out, err = run(capsys, "list", "--output", "json")
    assert (status, err) == (0, "")
    [found] = [each for each in json.loads(out)["applications"] if each["application"] == drained.application]
    assert (found["stream"], found["shards"], found["leased"]) == (drained.stream, 2, 1)
    assert (found["millis_behind"], found["ended"], found["findings"]) == (0, 0, 0)

    _, out, _ = run(capsys, "list")
    [line] = [line for line in out.splitlines() if line.startswith(f"{drained.application} ")]
    assert line.split()[1:5] == [drained.stream, "2", "1", "0"]
    assert " 0 s " in line


def test_findings_have_a_status_of_their_own(settled: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    settled.application += "-new"
    status, out, _ = run(capsys, "show", *of(settled))
    assert status == 1
    assert "it doesn't exist" in out


def test_a_plan_counts_what_would_be_loaded_again_and_changes_nothing(
    settled: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    before = settled.state
    status, out, err = run(capsys, *rewind(settled, "--dry-run"))
    assert (status, err) == (0, "")
    assert "load 20 records again" in out
    assert settled.state == before


def test_a_reset_is_carried_out_and_taken_back(
    drained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = drained.state
    status, out, err = run(capsys, *rewind(drained, "--folder", str(tmp_path), "--yes", "--output", "json"))
    done = json.loads(out)
    assert (status, err, done["done"], done["backup"]["rows"]) == (0, "", {"set": 2}, 2)
    assert all(shard.checkpoint is None for shard in drained.state.shards.values())

    back = ("restore", "--application", drained.application, "--file", done["backup"]["file"])
    status, out, _ = run(capsys, *back, "--table", str(drained.table), "--dry-run")
    assert "2" in out
    assert all(shard.checkpoint is None for shard in drained.state.shards.values())
    status, out, _ = run(capsys, *back, "--table", str(drained.table), "--yes")
    assert status == 0
    assert "2 rows were put back, 0 removed." in out
    assert checkpoints(drained) == {shard_id: row.checkpoint for shard_id, row in before.shards.items()}
    drained.drain().run()
    assert drained.landed == list(range(20))


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "status"), [("y", 0), ("n", 3)])
def test_a_reset_says_what_it_will_do_and_asks(
    drained: Pipeline, tmp_path: Path, typed: str, status: int
) -> None:
    before = checkpoints(drained)
    ours, theirs = pty.openpty()
    os.write(ours, f"{typed}\n".encode())
    with subprocess.Popen(
        [*PROGRAM, *rewind(drained, "--folder", str(tmp_path))],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == status
    assert "load 20 records again" in err
    assert f"Reset {drained.application} on {drained.stream}?" in err
    assert ("The reset is done" in out) is (status == 0)
    assert (checkpoints(drained) == before) is (status != 0)


def test_a_new_name_is_for_the_user_to_write_where_the_drain_reads_it(
    drained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = f"{drained.application}-2"
    arguments = ("--method", "rename", "--new-application", new, "--folder", str(tmp_path), "--yes")
    status, out, _ = run(capsys, "reset", *of(drained), *arguments)
    assert status == 0
    assert f"Now let the drain use application_name={new}" in out
    assert CheckpointStoreHook(new).exists()


def test_a_cleanup_plans_and_deletes(
    drained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_all_others = [
        f"--used={name}" for name in others(drained, json.loads(run(capsys, "list", "--output", "json")[1]))
    ]
    plan = ("cleanup", *LONG_AGO, *keep_all_others, "--most", "1", "--named", drained.application)
    status, out, _ = run(capsys, *plan, "--dry-run")
    assert status == 0
    assert "1 of" in out
    assert drained.store.exists()

    status, out, err = run(capsys, *plan, "--folder", str(tmp_path), "--yes")
    assert status == 0
    # The local Kinesis has no consumers.
    assert all("can't be listed" in line for line in err.splitlines())
    assert "1 tables and 0 offsets were deleted" in out
    assert not drained.store.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_state_is_saved_and_a_copy_imported(
    drained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, "backup", "--application", drained.application, "--folder", str(tmp_path))
    assert "2 rows saved" in out
    source, drained.application = drained.application, f"{drained.application}-2"
    _, out, _ = run(capsys, "import", *of(drained), "--source", source, "--dry-run")
    assert not drained.store.exists()
    _, out, _ = run(capsys, "import", *of(drained), "--source", source, "--yes")
    assert "2 rows were written" in out
    assert len(drained.state.shards) == 2


def test_a_policy_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "iam", "--application", "app", "--stream", "orders", "--for", "reset")
    assert json.loads(out)["Version"] == "2012-10-17"


# --- how they end ------------------------------------------------------------------------------------------


def test_nothing_is_changed_where_nobody_can_be_asked(
    settled: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        status, out, err = run(capsys, *rewind(settled, "--folder", str(tmp_path)))
    assert (status, out) == (2, "")
    assert err.startswith("InvalidSettingError: Add --yes")


def test_a_backup_folder_is_asked_for_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "reset", "--application", "app", "--stream", "s", "--method", "rewind")
    assert status == 2
    assert err.startswith("InvalidSettingError: Give --folder")


def test_a_refusal_says_why(drained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lease(drained)
    status, out, err = run(capsys, *rewind(drained, "--folder", str(tmp_path), "--yes"))
    assert (status, out) == (3, "")
    assert err.startswith("MaintenanceRefusedError: ")
    assert "is reading" in err


def test_an_outage_may_be_over_the_next_time(
    settled: Pipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {
        "region_name": "us-east-1",
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": away}
    monkeypatch.setenv("AIRFLOW_CONN_AWAY", json.dumps(connection))
    status, _, err = run(capsys, "show", *of(settled), "--aws-conn-id", "away")
    assert status == 4
    assert err.startswith("ServiceUnavailableError: ")


def checkpoints(pipeline: Pipeline) -> dict[str, Any]:
    return {shard_id: row.checkpoint for shard_id, row in pipeline.state.shards.items()}


def others(pipeline: Pipeline, listed: dict[str, Any]) -> set[str]:
    return {each["application"] for each in listed["applications"]} - {pipeline.application}


def read_all(terminal: int) -> str:
    """What is written to a terminal until it is closed."""
    read = b""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # Linux says so when nobody can write to it any more.
            more = b""
        if not more:
            os.close(terminal)
            return read.decode()
        read += more
