"""The routes of the page. Each requires what Airflow requires for reading the XComs of a DAG.

Routes are plain functions, which FastAPI runs in threads: reading the database and DynamoDB doesn't hold up
the API server.
"""

from __future__ import annotations

from collections.abc import Container, Iterator  # noqa: TC003 -- FastAPI resolves annotations
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Response
from sqlalchemy.orm import Session

from airflow_kinesis_snowflake.maintenance.plain import as_json
from airflow_kinesis_snowflake.monitoring import history
from airflow_kinesis_snowflake.monitoring.access import MAY_SEE_THE_PAGE, ReadableDags
from airflow_kinesis_snowflake.monitoring.drains import Application, Drain, by_application
from airflow_kinesis_snowflake.monitoring.state import (
    Access,
    Reading,
    check_state,
    read_states,
)
from airflow_kinesis_snowflake.monitoring.view import (
    CLEANUP_DAG,
    RESET_DAG,
    Material,
    list_of,
    page_of,
    settings_of,
)
from airflow_kinesis_snowflake.stream.times import now_millis

RUNS_IN_LIST = 15
RUNS_ON_PAGE = 60

_FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    **dict.fromkeys(
        (
            "application.js",
            "chart.js",
            "dom.js",
            "form.js",
            "format.js",
            "lineage.js",
            "list.js",
            "page.js",
            "parts.js",
            "places.js",
        ),
        "text/javascript",
    ),
}
# Nothing from elsewhere, and nothing written into the page, can run.
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


Database = Annotated[Session, Depends(_session)]


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
def applications(session: Database, readable: ReadableDags) -> dict[str, Any]:
    """All applications of whose drains the user may read the XComs."""
    now = now_millis()
    found = _found(session, readable, runs=RUNS_IN_LIST)
    readings = read_states([(application, _access(drains)) for application, drains in found.items()])
    lines = list_of(
        [
            Material(
                application=application,
                drains=drains,
                reading=readings[application],
                schedule=history.schedule_of(session, drains[0].dag_id),
            )
            for application, drains in found.items()
        ],
        now=now,
    )
    dags = _existing(session, readable, CLEANUP_DAG)
    form = {"dry_run": True, "used": sorted({application.name for application in found}), "named": []}
    return {
        "at": now,
        "base": _base(),
        "applications": [as_json(line) for line in lines],
        "forms": dict.fromkeys(sorted(dags), form),
    }


@app.get("/api/application")
def application(session: Database, readable: ReadableDags, name: str, stream: str) -> dict[str, Any]:
    """One application, from its table and the last 60 runs."""
    return _page(session, readable, Application(name, stream), check=False)


@app.get("/api/check")
def check(session: Database, readable: ReadableDags, name: str, stream: str) -> dict[str, Any]:
    """The same, and the state check with what Kinesis says; done only when somebody asks for it."""
    return _page(session, readable, Application(name, stream), check=True)


def _page(session: Session, readable: Container[str], wanted: Application, *, check: bool) -> dict[str, Any]:
    now = now_millis()
    found = _found(session, readable, runs=RUNS_ON_PAGE)
    drains = found.get(wanted)
    if drains is None:
        raise HTTPException(404, f"No drain of application {wanted.name} on stream {wanted.stream} is known")
    shown = page_of(
        Material(
            application=wanted,
            drains=drains,
            reading=_reading(wanted, _access(drains), check=check),
            schedule=history.schedule_of(session, drains[0].dag_id),
        ),
        now=now,
        dags=_existing(session, readable, RESET_DAG, CLEANUP_DAG),
        applications=[application.name for application in found],
    )
    return {"at": now, "base": _base(), "checked": check, **as_json(shown)}


def _existing(session: Session, readable: Container[str], *dag_ids: str) -> frozenset[str]:
    return frozenset(dag_id for dag_id in history.existing(session, dag_ids) if dag_id in readable)


def _found(session: Session, readable: Container[str], *, runs: int) -> dict[Application, tuple[Drain, ...]]:
    tasks = history.drain_tasks(session, readable)
    return by_application(
        drain for task in tasks for drain in history.recent_drains(session, task, runs=runs)
    )


def _reading(application: Application, access: Access, *, check: bool) -> Reading:
    return check_state(application, access) if check else read_states([(application, access)])[application]


def _access(drains: tuple[Drain, ...]) -> Access:
    """How the newest drain reached AWS."""
    settings = settings_of(drains)
    return Access() if settings is None else Access(settings.aws_conn_id, settings.region_name or None)


def _base() -> str:
    """The path that Airflow's UI is served under, without a slash at its end."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
