"""A worker dies, or comes back from the dead, at any point of a load: nothing is lost or lands twice."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.exceptions import ServiceUnavailableError
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.faults.actions import Hold, cut
from tests.workers import COPY_POINTS, STREAMING_POINTS, Job, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.services import LocalServices
    from tests.faults.proxy import FaultProxy

    from .conftest import Pipeline


pytest_plugins = ["tests.faults.fixtures"]


@pytest.fixture
def start_worker(services: LocalServices) -> Callable[..., WorkerProcess]:
    """Function that starts a worker on a pipeline in a process of its own."""

    def start(pipeline: Pipeline, *, task: str, **job: Any) -> WorkerProcess:
        return WorkerProcess(
            Job(
                stream=pipeline.stream,
                application=pipeline.application,
                table=str(pipeline.table),
                task=task,
                connections=services.airflow_connections(),
                **job,
            )
        )

    return start


@pytest.fixture(scope="module")
def lasting(make_lasting_pipeline: Callable[..., Pipeline]) -> dict[str, Pipeline]:
    """By sink, a pipeline of two shards with a drain behind it."""
    lasting = {sink: make_lasting_pipeline(shards=2) for sink in ("copy", "streaming")}
    for sink, pipeline in lasting.items():
        pipeline.send(100)
        pipeline.drain(sink=sink).run()
    return lasting


@pytest.fixture
def loading(lasting: dict[str, Pipeline]) -> Pipeline:
    """The pipeline that loads by COPY, with records before it, all of which the test loads."""
    return with_records(lasting["copy"])


@pytest.fixture
def streaming(lasting: dict[str, Pipeline]) -> Pipeline:
    """The pipeline that streams, with records before it, all of which the test loads."""
    return with_records(lasting["streaming"])


def with_records(pipeline: Pipeline) -> Pipeline:
    """Send records, to a pipeline that knows of no worker that another test has killed."""
    for worker in pipeline.state.workers:
        pipeline.store.leave(pipeline.stream, worker)
    pipeline.send(100)
    return pipeline


@pytest.mark.parametrize("point", COPY_POINTS)
def test_a_retry_after_a_death_loads_every_record_once(
    loading: Pipeline, start_worker: Callable[..., WorkerProcess], point: str
) -> None:
    died = start_worker(loading, task="task", signals={point: signal.SIGKILL})
    assert died.wait() == -signal.SIGKILL

    report = loading.drain(worker=Worker("task", "2")).run()

    assert loading.landed == loading.sent
    assert report.takeovers == 2


@pytest.mark.parametrize("point", STREAMING_POINTS)
def test_a_retry_after_a_death_streams_every_record_once(
    streaming: Pipeline, start_worker: Callable[..., WorkerProcess], point: str
) -> None:
    died = start_worker(streaming, task="task", sink="streaming", signals={point: signal.SIGKILL})
    assert died.wait() == -signal.SIGKILL

    report = streaming.drain(worker=Worker("task", "2"), sink="streaming").run()

    assert streaming.landed == streaming.sent
    assert report.takeovers == 2


def test_another_worker_waits_for_the_lease_of_a_dead_one_and_reads_the_offsets(
    make_pipeline: Callable[..., Pipeline], start_worker: Callable[..., WorkerProcess]
) -> None:
    pipeline = make_pipeline(shards=1)
    pipeline.send(100)
    died = start_worker(pipeline, task="one", signals={"checkpoint": signal.SIGKILL})
    assert died.wait() == -signal.SIGKILL
    assert pipeline.landed == pipeline.sent
    pipeline.send(100)
    [shard] = pipeline.state.shards.values()
    assert shard.lease_owner is not None
    now = now_millis()
    pipeline.store.renew_lease(
        pipeline.stream, shard.shard_id, owner=shard.lease_owner, expiry=now + 2_000, now=now
    )

    report = pipeline.drain(worker=Worker("two", "0")).run()

    assert pipeline.landed == pipeline.sent
    assert (report.records, report.takeovers) == (100, 1)


@pytest.mark.parametrize("point", ["upload", "copy", "offsets", "commit", "checkpoint"])
def test_a_worker_that_wakes_after_its_retry_finished_changes_nothing(
    loading: Pipeline, start_worker: Callable[..., WorkerProcess], point: str
) -> None:
    zombie = start_worker(loading, task="task", signals={point: signal.SIGSTOP})
    zombie.wait_until_paused()

    loading.drain(worker=Worker("task", "2")).run()
    assert loading.landed == loading.sent
    state = loading.state.shards

    zombie.send(signal.SIGCONT)
    zombie.wait()

    assert loading.landed == loading.sent
    assert loading.state.shards == state


def test_a_stopped_drain_fails_and_the_next_one_goes_on_at_once(
    make_pipeline: Callable[..., Pipeline], start_worker: Callable[..., WorkerProcess]
) -> None:
    pipeline = make_pipeline(shards=2)
    pipeline.send(100)
    worker = start_worker(pipeline, task="one", signals={"upload": signal.SIGTERM})

    assert "DrainStoppedError" in worker.error()
    assert {shard.lease_owner for shard in pipeline.state.shards.values()} == {None}
    assert pipeline.state.workers == {}

    pipeline.drain(worker=Worker("two", "0")).run()
    assert pipeline.landed == pipeline.sent


def test_a_drain_that_cannot_reach_dynamodb_fails_when_its_leases_run_out(
    make_pipeline: Callable[..., Pipeline],
    kinesis_proxy: FaultProxy,
    dynamodb_proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("LEASE_SECONDS", 2.0), ("RENEW_SECONDS", 0.5), ("RETRY_SECONDS", 0.5)):
        monkeypatch.setattr(f"airflow_kinesis_snowflake.engine.leases.{name}", seconds)
    one_try = Config(retries={"mode": "standard", "total_max_attempts": 1})
    monkeypatch.setattr("airflow_kinesis_snowflake.hooks.checkpoint._DEFAULTS", one_try)
    pipeline = make_pipeline(shards=2)
    pipeline.send(100)
    with Hold() as hold, ThreadPoolExecutor() as threads:
        kinesis_proxy.add(hold, operation="GetRecords")
        running = threads.submit(pipeline.drain().run)
        hold.wait()
        outage = dynamodb_proxy.add(cut)
        with pytest.raises(ServiceUnavailableError):
            running.result(timeout=60)
        outage.remove()

    pipeline.drain().run()
    assert pipeline.landed == pipeline.sent
