"""A drain that is stopped or killed in a real Airflow: nothing is lost, nothing lands twice."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from local.airflow import RunFailedError, wait_until
from tests.faults.actions import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.celery.conftest import Application
    from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.celery

STARTED_SECONDS = 120
AN_HOUR = 3_600_000


@pytest.fixture
def application(make_application: Callable[..., Application]) -> Application:
    application = make_application(shards=2)
    application.send(100)
    return application


def test_a_drain_marked_failed_while_it_reads_is_stopped_and_the_next_run_loads_all(
    application: Application, kinesis_proxy: FaultProxy
) -> None:
    with Hold() as hold:
        kinesis_proxy.add(hold, operation="GetRecords")
        run_id = application.start_run()
        hold.wait(STARTED_SECONDS)
        application.api.mark_failed(application.the_drain(run_id))
        application.wait_until_released()
    with pytest.raises(RunFailedError, match="was told to stop"):
        application.finish(run_id)
    assert application.the_drain(run_id)["state"] == "failed"
    assert application.exit_code(run_id) == 1

    totals = application.finish(application.start_run())

    assert (totals["records"], totals["takeovers"]) == (100, 0)
    assert application.landed == list(range(100))


def test_a_drain_marked_failed_while_it_commits_is_stopped_and_the_next_run_loads_only_what_came_later(
    application: Application, snowflake_proxy: FaultProxy
) -> None:
    with Hold(answer=True) as hold:
        snowflake_proxy.add(hold, sql="^COMMIT", skip=1)  # The first is that of the new rows of the offsets.
        run_id = application.start_run()
        hold.wait(STARTED_SECONDS)
        application.api.mark_failed(application.the_drain(run_id))
        application.wait_until_released()
    with pytest.raises(RunFailedError, match="was told to stop"):
        application.finish(run_id)
    assert application.the_drain(run_id)["state"] == "failed"
    assert application.exit_code(run_id) == 1
    application.send(20)

    totals = application.finish(application.start_run())

    assert totals["records"] == 20
    assert application.landed == list(range(120))


def test_a_drain_that_is_cleared_while_it_runs_is_stopped_and_runs_again(
    application: Application, kinesis_proxy: FaultProxy
) -> None:
    with Hold() as hold:
        kinesis_proxy.add(hold, operation="GetRecords")
        run_id = application.start_run()
        hold.wait(STARTED_SECONDS)
        before = application.owners
        application.api.clear(application.the_drain(run_id))
        wait_until(lambda: application.owners.isdisjoint(before) or None, timeout=60, what="the stop")

    totals = application.finish(run_id)

    assert application.exit_code(run_id) == 1
    assert totals["records"] == 100
    assert application.landed == list(range(100))


def test_a_drain_whose_process_is_told_to_stop_fails_and_its_retry_loads_all(
    application: Application, kinesis_proxy: FaultProxy
) -> None:
    with Hold() as hold:
        kinesis_proxy.add(hold, operation="GetRecords")
        run_id = application.start_run()
        hold.wait(STARTED_SECONDS)
        os.kill(application.the_drain(run_id)["pid"], signal.SIGTERM)
        application.wait_until_released()

    totals = application.finish(run_id)

    assert application.the_drain(run_id)["try_number"] == 2
    assert (totals["records"], totals["takeovers"]) == (100, 0)
    assert application.landed == list(range(100))


def test_the_retry_of_a_killed_drain_takes_its_leases_over_at_once_and_loads_only_what_came_later(
    application: Application, snowflake_proxy: FaultProxy
) -> None:
    with Hold(answer=True) as hold:
        snowflake_proxy.add(hold, sql="^COMMIT", skip=1)  # The first is that of the new rows of the offsets.
        run_id = application.start_run()
        hold.wait(STARTED_SECONDS)
        os.kill(application.the_drain(run_id)["pid"], signal.SIGKILL)
    application.extend_leases(AN_HOUR)
    application.send(20)

    totals = application.finish(run_id)

    assert application.the_drain(run_id)["try_number"] == 2
    assert (totals["records"], totals["takeovers"]) == (20, 2)
    assert application.landed == list(range(120))
