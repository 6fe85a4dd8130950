"""The routes of the page. Each requires what Airflow requires for reading the XComs of a DAG.

Routes are plain functions, which FastAPI runs in threads, so reading the database and DynamoDB doesn't block
the API server.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence  # noqa: TC003 -- FastAPI resolves annotations
from datetime import date, datetime, timedelta
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from airflow.configuration import conf
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Response
from sqlalchemy.orm import Session

from airflow_kinesis_snowflake.alerts.thresholds import DEFAULT, VARIABLE, Thresholds, thresholds_of
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.monitoring import history
from airflow_kinesis_snowflake.monitoring.access import MAY_SEE_THE_PAGE, ReadableDags, Rights, UserRights
from airflow_kinesis_snowflake.monitoring.backlog_status import Watches
from airflow_kinesis_snowflake.monitoring.drains import (
    Application,
    DrainTaskInstance,
    by_application,
    columns_of,
    places,
    runs_of,
)
from airflow_kinesis_snowflake.monitoring.health import Notice, alarms_of
from airflow_kinesis_snowflake.monitoring.state_reader import (
    Access,
    Reading,
    check_state,
    read_states,
)
from airflow_kinesis_snowflake.monitoring.view import (
    CLEANUP_DAG,
    REPLAY_DAG,
    RESET_DAG,
    ApplicationSnapshot,
    list_of,
    page_of,
    run_line,
    settings_of,
)
from airflow_kinesis_snowflake.stream.times import millis, now_millis

RUNS_IN_LIST = 15
RUNS_ON_PAGE = 60
# Runs of a span of time in the table, newest first; the chart has all of them.
RUNS_IN_TABLE = 200
MAX_SPAN = timedelta(days=366)

_WATCHES = Watches()

_FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    **dict.fromkeys(
        (
            "application.js",
            "chart.js",
            "control.js",
            "copy.js",
            "dismissed.js",
            "dom.js",
            "form.js",
            "format.js",
            "history.js",
            "letters.js",
            "lineage.js",
            "list.js",
            "page.js",
            "parts.js",
            "places.js",
        ),
        "text/javascript",
    ),
}
# Scripts from elsewhere, and inline scripts, can't run.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

app = FastAPI(
    title="Kinesis to Snowflake",
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
    dependencies=[MAY_SEE_THE_PAGE],
)


def _session() -> Iterator[Session]:
    with create_session() as session:
        yield session


def _wanted(name: str, stream: str, arn: str = "") -> Application:
    return Application(name, stream, arn)


Database = Annotated[Session, Depends(_session)]
Wanted = Annotated[Application, Depends(_wanted)]


@app.get("/")
def page() -> Response:
    """The page; it is the same for everyone and holds no data."""
    return static("index.html")


@app.get("/static/{name}")
def static(name: str) -> Response:
    """A file of the page."""
    if name not in _FILES:
        raise HTTPException(404, "There is no such file")
    content = files(__package__).joinpath("static", name).read_bytes()
    return Response(content, media_type=f"{_FILES[name]}; charset=utf-8", headers=_HEADERS)


@app.get("/api/applications")
def applications(session: Database, readable: ReadableDags, rights: UserRights) -> dict[str, Any]:
    """All applications for which the user may read the drains' XComs."""
    now = now_millis()
    found = _found(session, readable, runs=RUNS_IN_LIST)
    where = places(found)
    readings = read_states([(application, _access(drains)) for application, drains in found.items()])
    said, faults = _said_thresholds()
    newest = _newest_runs(found)
    lines = list_of(
        [
            ApplicationSnapshot(
                application=application,
                drains=drains,
                reading=readings[application],
                schedule=history.schedule_of(session, drains[0].dag_id),
                thresholds=_thresholds(said, application.name),
                superseded=all(drain.run_number < newest[drain.dag_id] for drain in drains),
                place=where.get(application, ""),
            )
            for application, drains in found.items()
        ],
        now=now,
    )
    dags = _startable(session, readable, rights, CLEANUP_DAG)
    form = {"dry_run": True, "used": sorted({application.name for application in found}), "named": []}
    return {
        "at": now,
        "base": _base(),
        "notices": [as_json(fault) for fault in faults],
        "applications": [as_json(line) for line in lines],
        "forms": dict.fromkeys(sorted(dags), form),
    }


@app.get("/api/application")
def application(
    session: Database, readable: ReadableDags, rights: UserRights, wanted: Wanted
) -> dict[str, Any]:
    """One application, from its table and the last 60 runs."""
    return _page(session, readable, rights, wanted, check=False)


@app.get("/api/check")
def check(session: Database, readable: ReadableDags, rights: UserRights, wanted: Wanted) -> dict[str, Any]:
    """The same, with a state check against Kinesis; only on request."""
    return _page(session, readable, rights, wanted, check=True)


@app.get("/api/look")
def look(session: Database, readable: ReadableDags, wanted: Wanted) -> dict[str, Any]:
    """What has arrived in the stream since the last drain; Kinesis is asked at most once a minute."""
    meant, drains = _drains(session, readable, wanted)
    seen = _WATCHES.look(meant, _access(drains))
    said, _ = _said_thresholds()
    alarms = alarms_of(seen.inspection, _thresholds(said, meant.name)) if seen.inspection else []
    return {
        "at": seen.at, "came": seen.came, "text": seen.text, "notices": [as_json(alarm) for alarm in alarms],
    }  # fmt: skip


@app.get("/api/history")
def past(  # noqa: PLR0917 -- each is a part of the query
    session: Database,
    readable: ReadableDags,
    wanted: Wanted,
    since: date,
    until: date,
    zone: str = "UTC",
) -> dict[str, Any]:
    """What an application did in a range of days.

    :param since: the first day
    :param until: the last day
    :param zone: the time zone of these days, as an IANA name
    """
    begin, end = _span(since, until, zone)
    meant, known = _drains(session, readable, wanted)
    dags = {drain.dag_id for drain in known}
    tasks = [task for task in history.drain_tasks(session, readable) if task.dag_id in dags]
    read = [history.drains_between(session, task, since=begin, until=end) for task in tasks]
    drains = by_application(drain for of_task in read for drain in of_task).get(meant, ())
    runs = runs_of(drains)
    cut = any(len(of_task) == history.MAX_RUNS_OF_A_SPAN for of_task in read)
    return {
        "since": begin,
        "until": end,
        "runs_in_all": len(runs),
        "oldest_read": min((run.started for run in runs if run.started is not None), default=None)
        if cut
        else None,
        "columns": [as_json(column) for column in columns_of(runs)],
        "runs": [as_json(run_line(run)) for run in runs[:RUNS_IN_TABLE]],
    }


def _span(since: date, until: date, zone: str) -> tuple[int, int]:
    """Days as milliseconds since the epoch, the last one included.

    :raises HTTPException: the range can't be shown
    """
    try:
        midnight = datetime.min.time()
        begin = datetime.combine(since, midnight, ZoneInfo(zone))
        end = datetime.combine(until + timedelta(days=1), midnight, ZoneInfo(zone))
    except (KeyError, ValueError, OverflowError):
        raise HTTPException(422, "The days or their time zone aren't valid") from None
    if not timedelta(0) < end - begin <= MAX_SPAN:
        raise HTTPException(422, "The days must be in order, and span a year at most")
    return millis(begin), millis(end)


def _page(
    session: Session, readable: Container[str], rights: Rights, wanted: Application, *, check: bool
) -> dict[str, Any]:
    now = now_millis()
    found = _found(session, readable, runs=RUNS_ON_PAGE)
    meant, drains = _of(found, wanted)
    said, faults = _said_thresholds()
    schedule = history.schedule_of(session, drains[0].dag_id)
    shown = page_of(
        ApplicationSnapshot(
            application=meant,
            drains=drains,
            reading=_reading(meant, _access(drains), check=check),
            schedule=schedule,
            thresholds=_thresholds(said, meant.name),
            superseded=all(drain.run_number < _newest_runs(found)[drain.dag_id] for drain in drains),
            place=places(found).get(meant, ""),
        ),
        now=now,
        dags=_startable(session, readable, rights, RESET_DAG, CLEANUP_DAG, REPLAY_DAG),
        applications=[application.name for application in found],
    )
    return {
        "at": now,
        "base": _base(),
        "checked": check,
        "notices": [as_json(fault) for fault in faults],
        "control": _control(session, rights, drains, gone=schedule.gone),
        **as_json(shown),
    }


def _control(
    session: Session, rights: Rights, drains: Sequence[DrainTaskInstance], *, gone: bool
) -> dict[str, Any]:
    """What the user may do to the DAG, and the parameters of its newest run."""
    dag_id, run_id = drains[0].dag_id, drains[0].run_id
    may_trigger = not gone and rights.trigger(dag_id)
    return {
        "trigger": may_trigger,
        "pause": not gone and rights.pause(dag_id),
        "conf": history.last_conf(session, dag_id, run_id) if may_trigger else {},
    }


def _startable(session: Session, readable: Container[str], rights: Rights, *dag_ids: str) -> frozenset[str]:
    existing = history.existing(session, dag_ids)
    return frozenset(dag_id for dag_id in existing if dag_id in readable and rights.trigger(dag_id))


def _found(
    session: Session, readable: Container[str], *, runs: int
) -> dict[Application, tuple[DrainTaskInstance, ...]]:
    tasks = history.drain_tasks(session, readable)
    return by_application(
        drain for task in tasks for drain in history.recent_drains(session, task, runs=runs)
    )


def _drains(
    session: Session, readable: Container[str], wanted: Application
) -> tuple[Application, tuple[DrainTaskInstance, ...]]:
    return _of(_found(session, readable, runs=RUNS_IN_LIST), wanted)


def _of(
    found: dict[Application, tuple[DrainTaskInstance, ...]], wanted: Application
) -> tuple[Application, tuple[DrainTaskInstance, ...]]:
    """The requested application and its drains: with the ARN if that is known, otherwise by name."""
    named = [each for each in found if (each.name, each.stream) == (wanted.name, wanted.stream)]
    if not named:
        raise HTTPException(404, f"No drain of application {wanted.name} on stream {wanted.stream} is known")
    meant = wanted if wanted in named else named[0]
    return meant, found[meant]


def _newest_runs(found: dict[Application, tuple[DrainTaskInstance, ...]]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for drains in found.values():
        for drain in drains:
            newest[drain.dag_id] = max(drain.run_number, newest.get(drain.dag_id, 0))
    return newest


def _said_thresholds() -> tuple[str | None, list[Notice]]:
    """The thresholds from the Variable, and a notice if it can't be used."""
    said = Variable.get(VARIABLE, default_var=None)
    try:
        thresholds_of(said, "")
    except InvalidSettingError as error:
        return None, [Notice("warning", "The thresholds in the Variable aren't used", str(error))]
    return said, []


def _thresholds(said: str | None, application: str) -> Thresholds:
    try:
        return thresholds_of(said, application)
    except InvalidSettingError:
        return DEFAULT


def _reading(application: Application, access: Access, *, check: bool) -> Reading:
    return check_state(application, access) if check else read_states([(application, access)])[application]


def _access(drains: tuple[DrainTaskInstance, ...]) -> Access:
    """How the newest drain accessed AWS."""
    settings = settings_of(drains)
    if settings is None:
        return Access()
    return Access(
        settings.aws_conn_id,
        settings.region_name or None,
        stream_name=settings.stream_name,
        dynamodb_conn_id=settings.dynamodb_conn_id or None,
    )


def _base() -> str:
    """The path under which Airflow's UI is served, without a trailing slash."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
