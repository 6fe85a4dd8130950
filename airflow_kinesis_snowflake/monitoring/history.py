"""Reads what drains left in Airflow's database: task instances, reports, progress, settings.

Runs in the API server, with its database session. Everything is bounded, no matter how long the history is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Text, and_, cast, func, select

from airflow_kinesis_snowflake.hooks.airflow_api import DRAIN_OPERATORS, MANY_STREAMS
from airflow_kinesis_snowflake.links.kinesis_to_snowflake import LINKS, MonitoringPageLink
from airflow_kinesis_snowflake.monitoring.drains import (
    DrainTaskInstance,
    Failure,
    Settings,
    TaskProgress,
    TaskReport,
    plain,
    read_as,
    summary_of,
)
from airflow_kinesis_snowflake.monitoring.health import Schedule
from airflow_kinesis_snowflake.monitoring.many_streams import (
    StreamsFailure,
    StreamsProgress,
    StreamsReport,
    StreamsSettings,
    TaskOutput,
    apart,
    summaries_of,
)
from airflow_kinesis_snowflake.operators.xcoms import DRAINED, FAILURE, PROGRESS, RETURNED
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

CONSOLES = {link.xcom_key: link.name for link in LINKS if not isinstance(link, MonitoringPageLink)}
KEYS = (RETURNED, DRAINED, PROGRESS, FAILURE, *CONSOLES)
MAX_TASKS = 200
# For one task, over all runs read: a run has an instance per worker.
MAX_INSTANCES = 400
# The same for a span of time, for which only the totals are read.
MAX_RUNS_OF_A_SPAN = 5_000
_RUNS_AT_ONCE = 400
_INSTANCE = (
    TaskInstance.run_id,
    TaskInstance.map_index,
    TaskInstance.operator,
    TaskInstance.state,
    TaskInstance.start_date,
    TaskInstance.end_date,
)


@dataclass(frozen=True)
class DrainTask:
    """A task that drains: the operator's place in a DAG."""

    dag_id: str
    task_id: str


def drain_tasks(session: Session, readable: Container[str]) -> tuple[DrainTask, ...]:
    """Tasks of the operators that drain, in the latest run of each DAG; the first 200 of them.

    :param readable: the DAGs that the user may read
    """
    latest = select(func.max(DagRun.id).label("id")).group_by(DagRun.dag_id).subquery()
    found = session.execute(
        select(TaskInstance.dag_id, TaskInstance.task_id)
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .join(latest, latest.c.id == DagRun.id)
        .where(TaskInstance.operator.in_(DRAIN_OPERATORS))
        .distinct()
        .order_by(TaskInstance.dag_id, TaskInstance.task_id)
    )
    tasks = (DrainTask(dag_id, task_id) for dag_id, task_id in found if dag_id in readable)
    return tuple(islice(tasks, MAX_TASKS))


def recent_drains(session: Session, task: DrainTask, *, runs: int) -> tuple[DrainTaskInstance, ...]:
    """Drains of one task in its DAG's last runs, with what they left behind.

    Reports that an XCom backend stores elsewhere aren't read; such drains show up only as task instances.

    :param runs: how many runs back; at most 400 task instances are read
    """
    numbers = _last_runs(session, task, runs)
    instances = session.execute(
        select(*_INSTANCE)
        .where(*_of(TaskInstance, task, numbers))
        .order_by(TaskInstance.start_date.desc())
        .limit(MAX_INSTANCES)
    ).all()
    xcoms = _xcoms(session, task, numbers)
    fields = {
        (run_id, map_index): rendered
        for run_id, map_index, rendered in session.execute(
            select(
                RenderedTaskInstanceFields.run_id,
                RenderedTaskInstanceFields.map_index,
                RenderedTaskInstanceFields.rendered_fields,
            ).where(*_of(RenderedTaskInstanceFields, task, numbers))
        )
    }
    drains: list[DrainTaskInstance] = []
    lefts: list[TaskOutput] = []
    for row in instances:
        instance = _instance(task, row, run_number=numbers[row.run_id])
        left = {key: xcoms.get((row.run_id, row.map_index, key)) for key in KEYS}
        rendered = fields.get((row.run_id, row.map_index))
        if row.operator == MANY_STREAMS:
            lefts.append(_left(instance, left, rendered))
        else:
            drains.append(_drain(instance, left, rendered))
    return (*drains, *apart(lefts))


def _instance(task: DrainTask, row: Any, *, run_number: int) -> DrainTaskInstance:
    """What Airflow itself knows about a task instance."""
    return DrainTaskInstance(
        dag_id=task.dag_id,
        task_id=task.task_id,
        run_id=row.run_id,
        map_index=row.map_index,
        run_number=run_number,
        state=_state(row.state),
        started=_millis(row.start_date),
        ended=_millis(row.end_date),
    )


def _drain(instance: DrainTaskInstance, xcoms: Mapping[str, Any], rendered: Any) -> DrainTaskInstance:
    return replace(
        instance,
        report=read_as(TaskReport, xcoms[RETURNED]),
        progress=read_as(TaskProgress, xcoms[PROGRESS]),
        failure=read_as(Failure, xcoms[FAILURE]),
        settings=read_as(Settings, rendered),
        links=_links({key: xcoms[key] for key in CONSOLES}),
    )


def _left(instance: DrainTaskInstance, xcoms: Mapping[str, Any], rendered: Any) -> TaskOutput:
    return TaskOutput(
        instance=instance,
        report=read_as(StreamsReport, xcoms[RETURNED]) or read_as(StreamsReport, xcoms[DRAINED]),
        progress=read_as(StreamsProgress, xcoms[PROGRESS]),
        failure=read_as(StreamsFailure, xcoms[FAILURE]),
        settings=read_as(StreamsSettings, rendered),
    )


def drains_between(
    session: Session, task: DrainTask, *, since: int, until: int
) -> tuple[DrainTaskInstance, ...]:
    """Drains of one task that started in a span of time, with their totals, but without details per shard.

    :param since: milliseconds since the epoch, as ``until``
    :return: the newest first; at most 5,000
    """
    instances = session.execute(
        select(*_INSTANCE, DagRun.id)
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .where(
            TaskInstance.dag_id == task.dag_id,
            TaskInstance.task_id == task.task_id,
            TaskInstance.start_date >= moment(since),
            TaskInstance.start_date < moment(until),
        )
        .order_by(TaskInstance.start_date.desc())
        .limit(MAX_RUNS_OF_A_SPAN)
    ).all()
    reports = _report_texts(session, task, list(dict.fromkeys(row.run_id for row in instances)))
    drains: list[DrainTaskInstance] = []
    lefts: list[TaskOutput] = []
    for row in instances:
        instance = _instance(task, row, run_number=row.id)
        text = reports.get((row.run_id, row.map_index), "")
        if row.operator == MANY_STREAMS:
            lefts.append(TaskOutput(instance=instance, report=summaries_of(text)))
        else:
            drains.append(replace(instance, report=summary_of(text)))
    return (*drains, *apart(lefts))


def _report_texts(session: Session, task: DrainTask, run_ids: Sequence[str]) -> Mapping[tuple[str, int], str]:
    """Reports as text, because those with many shards take long to parse."""
    found: dict[tuple[str, int], str] = {}
    for begin in range(0, len(run_ids), _RUNS_AT_ONCE):
        runs = run_ids[begin : begin + _RUNS_AT_ONCE]
        rows = session.execute(
            select(XComModel.run_id, XComModel.map_index, cast(XComModel.value, Text)).where(
                *_of(XComModel, task, runs), XComModel.key.in_((RETURNED, DRAINED))
            )
        )
        found |= {(run_id, map_index): text for run_id, map_index, text in rows}
    return found


def last_conf(session: Session, dag_id: str, run_id: str) -> dict[str, Any]:
    """The settings that a run was started with."""
    conf = session.scalar(select(DagRun.conf).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return dict(conf) if isinstance(conf, dict) else {}


def schedule_of(session: Session, dag_id: str) -> Schedule:
    """When a DAG runs."""
    dag = session.get(DagModel, dag_id)
    if dag is None or dag.is_stale:
        return Schedule(dag_id, gone=True)
    by_hand = dag.timetable_summary in {None, "None"}
    return Schedule(
        dag_id,
        text="" if by_hand else str(dag.timetable_summary),
        paused=bool(dag.is_paused),
        due=None if by_hand else _millis(dag.next_dagrun_create_after),
    )


def existing(session: Session, dag_ids: Collection[str]) -> frozenset[str]:
    """The given DAGs that Airflow still has."""
    found = session.scalars(
        select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids), DagModel.is_stale.is_(False))
    )
    return frozenset(found)


def _last_runs(session: Session, task: DrainTask, runs: int) -> dict[str, int]:
    found = session.execute(
        select(DagRun.run_id, DagRun.id)
        .where(DagRun.dag_id == task.dag_id)
        .order_by(DagRun.id.desc())
        .limit(runs)
    )
    return {run_id: number for run_id, number in found}  # noqa: C416 -- rows aren't pairs to dict()


def _of(model: Any, task: DrainTask, runs: Collection[str]) -> Sequence[Any]:
    return (model.dag_id == task.dag_id, model.task_id == task.task_id, model.run_id.in_(runs))


def _xcoms(session: Session, task: DrainTask, runs: Collection[str]) -> Mapping[tuple[str, int, str], Any]:
    found = session.execute(
        select(XComModel.run_id, XComModel.map_index, XComModel.key, XComModel.value)
        .where(*_of(XComModel, task, runs), XComModel.key.in_(KEYS))
        .order_by(XComModel.timestamp.desc())
        .limit(len(KEYS) * MAX_INSTANCES)
    )
    return {(run_id, map_index, key): value for run_id, map_index, key, value in found}


def _links(xcoms: Mapping[str, Any]) -> dict[str, str]:
    """Links by name. Users who may write XComs must not be able to make the page link to a script."""
    urls = {CONSOLES[key]: str(plain(url)) for key, url in xcoms.items()}
    return {name: url for name, url in urls.items() if url.startswith("https://")}


def _state(state: Any) -> str:
    return str(getattr(state, "value", state) or "none")


def _millis(when: datetime | None) -> int | None:
    return None if when is None else millis(when)
