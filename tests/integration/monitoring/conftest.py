"""The page's app beside Airflow's database and auth manager, and drains as they leave their traces there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.api_fastapi.app import init_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import insert

from airflow_kinesis_snowflake.engine.report import DrainReport
from airflow_kinesis_snowflake.monitoring.plugin import KinesisSnowflakePlugin

if TYPE_CHECKING:
    from collections.abc import Callable

BUNDLE = "dags-folder-of-monitoring"


@pytest.fixture(scope="session")
def auth_manager(airflow_database: None) -> Any:
    return init_auth_manager()


@pytest.fixture
def client(auth_manager: Any) -> Callable[..., TestClient]:
    """Function that makes a client of the page for a user of this role; of nobody, without one."""
    server = FastAPI()
    for plugged in KinesisSnowflakePlugin().fastapi_apps:
        server.mount(plugged["url_prefix"], plugged["app"])

    def of(role: str | None = "viewer", *, user: bool = True) -> TestClient:
        client = TestClient(server, base_url="http://testserver/kinesis-snowflake/")
        if user:
            token = auth_manager.generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    return of


@dataclass
class DrainDag:
    """A DAG with a drain task, as Airflow's database has it."""

    dag_id: str
    application: str
    stream: str
    aws_conn_id: str = "aws_default"
    runs: list[str] = field(default_factory=list)

    def run(
        self, *, state: str = "success", minutes_ago: float = 1, operator: str = "KinesisToSnowflakeOperator",
        progress: dict[str, Any] | None = None,
        failure: str | None = None, conf: dict[str, Any] | None = None,
        links: dict[str, str] | None = None, left: dict[str, Any] | None = None, **report: Any,
    ) -> str:  # fmt: skip
        """Leave what a run with one worker leaves, which took half a minute.

        :param left: more XComs, or others in place of those
        """
        began = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        run_id = f"manual__{began.isoformat()}"
        key = {"dag_id": self.dag_id, "task_id": "drain", "run_id": run_id, "map_index": 0}
        over = state in {"success", "failed"}
        with create_session() as session:
            run = DagRun(
                dag_id=self.dag_id, run_id=run_id, run_after=began, start_date=began,
                run_type=DagRunType.MANUAL, state=DagRunState.RUNNING, conf=conf,
            )  # fmt: skip
            session.add(run)
            session.flush()
            session.execute(
                insert(TaskInstance).values(
                    **key,
                    operator=operator,
                    state=state,
                    try_number=1,
                    start_date=began,
                    end_date=began + timedelta(seconds=30) if over else None,
                    pool="default_pool",
                    pool_slots=1,
                    executor_config={},
                    queue="default",
                    priority_weight=1,
                )
            )
            fields = {
                "application_name": self.application,
                "stream_name": self.stream,
                "table": "DB.PUBLIC.RECORDS",
                "aws_conn_id": self.aws_conn_id,
                "region_name": None,
            }
            session.execute(insert(RenderedTaskInstanceFields).values(**key, rendered_fields=fields))
            xcoms: dict[str, Any] = dict(links or {})
            if state == "success":
                xcoms["return_value"] = self.report(**report)
            if progress is not None:
                said = {"application_name": self.application, "stream_name": self.stream, **progress}
                xcoms["progress"] = said
            if failure is not None:
                xcoms["failure"] = {"reason": failure}
            for name, value in {**xcoms, **(left or {})}.items():
                row = {"dag_run_id": run.id, "key": name, "value": value, **key}
                session.execute(insert(XComModel).values(row))
        self.runs.append(run_id)
        return run_id

    def report(self, stream: str = "", **values: Any) -> dict[str, Any]:
        """What a drain returns."""
        known = {"worker": "w", **values}
        return DrainReport(stream or self.stream, self.application, "DB.PUBLIC.RECORDS", **known).as_dict()


@pytest.fixture
def drain_dag(auth_manager: Any, application_name: str) -> Callable[..., DrainDag]:
    """Function that registers a DAG whose task drains a stream."""

    def make(
        stream: str, *, application: str = application_name, aws_conn_id: str = "aws_default"
    ) -> DrainDag:
        dag_id = f"dag-of-{application}"
        with create_session() as session:
            if session.get(DagBundleModel, BUNDLE) is None:
                session.add(DagBundleModel(name=BUNDLE))
                session.flush()
            model: Any = DagModel
            session.add(model(dag_id=dag_id, bundle_name=BUNDLE, is_paused=False, is_stale=False))
        return DrainDag(dag_id, application, stream, aws_conn_id)

    return make
