"""Run DAG ``kinesis_to_snowflake`` on the local services, for the demo and the end-to-end test."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.airflow import AirflowApi
    from local.services import LocalServices

DAG_ID = "kinesis_to_snowflake"
BY_HAND_ONLY = {"KINESIS_TO_SNOWFLAKE_SCHEDULE": "none"}


@dataclass(frozen=True)
class Transfer:
    """What one run of the DAG did, as its drains report it and as the services saw it.

    :param workers: drain tasks that loaded something.
    :param records: records committed.
    :param dead_letters: those of them that couldn't be loaded.
    :param shards: shards that were read.
    :param snowflake_logins: connections that were opened to Snowflake meanwhile.
    :param seconds: time from the trigger to the end of the run.
    """

    workers: int
    records: int
    dead_letters: int
    shards: int
    snowflake_logins: int
    seconds: float


def transfer(api: AirflowApi, services: LocalServices, *, conf: Mapping[str, Any] | None = None) -> Transfer:
    """Trigger the DAG, wait for the end of the run and return what it did.

    :param conf: the run's Params; what they don't set comes from Airflow Variables.
    :raises RunFailedError: the run didn't end well.
    """
    api.wait_for_dag(DAG_ID)
    api.unpause(DAG_ID)
    logins = services.snowflake_logins()
    began = time.monotonic()
    run_id = api.trigger(DAG_ID, conf=conf)
    api.wait_for_run(DAG_ID, run_id)
    seconds = time.monotonic() - began
    tasks = api.task_instances(DAG_ID, run_id)
    reports = [api.xcom(task) for task in tasks if task["task_id"] == "drain"]
    return Transfer(
        workers=sum(report["records"] > 0 for report in reports),
        records=sum(report["records"] for report in reports),
        dead_letters=sum(report["dead_letters"] for report in reports),
        shards=len({shard for report in reports for shard in report["shards"]}),
        snowflake_logins=services.snowflake_logins() - logins,
        seconds=seconds,
    )
