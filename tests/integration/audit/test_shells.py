"""The audit as a command and as a task."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_kinesis_snowflake.cli import main
from airflow_kinesis_snowflake.operators.audit import AuditOperator

if TYPE_CHECKING:
    from tests.integration.stream.history import History


class TaskInstance:
    """Keeps what a task pushes."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def asked(history: History, *more: str) -> list[str]:
    names = ["--application", history.application, "--stream", history.stream, "--table", str(history.table)]
    return ["audit", *names, *more]


def operator(history: History, **settings: Any) -> AuditOperator:
    return AuditOperator(
        task_id="audit",
        application_name=history.application,
        stream_name=history.stream,
        table=str(history.table),
        **settings,
    )


def test_the_command_answers_people_and_programs_and_by_its_status(
    drained: History, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(asked(drained, "--with-stream")) == 0
    out, _ = capsys.readouterr()
    assert "Exactly once for 20 records (20 rows and 0 dead letters) of 2 shards." in out

    drained.query('DELETE FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 5')

    assert main(asked(drained, "--output", "json")) == 1
    report = json.loads(capsys.readouterr()[0])
    assert (report["exactly_once"], report["records"]) == (False, 19)
    assert main(asked(drained, "--no-counts")) == 0

    drained.query("DROP TABLE {table}")
    capsys.readouterr()
    assert main(asked(drained)) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "SnowflakeObjectNotFoundError" in err


def test_a_task_returns_the_report_and_fails_only_if_it_is_to(drained: History) -> None:
    context: Any = {"ti": TaskInstance()}
    report = operator(drained, with_stream="true").execute(context)
    assert (report["exactly_once"], report["records"], report["compared"]) == (True, 20, 20)
    assert json.loads(json.dumps(report)) == report
    drained.query('DELETE FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 5')

    with pytest.raises(AirflowFailException, match="NOT exactly once: 1 finding"):
        operator(drained).execute(context)
    assert context["ti"].pushed["return_value"]["findings"][0]["kind"] == "too_few"

    assert operator(drained, on_findings="warn").execute(context)["exactly_once"] is False
