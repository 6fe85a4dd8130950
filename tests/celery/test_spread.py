"""DAG ``kinesis_to_snowflake`` with several workers spreads a stream over Celery workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.airflow import wait_until
from tests.celery.conftest import WORKERS
from tests.faults.actions import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.celery.conftest import Application
    from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.celery


def test_two_celery_workers_share_the_shards_and_load_every_record_once(
    make_application: Callable[..., Application], kinesis_proxy: FaultProxy
) -> None:
    application = make_application(shards=8)
    application.send(4_000)
    # No record is read until both have leases, however much later than the other one of them starts.
    with Hold() as hold:
        kinesis_proxy.add(hold, operation="GetRecords")
        run_id = application.start_run(workers=2)
        wait_until(
            lambda: len(application.owners - {None}) == 2 or None, timeout=120, what="leases of two workers"
        )

    totals = application.finish(run_id)

    drains = application.tasks(run_id, "drain")
    reports = [application.api.xcom(drain) for drain in drains]
    assert {drain["hostname"] for drain in drains} == set(WORKERS)
    assert all(report["records"] > 0 for report in reports)
    assert sum(report["records"] for report in reports) == totals["records"] == 4_000
    assert (totals["workers"], totals["shards"], totals["dead_letters"]) == (2, 8, 0)
    assert application.landed == list(range(4_000))
