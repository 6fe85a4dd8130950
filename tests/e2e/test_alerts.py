"""Alerts of a real Airflow: what a drain's end and a look at the state tell, and the page of a failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests

from local.airflow import LocalAirflow, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

pytestmark = pytest.mark.e2e

DRAIN, LOOK, REPLAY = "kinesis_to_snowflake", "kinesis_alerts", "kinesis_dead_letter_replay"
DAGS = """
import os
from pathlib import Path

from airflow.sdk import BaseNotifier

from airflow_kinesis_snowflake.dag_factories.alerts import build_alerts_dag
from airflow_kinesis_snowflake.dag_factories.dead_letters import build_replay_dag
from airflow_kinesis_snowflake.dag_factories.drain import build_drain_dag


class Told(BaseNotifier):
    template_fields = ("line",)

    def __init__(self):
        super().__init__()
        self.line = "{{ alert_subject }}"

    def notify(self, context):
        with Path(os.environ["TOLD"]).open("a") as told:
            print(self.line, file=told)


drain = build_drain_dag(schedule=None, notifiers=[Told()])
look = build_alerts_dag(schedule=None, notifiers=[Told()])
replay = build_replay_dag()
"""


def test_people_are_told_and_the_page_says_why(
    services: LocalServices, kinesis: KinesisClient, make_stream: Callable[..., str], application_name: str,
    table: str, tmp_path: Path,
) -> None:  # fmt: skip
    stream = make_stream()
    kinesis.put_record(StreamName=stream, Data=b"no JSON", PartitionKey="k")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "both.py").write_text(DAGS)
    told = tmp_path / "told"
    named = f"{application_name} on {stream}"
    env = services.airflow_connections() | {
        "TOLD": str(told),
        "AIRFLOW_VAR_KINESIS_TO_SNOWFLAKE_STREAM_NAME": stream,
        "AIRFLOW_VAR_KINESIS_TO_SNOWFLAKE_APPLICATION_NAME": application_name,
        "AIRFLOW_VAR_KINESIS_TO_SNOWFLAKE_TABLE": table,
        "AIRFLOW_VAR_KINESIS_SNOWFLAKE_THRESHOLDS": '{"unread_seconds": 0}',
    }
    with LocalAirflow(env=env, dags=tmp_path / "dags") as airflow:
        api = airflow.api()

        def run(dag_id: str, **conf: str) -> str:
            api.wait_for_dag(dag_id)
            api.unpause(dag_id)
            run_id = api.trigger(dag_id, conf=conf)
            api.wait_for_run(dag_id, run_id)
            return run_id

        run(DRAIN)
        run(LOOK)
        run(LOOK)
        with pytest.raises(RunFailedError):
            run(DRAIN, aws_conn_id="no_such_connection")

        [replayed] = api.task_instances(REPLAY, run(REPLAY, payload_format="text", reason="JSON"))
        assert api.xcom(replayed) == {"dead_letters": 1, "landed": 1, "failed": 0, "rows": 1}
        assert told.read_text().splitlines() == [
            f"warning: {named}: dead_letters",
            f"critical: {named}: unread",
            f"warning: {named}: failed",
        ]
        page = requests.get(
            f"{airflow.url}/kinesis-snowflake/api/application",
            params={"name": application_name, "stream": stream},
            headers={"Authorization": f"Bearer {api.token}"},
            timeout=60,
        ).json()

    standing = page["line"]["standing"]
    assert standing["kind"] == "failed"
    assert "no_such_connection" in standing["reason"]
    assert standing["log"][2:] == ["drain", 0]
    assert [count for _, count in page["letters"]["reasons"]] == [1], json.dumps(page["letters"])
    assert page["control"]["conf"] == {"aws_conn_id": "no_such_connection"}
