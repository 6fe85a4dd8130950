"""Alerts of a real Airflow: what a drain's end and a look at the state tell, and the page of a failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests

from local.airflow import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_kinesis import KinesisClient

    from local.airflow import LocalAirflow

pytestmark = pytest.mark.e2e

DRAIN, LOOK, REPLAY = "watched", "look_after_watched", "replay_watched"
DAGS = """
from pathlib import Path

from airflow.sdk import BaseNotifier

from airflow_kinesis_snowflake.dag_factories.alerts import build_alerts_dag
from airflow_kinesis_snowflake.dag_factories.dead_letters import build_replay_dag
from airflow_kinesis_snowflake.dag_factories.drain import build_drain_dag


class Told(BaseNotifier):
    template_fields = ("line",)

    def __init__(self):
        super().__init__()
        self.line = "{{{{ alert_subject }}}}"

    def notify(self, context):
        with Path("{told}").open("a") as told:
            print(self.line, file=told)


drain = build_drain_dag(dag_id="watched", schedule=None, notifiers=[Told()])
look = build_alerts_dag(
    dag_id="look_after_watched", drain_dag_id="watched", schedule=None, notifiers=[Told()]
)
replay = build_replay_dag(dag_id="replay_watched", drain_dag_id="watched")
"""


def test_people_are_told_and_the_page_says_why(
    airflow: LocalAirflow, add_dags: Callable[[str, str], None], kinesis: KinesisClient,
    make_stream: Callable[..., str], application_name: str, table: str, tmp_path: Path,
) -> None:  # fmt: skip
    stream = make_stream()
    kinesis.put_record(StreamName=stream, Data=b"no JSON", PartitionKey="k")
    told = tmp_path / "told"
    named = f"{application_name} on {stream}"
    api = airflow.api()
    settings = {"stream_name": stream, "application_name": application_name, "table": table}
    for name, value in settings.items():
        api.set_variable(f"{DRAIN}_{name}", value)
    api.set_variable("kinesis_snowflake_thresholds", '{"unread_seconds": 0}')
    add_dags("watched.py", DAGS.format(told=told))

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

    health = page["line"]["health"]
    assert health["kind"] == "failed"
    assert "no_such_connection" in health["reason"]
    assert health["log"][2:] == ["drain", 0]
    assert [count for _, count in page["letters"]["reasons"]] == [1], json.dumps(page["letters"])
    assert page["control"]["conf"] == {"aws_conn_id": "no_such_connection"}
