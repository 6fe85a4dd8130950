"""Checks on the local services: all of them, their leftovers, and the ways to start them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.check.bench import Bench, CheckSettings
from airflow_kinesis_snowflake.check.checks import CheckVerdict
from airflow_kinesis_snowflake.check.running import run_checks
from airflow_kinesis_snowflake.check.suite import CHECKS
from airflow_kinesis_snowflake.cli import main
from airflow_kinesis_snowflake.exceptions import CheckIncompleteError
from airflow_kinesis_snowflake.operators.check import CheckAccountOperator
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from tests.faults.snowflake import NastySnowflake
from tests.helpers import CONNECTOR_TELLS_OF_TRIES, fetch
from tests.integration.drain.conftest import make_pipeline  # noqa: F401 -- a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.services import LocalServices
    from tests.integration.drain.conftest import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("services")]

# What no stand-in can show; all else holds on the local services.
NOT_SHOWN = {"warehouse", "session", "cancel", "iceberg", "aws-identity", "decrypt"} | (
    set() if CONNECTOR_TELLS_OF_TRIES else {"same-request"}
)


class TaskInstance:
    """What the operator uses of a task instance."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))


@pytest.fixture
def drained(make_pipeline: Callable[..., Pipeline]) -> Pipeline:  # noqa: F811 -- a fixture
    """A pipeline that has drained some records."""
    pipeline = make_pipeline(shards=1)
    pipeline.send(3)
    pipeline.drain().run()
    return pipeline


def test_all_that_can_be_shown_here_holds_and_nothing_is_left_or_changed(drained: Pipeline) -> None:
    state = drained.store.read_items()
    report = run_checks(
        CheckSettings(table=drained.table, stream=drained.stream, application=drained.application, slow=True)
    )

    verdicts = {result.check.name: result.verdict for result in report.results}
    assert verdicts == {
        check.name: CheckVerdict.NOT_SHOWN if check.name in NOT_SHOWN else CheckVerdict.HELD
        for check in CHECKS
    }, report.text()
    assert (report.status, report.left, report.stand_ins) == (0, (), ("Snowflake", "AWS"))
    assert drained.landed == drained.sent
    assert drained.store.read_items() == state


def test_a_killed_check_leaves_what_the_next_removes_but_not_too_early(
    settings: dict[str, Any], scratch: Callable[[], set[str]]
) -> None:
    before = scratch()
    database = settings["table"].database
    send_half_way(signal.SIGKILL, settings)
    left = scratch() - before
    # A schema, and a table of the same name.
    assert len(left) == 1

    chosen = {"only": ("objects", "scratch-table"), **settings}
    early = run_checks(CheckSettings(**chosen))
    assert (early.removed, scratch() - before) == ((), left)

    late = run_checks(CheckSettings(**chosen, left_after=timedelta(0)))
    [name] = left
    assert late.removed == (f"schema {database}.{name}", f"DynamoDB table {name}")
    assert scratch() - before == set()


def test_a_check_that_is_told_to_end_removes_what_it_made(
    settings: dict[str, Any], scratch: Callable[[], set[str]]
) -> None:
    before = scratch()
    assert send_half_way(signal.SIGTERM, settings) != 0
    assert scratch() == before


def send_half_way(number: signal.Signals, settings: dict[str, Any]) -> int:
    """Send a signal to a check that has made its scratch; return the status it ended with."""
    database, stream = settings["table"].database, settings["stream"]
    command = [sys.executable, "-m", "tests.integration.check.killed", database, stream]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "ready" in map(str.strip, process.stderr)
        process.send_signal(number)
        process.communicate()
    return process.returncode


def test_a_scratch_table_is_made_only_if_it_may_be(
    settings: dict[str, Any], scratch: Callable[[], set[str]]
) -> None:
    report = run_checks(CheckSettings(**settings, scratch_table=False, only=("lease",)))
    assert [result.verdict for result in report.results] == [CheckVerdict.SKIPPED]


def test_other_schemas_of_the_database_stay(
    settings: dict[str, Any], snowflake_connection: Any, result: Callable[[str], Any]
) -> None:
    database = settings["table"].database
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {database}.KINESIS_CHECK_OF_MINE")
        run_checks(CheckSettings(**settings, only=("objects",), left_after=timedelta(0)))
        names = {row[1] for row in fetch(cursor, f"SHOW SCHEMAS IN DATABASE {database}")}
    assert "KINESIS_CHECK_OF_MINE" in names


# --- the command line --------------------------------------------------------------------------------------


def test_programs_get_json_and_a_status(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--only", "fence-after-commit", "--only", "copy-twice"]
    assert main(["check", "--output", "json", "--table", str(settings["table"]), *chosen]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"held": 2}
    assert report["checks"][1]["promises"] == [1, 3]


def test_a_failed_check_ends_with_1_and_advice(
    settings: dict[str, Any], nasty: NastySnowflake, capsys: pytest.CaptureFixture[str]
) -> None:
    with nasty.answer_error("^ALTER TABLE", code="002000"):
        status = main(["check", "--table", str(settings["table"]), "--only", "objects"])
    assert status == 1
    assert "objects (failed): Create them by hand" in capsys.readouterr().out


def test_a_refused_login_ends_with_3_and_the_stream_is_checked_all_the_same(
    settings: dict[str, Any], services: LocalServices, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--only", "objects", "--only", "fence-after-commit", "--only", "shards"]
    with NastySnowflake(services).answer_error("^LOGIN", code="390100"):
        status = main(
            [
                "check",
                "--table",
                str(settings["table"]),
                "--stream",
                settings["stream"],
                *chosen,
                "--output",
                "json",
            ]
        )
    report = json.loads(capsys.readouterr().out)
    assert status == 3
    assert report["counts"] == {"held": 1, "broken": 2}
    assert all("AccessDeniedError" in check["found"] for check in report["checks"][:2])


def test_a_check_that_there_is_not_is_a_mistake_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--stream", "clicks", "--only", "nonsense"]) == 2
    assert "there is no check nonsense" in capsys.readouterr().err


# --- the operator ------------------------------------------------------------------------------------------


def context(ti: TaskInstance) -> Any:
    return {"ti": ti}


def operator(settings: dict[str, Any], **more: Any) -> CheckAccountOperator:
    return CheckAccountOperator(
        task_id="check", table=str(settings["table"]), stream_name=settings["stream"], **more
    )


def test_a_task_returns_the_report(settings: dict[str, Any]) -> None:
    ti = TaskInstance()
    report = operator(settings, only="objects, shards").execute(context(ti))
    assert report["status"] == 0
    assert report["counts"] == {"held": 2}
    assert ti.xcoms["report"] == report


def test_a_task_whose_check_fails_is_not_tried_again_and_leaves_its_report(
    settings: dict[str, Any], nasty: NastySnowflake
) -> None:
    ti = TaskInstance()
    with (
        nasty.answer_error("^ALTER TABLE", code="002000"),
        pytest.raises(AirflowFailException, match=r"CheckFailedError: .*objects"),
    ):
        operator(settings, only=["objects"]).execute(context(ti))
    assert ti.xcoms["report"]["status"] == 1


def test_a_task_that_could_not_check_may_be_tried_again(
    settings: dict[str, Any], services: LocalServices
) -> None:
    refused = NastySnowflake(services).answer_error("^LOGIN", code="390100")
    with refused, pytest.raises(CheckIncompleteError, match="objects"):
        operator(settings, only=["objects"]).execute(context(TaskInstance()))


def test_a_task_that_is_told_to_stop_removes_what_it_made(
    settings: dict[str, Any], scratch: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scratch()
    task = operator(settings)
    make_schema = Bench.make_schema

    def made(bench: Bench) -> None:
        make_schema(bench)
        assert scratch() - before
        task.on_kill()

    monkeypatch.setattr(Bench, "make_schema", made)
    report = task.execute(context(TaskInstance()))
    assert report["counts"]["skipped"] == len(CHECKS) - 1
    assert scratch() == before
