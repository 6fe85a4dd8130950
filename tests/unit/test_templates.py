"""Templates that the documentation proposes render in runs of every type."""

from __future__ import annotations

import inspect
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import DagRun, DagRunType, TIRunContext
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.sensors.lag import KinesisDrainedSensor

ROOT = Path(__file__).resolve().parents[2]
DUE = datetime(2026, 1, 31, 6, tzinfo=UTC)
WITH_INTERVAL = {DagRunType.SCHEDULED, DagRunType.BACKFILL}

TEXTS = [
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "README.md",
    Path(inspect.getfile(KinesisToSnowflakeOperator)),
    Path(inspect.getfile(KinesisDrainedSensor)),
]
# All of them are about moments, but for those of notifiers.
TEMPLATES = sorted(
    {found for file in TEXTS for found in re.findall(r'"(\{\{ (?!alert_)[^"]+ \}\})"', file.read_text())}
)


def context_of(operator: Any, run_type: DagRunType) -> Any:
    """The context that a task gets in a run of a type."""
    interval = DUE if run_type in WITH_INTERVAL else None
    run: dict[str, Any] = dict.fromkeys(DagRun.model_fields) | {
        "dag_id": "dag",
        "run_id": "run",
        "run_type": run_type,
        "run_after": DUE,
        "start_date": DUE,
        "state": "running",
        "logical_date": interval,
        "data_interval_start": interval,
        "data_interval_end": interval,
        "consumed_asset_events": [],
    }
    if "clear_number" in run:
        run["clear_number"] = 0
    ti = RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(), dag_id="dag", run_id="run", task_id="task", try_number=1, map_index=-1, task=operator
    )
    ti._ti_context_from_server = TIRunContext(dag_run=DagRun(**run), max_tries=0)
    return ti.get_template_context()


def test_the_documentation_proposes_a_moment_by_template() -> None:
    assert TEMPLATES


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("run_type", DagRunType)
@pytest.mark.parametrize("template", TEMPLATES)
def test_a_proposed_moment_is_known_in_runs_of_every_type(
    template: str, run_type: DagRunType, native: bool
) -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        drain = KinesisToSnowflakeOperator(
            task_id="drain",
            stream_name="clicks",
            application_name="clicks-to-snowflake",
            table="A.B.C",
            stop_at=template,
        )
    drain.render_template_fields(context_of(drain, run_type))
    assert drain.read_settings()["stop_at"] == DUE
