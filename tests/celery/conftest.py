"""Airflow as on several machines, and an application that drains numbers with it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.stream.times import now_millis
from local.airflow import LocalAirflow, wait_until
from local.cluster import LocalCluster
from local.transfer import BY_HAND_ONLY, DAG_ID
from tests.faults.fixtures import detour, kinesis_proxy, snowflake_proxy
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.state.shards import ShardState
    from local.airflow import AirflowApi
    from local.services import LocalServices
    from tests.faults.proxy import FaultProxy

__all__ = ["detour", "kinesis_proxy", "snowflake_proxy"]

WORKERS = ("worker-1", "worker-2")
PUT_RECORDS_LIMIT = 500


@pytest.fixture(scope="session")
def airflow(services: LocalServices) -> Iterator[LocalAirflow]:
    """CeleryExecutor with two workers, which run one task each."""
    with LocalCluster() as cluster:
        env = services.airflow_connections() | BY_HAND_ONLY | cluster.airflow_environment()
        workers = [cluster.worker(name) for name in WORKERS]
        with LocalAirflow(env=env, more_parts=workers) as airflow:
            api = airflow.api()
            api.wait_for_dag(DAG_ID)
            api.unpause(DAG_ID)
            yield airflow


@dataclass
class Application:
    """One application that drains one stream of numbers into one table, by runs of the DAG.

    Its drains reach Kinesis and Snowflake through proxies.
    """

    api: AirflowApi
    services: LocalServices
    name: str
    stream: str
    table: str
    aws_conn_id: str
    snowflake_conn_id: str
    sent: int = 0
    runs: list[str] = field(default_factory=list)

    def send(self, count: int) -> None:
        """Put the next numbers into the stream."""
        kinesis = self.services.kinesis_client()
        numbers = range(self.sent, self.sent + count)
        for start in range(0, count, PUT_RECORDS_LIMIT):
            answer = kinesis.put_records(
                StreamName=self.stream,
                Records=[
                    {"PartitionKey": str(number), "Data": json.dumps({"n": number}).encode()}
                    for number in numbers[start : start + PUT_RECORDS_LIMIT]
                ],
            )
            assert answer["FailedRecordCount"] == 0
        self.sent += count

    def start_run(self, *, workers: int = 1) -> str:
        """Trigger the DAG and return the run's id."""
        conf = {
            "stream_name": self.stream,
            "application_name": self.name,
            "table": self.table,
            "aws_conn_id": self.aws_conn_id,
            "snowflake_conn_id": self.snowflake_conn_id,
            "workers": workers,
        }
        run_id = self.api.trigger(DAG_ID, conf=conf)
        self.runs.append(run_id)
        return run_id

    def end_runs(self) -> None:
        """End what a failed test has left running: the DAG has one run at a time."""
        for run_id in self.runs:
            if self.api.final_state(DAG_ID, run_id) is None:
                self.api.fail_run(DAG_ID, run_id)

    def finish(self, run_id: str) -> dict[str, Any]:
        """Wait for the good end of a run and return its totals."""
        self.api.wait_for_run(DAG_ID, run_id)
        (summary,) = self.tasks(run_id, "summarise")
        return dict(self.api.xcom(summary))

    def tasks(self, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """The instances of one task of a run."""
        return [task for task in self.api.task_instances(DAG_ID, run_id) if task["task_id"] == task_id]

    def the_drain(self, run_id: str) -> dict[str, Any]:
        """The only drain of a run."""
        (drain,) = self.tasks(run_id, "drain")
        return drain

    def exit_code(self, run_id: str) -> int:
        """How the process of the drain's first try ended, once it has.

        1: by itself; -9: killed by Airflow, five seconds after it was told to stop.
        """
        first_try = {**self.the_drain(run_id), "try_number": 1}

        def logged() -> int | None:
            events = map(json.loads, self.api.log(first_try).splitlines())
            return next((int(event["exit_code"]) for event in events if "exit_code" in event), None)

        return wait_until(logged, timeout=30, what="the end of the drain's process")

    @property
    def shards(self) -> list[ShardState]:
        """The state rows; none before the application's first drain."""
        store = CheckpointStoreHook(self.name)
        return list(store.read_state(self.stream).shards.values()) if store.exists() else []

    @property
    def owners(self) -> set[str | None]:
        """Who leases the shards; None is among them when a shard is free."""
        return {shard.lease_owner for shard in self.shards}

    def wait_until_released(self) -> None:
        """Return when no shard is leased. A lease that nobody releases keeps its owner, expired or not."""
        wait_until(lambda: self.owners == {None} or None, timeout=30, what="the release of the leases")

    def extend_leases(self, millis: int) -> None:
        """Let the leases expire so much later, whoever holds them."""
        store = CheckpointStoreHook(self.name)
        for shard in self.shards:
            assert shard.lease_owner is not None
            expiry = now_millis() + millis
            store.renew_lease(
                self.stream, shard.shard_id, owner=shard.lease_owner, expiry=expiry, now=now_millis()
            )

    @property
    def landed(self) -> list[int]:
        """The numbers in the landing table, sorted; a number that landed twice is there twice."""
        with (
            snowflake.connector.connect(**self.services.snowflake_parameters()) as connection,
            connection.cursor() as cursor,
        ):
            rows = fetch(cursor, f'SELECT "RECORD_CONTENT":n::NUMBER FROM {self.table}')
        return sorted(int(row[0]) for row in rows)


@pytest.fixture
def make_application(
    services: LocalServices,
    airflow: LocalAirflow,
    make_stream: Callable[..., str],
    application_name: str,
    table: str,
    kinesis_proxy: FaultProxy,
    snowflake_proxy: FaultProxy,
    detour: LocalServices,
) -> Iterator[Callable[..., Application]]:
    """Function that makes an application over a new stream with so many shards."""
    made = []

    def make(*, shards: int) -> Application:
        api = airflow.api()
        ids = {"aws": f"aws-{application_name}", "snowflake": f"snowflake-{application_name}"}
        variables = detour.airflow_connections()
        for name in variables.keys() - {"SSL_CERT_FILE"}:
            connection = json.loads(variables[name])
            api.add_connection(ids[connection["conn_type"]], connection)
        application = Application(
            api=api,
            services=services,
            name=application_name,
            stream=make_stream(shards),
            table=table,
            aws_conn_id=ids["aws"],
            snowflake_conn_id=ids["snowflake"],
        )
        made.append(application)
        return application

    yield make
    for application in made:
        application.end_runs()
