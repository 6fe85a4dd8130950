"""The examples in docs are DAGs, and the text shows them as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_kinesis_snowflake.dag_factories.drain import build_drain_dag
from airflow_kinesis_snowflake.triggers.backlog import KinesisBacklogTrigger

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))


def load(example: Path) -> DAG:
    namespace: dict[str, object] = {}
    exec(example.read_text(), namespace)
    dag = namespace["dag"]
    assert isinstance(dag, DAG)
    return dag


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.stem))
def test_an_example_stands_in_the_text_as_it_is(example: Path) -> None:
    _, code = example.read_text().split("from __future__ import annotations\n\n")
    assert f"```python\n{code}```" in (DOCS / "scheduling.md").read_text()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.stem))
def test_an_example_drains_one_run_at_a_time(example: Path) -> None:
    dag = load(example)
    assert (dag.dag_id, dag.max_active_runs, dag.catchup) == ("drain_clicks", 1, False)
    assert {"drain", "summarise"} <= set(dag.task_ids)


def test_the_event_driven_example_watches_the_stream_that_it_drains() -> None:
    schedule = load(DOCS / "examples" / "event_driven.py").schedule
    assert isinstance(schedule, Asset)
    [watcher] = schedule.watchers
    assert isinstance(watcher.trigger, KinesisBacklogTrigger)
    assert schedule.uri.endswith(f"/{watcher.trigger.source.settings['stream_name']}")


HOURLY = CronTriggerTimetable("0 * * * *", timezone="UTC")
SCHEDULES: dict[str, Any] = {
    "cron": "0 * * * *",
    "continuous": "@continuous",
    "by hand": None,
    "timetable": HOURLY,
    "assets": [Asset("x://a")],
    "assets and clock": AssetOrTimeSchedule(timetable=HOURLY, assets=[Asset("x://a")]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_drain_takes_every_schedule(schedule: Any) -> None:
    assert build_drain_dag(dag_id="drain", schedule=schedule).schedule == schedule
