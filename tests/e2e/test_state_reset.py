"""DAGs ``kinesis_state_reset`` and ``kinesis_table_cleanup`` in a real Airflow, through its REST API."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from local.services import wait_until_active
from local.transfer import transfer
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local.airflow import AirflowApi, LocalAirflow
    from local.services import LocalServices

pytestmark = pytest.mark.reset

RESET = "kinesis_state_reset"
CLEANUP = "kinesis_table_cleanup"


@pytest.fixture(scope="module")
def api(airflow: LocalAirflow) -> AirflowApi:
    """Airflow, whose DAGs of maintenance reach its API."""
    api = airflow.api()
    connection = {
        "connection_id": "airflow_api",
        "conn_type": "http",
        "host": airflow.url,
        "login": "admin",
        "password": airflow.password,
    }
    api._call("POST", "/connections", json=connection)
    for dag_id in (RESET, CLEANUP):
        api.wait_for_dag(dag_id)
        api.unpause(dag_id)
    return api


@dataclass
class Application:
    """One application that drains one stream of numbers into one table."""

    airflow: LocalAirflow
    api: AirflowApi
    services: LocalServices
    name: str
    stream: str
    table: str
    backups: str
    sent: list[int] = field(default_factory=list)

    def send(self, count: int) -> None:
        numbers = range(len(self.sent), len(self.sent) + count)
        records = [{"PartitionKey": str(n), "Data": json.dumps({"n": n}).encode()} for n in numbers]
        self.services.kinesis_client().put_records(StreamName=self.stream, Records=records)  # type: ignore[arg-type]
        self.sent += numbers

    def drain(self, name: str | None = None) -> int:
        conf = {"stream_name": self.stream, "application_name": name or self.name, "table": self.table}
        return transfer(self.api, self.services, conf=conf).records

    def reset(self, *, answer: str | None = "Approve", **conf: Any) -> tuple[str, dict[str, Any]]:
        """Run the DAG to its end; return the run and what the plan said."""
        run_id = self.api.trigger(RESET, conf=self.form(approval=answer is not None, **conf))
        if answer is not None:
            self.answer(RESET, run_id, answer)
        self.api.wait_for_run(RESET, run_id)
        return run_id, self.api.xcom(self.task(RESET, run_id, "plan"))

    def form(self, **conf: Any) -> Mapping[str, Any]:
        return {
            "application_name": self.name,
            "stream_name": self.stream,
            "table": self.table,
            "backup_folder": self.backups,
            "airflow_conn_id": "airflow_api",
            **conf,
        }

    def answer(self, dag_id: str, run_id: str, option: str) -> None:
        self.airflow.wait_until_noticed(dag_id, run_id, "approve")
        self.api.answer(self.task(dag_id, run_id, "approve"), option)

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        tasks = self.api.task_instances(dag_id, run_id)
        return next(task for task in tasks if task["task_id"] == task_id)

    @property
    def landed(self) -> list[int]:
        with (
            snowflake.connector.connect(**self.services.snowflake_parameters()) as connection,
            connection.cursor() as cursor,
        ):
            rows = fetch(cursor, f'SELECT "RECORD_CONTENT":n::NUMBER FROM {self.table}')
        return sorted(int(row[0]) for row in rows)

    @property
    def table_exists(self) -> bool:
        return self.name in self.services.dynamodb_client().list_tables()["TableNames"]


@pytest.fixture
def application(
    services: LocalServices, airflow: LocalAirflow, api: AirflowApi, application_name: str, table: str,
    tmp_path: Path,
) -> Application:  # fmt: skip
    kinesis = services.kinesis_client()
    stream = f"stream-of-{application_name}"
    kinesis.create_stream(StreamName=stream, ShardCount=2)
    wait_until_active(kinesis, stream)
    application = Application(airflow, api, services, application_name, stream, table, str(tmp_path))
    application.send(20)
    assert application.drain() == 20
    return application


def again(plan: dict[str, Any]) -> int:
    return sum(change["loaded_again"] for change in plan["plan"]["changes"])


def test_an_approved_rewind_loads_again_exactly_what_the_plan_said(application: Application) -> None:
    run_id, plan = application.reset(method="rewind", position="TRIM_HORIZON")
    assert again(plan) == 20
    saved = application.api.xcom(application.task(RESET, run_id, "back_up"))
    assert saved["rows"] == 2
    assert not application.api._call("GET", "/dags/kinesis_to_snowflake")["is_paused"]
    assert application.drain() == 20
    assert application.landed == sorted([*range(20), *range(20)])


def test_a_rejected_reset_changes_nothing(application: Application) -> None:
    run_id, _ = application.reset(method="delete_table", answer="Reject")
    assert application.task(RESET, run_id, "apply")["state"] == "skipped"
    assert application.drain() == 0
    assert application.landed == list(range(20))


def test_a_deleted_table_without_approval_loads_again_exactly_what_the_plan_said(
    application: Application,
) -> None:
    _, plan = application.reset(method="delete_table", answer=None)
    assert not application.table_exists
    assert application.drain() == again(plan) == 20
    assert application.landed == sorted([*range(20), *range(20)])


def test_a_lost_table_is_recovered_without_duplicates(application: Application) -> None:
    application.services.dynamodb_client().delete_table(TableName=application.name)
    application.send(5)
    _, plan = application.reset(method="recover", answer=None)
    assert again(plan) == 0
    assert application.drain() == 5
    assert application.landed == list(range(25))


def test_a_rename_makes_the_drain_work_under_the_new_name(application: Application) -> None:
    new_name = f"{application.name}-2"
    _, plan = application.reset(method="rename", new_application_name=new_name, answer=None)
    variable = application.api._call("GET", "/variables/kinesis_to_snowflake_application_name")
    assert variable["value"] == new_name
    assert application.table_exists
    assert application.drain(new_name) == again(plan) == 20
    assert application.landed == sorted([*range(20), *range(20)])


def test_a_cleanup_deletes_only_what_is_named_and_approved(application: Application) -> None:
    dynamodb = application.services.dynamodb_client()
    foreign = f"{application.name}-kcl"
    dynamodb.create_table(
        TableName=foreign,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
    )
    dynamodb.get_waiter("table_exists").wait(TableName=foreign, WaiterConfig={"Delay": 1})
    api = application.api
    run_id = api.trigger(CLEANUP, conf={"named": [foreign]})
    api.wait_for_run(CLEANUP, run_id)
    assert foreign in dynamodb.list_tables()["TableNames"]
    run_id = api.trigger(
        CLEANUP, conf={"named": [foreign], "dry_run": False, "backup_folder": application.backups}
    )
    application.answer(CLEANUP, run_id, "Approve")
    api.wait_for_run(CLEANUP, run_id)
    assert api.xcom(application.task(CLEANUP, run_id, "delete"))["deleted"] == [foreign]
    assert foreign not in dynamodb.list_tables()["TableNames"]
    assert application.table_exists
