"""What the page shows, assembled from what was read; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.alerts.thresholds import DEFAULT
from airflow_kinesis_snowflake.maintenance.reset.registry import default_method
from airflow_kinesis_snowflake.monitoring.drains import ChartColumn, columns_of, flow_of, runs_of, trend_of
from airflow_kinesis_snowflake.monitoring.drawing import Drawing, draw
from airflow_kinesis_snowflake.monitoring.forms import PageField, reset_fields
from airflow_kinesis_snowflake.monitoring.health import (
    Health,
    HealthInputs,
    Notice,
    Schedule,
    health_of,
    notices_of,
)
from airflow_kinesis_snowflake.monitoring.letters import DeadLetters, dead_letters_of
from airflow_kinesis_snowflake.monitoring.shard_status import ShardLine, shard_lines, summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.alerts.thresholds import Thresholds
    from airflow_kinesis_snowflake.monitoring.drains import Application, DrainTaskInstance, Run, Settings
    from airflow_kinesis_snowflake.monitoring.state_reader import Reading

RESET_DAG = "kinesis_state_reset"
CLEANUP_DAG = "kinesis_table_cleanup"
REPLAY_DAG = "kinesis_dead_letter_replay"
# The order of the list: what needs attention comes first.
_TONES = ("bad", "warning", "busy", "good")


@dataclass(frozen=True, kw_only=True)
class Line:
    """An application in the list. Times are milliseconds since the epoch, lags milliseconds.

    :param arn: of the stream; empty: not known
    :param place: where the stream is, if another has the same name; otherwise empty
    :param trend: the trend of the lag: ``growing``, ``shrinking``, ``steady``, or empty
    :param last_ended: when the last drain ended, successfully or not
    :param live_leases: shards that a worker may read now
    :param stale_leases: shards whose lease expired without being released
    :param state_read: DynamoDB answered; otherwise leases and shards are unknown
    :param last_began: when the newest started drain started
    :param gone: nothing drains it any more: its DAG is gone, or now drains another application
    """

    application: str
    stream: str
    arn: str
    place: str
    table: str
    dag_id: str
    health: Health
    notices: tuple[Notice, ...]
    lag: int | None
    trend: str
    records_per_minute: float
    bytes_per_minute: float
    dead_letters: int
    last_ended: int | None
    last_state: str
    shards: int
    live_leases: int
    stale_leases: int
    findings: int
    state_read: bool
    last_began: int | None
    gone: bool


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in the chart and the list of drains."""

    dag_id: str
    run_id: str
    state: str
    started: int | None
    ended: int | None
    workers: int
    records: int
    bytes: int
    dead_letters: int
    lag: int | None
    trouble: tuple[str, int] | None
    reason: str
    gaps: int


@dataclass(frozen=True, kw_only=True)
class ApplicationPage:
    """Everything about one application.

    :param columns: of the chart
    :param shards_text: how many shards there are, in words
    :param workers: worker ids and when each gave its last sign of life
    :param links: consoles of AWS and Snowflake, by name
    :param forms: what the forms of the maintenance DAGs are filled in with, by DAG id; only DAGs that exist
    :param reset_fields: the fields of the reset's form that depend on its methods
    :param letters: about dead letters; None: no landing table is known
    :param thresholds: thresholds beyond which something is mentioned
    """

    line: Line
    schedule: Schedule
    shards_text: str
    shards: tuple[ShardLine, ...]
    drawing: Drawing
    columns: tuple[ChartColumn, ...]
    runs: tuple[RunLine, ...]
    workers: Mapping[str, int]
    links: Mapping[str, str]
    forms: Mapping[str, Mapping[str, Any]]
    reset_fields: tuple[PageField, ...]
    letters: DeadLetters | None
    thresholds: Thresholds


@dataclass(frozen=True, kw_only=True)
class ApplicationSnapshot:
    """Everything that was read about an application.

    :param drains: newest first, at least one
    :param superseded: the last run of its DAG drained other applications only
    :param place: where the stream is, if another has the same name
    """

    application: Application
    drains: Sequence[DrainTaskInstance]
    reading: Reading
    schedule: Schedule
    thresholds: Thresholds = DEFAULT
    superseded: bool = False
    place: str = ""


def settings_of(drains: Sequence[DrainTaskInstance]) -> Settings | None:
    """The settings of the newest drain whose settings Airflow still has."""
    return next((drain.settings for drain in drains if drain.settings is not None), None)


def list_of(materials: Sequence[ApplicationSnapshot], *, now: int) -> tuple[Line, ...]:
    """The lines of the list: those that need attention first, then by name."""
    lines = [_study(material, now=now).line for material in materials]
    return tuple(
        sorted(
            lines,
            key=lambda line: (_TONES.index(line.health.tone), line.application, line.stream, line.place),
        )
    )


def page_of(
    material: ApplicationSnapshot, *, now: int, dags: frozenset[str], applications: Sequence[str] = ()
) -> ApplicationPage:
    """The page of one application.

    :param now: milliseconds since the epoch
    :param dags: the existing maintenance DAGs
    :param applications: all that the user sees; a cleanup must keep them
    """
    study = _study(material, now=now)
    inspection = material.reading.inspection
    settings = settings_of(material.drains)
    letters = dead_letters_of(material.application, study.runs, settings, study.line.table)
    return ApplicationPage(
        line=study.line,
        schedule=material.schedule,
        shards_text=summary(study.lines) if inspection else "",
        shards=study.lines,
        drawing=draw({line.shard_id: line.parents for line in study.lines}),
        columns=columns_of(study.runs),
        runs=tuple(run_line(run) for run in study.runs),
        workers={} if inspection is None else inspection.workers,
        links=next((drain.links for drain in material.drains if drain.links), {}),
        forms={
            dag_id: form
            for dag_id, form in (
                (RESET_DAG, _reset_form(material, study.line)),
                (CLEANUP_DAG, {"dry_run": True, "used": sorted({*applications}), "named": []}),
                (REPLAY_DAG, letters.form if letters else None),
            )
            if dag_id in dags and form is not None
        },
        reset_fields=reset_fields(),
        letters=letters,
        thresholds=material.thresholds,
    )


@dataclass(frozen=True)
class _Study:
    line: Line
    lines: tuple[ShardLine, ...]
    runs: tuple[Run, ...]


def _study(material: ApplicationSnapshot, *, now: int) -> _Study:
    runs = runs_of(material.drains)
    inspection = material.reading.inspection
    drained = any(run.state == "running" for run in runs)
    thresholds = material.thresholds
    lines = (
        shard_lines(inspection.shards, runs, now=now, drained=drained, thresholds=thresholds)
        if inspection
        else ()
    )
    inputs = HealthInputs(
        now=now,
        runs=runs,
        lines=lines,
        schedule=material.schedule,
        unreadable=material.reading.unreadable,
        thresholds=thresholds,
    )
    findings = inspection.findings if inspection else ()
    flow = flow_of(runs, now=now)
    leases = [line.lease_left for line in lines if line.lease_left is not None]
    line = Line(
        application=material.application.name,
        stream=material.application.stream,
        arn=material.application.arn,
        place=material.place,
        table=_table_of(material.drains),
        dag_id=runs[0].dag_id,
        health=health_of(inputs),
        notices=notices_of(inputs, findings, inspection),
        lag=inputs.lag,
        trend=trend_of(runs) if inputs.late(inputs.lag) else "",
        records_per_minute=flow.records_per_minute,
        bytes_per_minute=flow.bytes_per_minute,
        dead_letters=flow.dead_letters,
        last_ended=next((run.ended for run in runs if run.ended is not None), None),
        last_state=inputs.last.state,
        shards=len(lines),
        live_leases=sum(left >= 0 for left in leases),
        stale_leases=sum(left < 0 for left in leases),
        findings=len(findings),
        state_read=inspection is not None,
        last_began=inputs.last.started,
        gone=material.schedule.gone or material.superseded,
    )
    return _Study(line, lines, runs)


def _table_of(drains: Sequence[DrainTaskInstance]) -> str:
    told = (source.table for drain in drains for source in (drain.settings, drain.report) if source)
    return next((table for table in told if table), "")


def run_line(run: Run) -> RunLine:
    """A run as the page lists it."""
    return RunLine(
        dag_id=run.dag_id,
        run_id=run.run_id,
        state=run.state,
        started=run.started,
        ended=run.ended,
        workers=run.workers,
        records=run.records,
        bytes=run.bytes,
        dead_letters=run.dead_letters,
        lag=run.lag,
        trouble=run.trouble,
        reason=run.reason,
        gaps=len(run.gaps),
    )


def _reset_form(material: ApplicationSnapshot, line: Line) -> dict[str, Any]:
    settings = settings_of(material.drains)
    form: dict[str, Any] = {
        "application_name": line.application,
        "stream_name": line.stream,
        "method": default_method(),
        "position": "",
        "shards": [],
        "table": line.table,
    }
    if settings is not None:
        form |= {
            "stream_name": settings.stream_name,
            "aws_conn_id": settings.aws_conn_id,
            "dynamodb_conn_id": settings.dynamodb_conn_id,
            "region_name": settings.region_name,
            "snowflake_conn_id": settings.snowflake_conn_id,
        }
    return form
