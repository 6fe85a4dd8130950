"""Reads the state of applications from DynamoDB, without ever waiting long for it."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError

from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
from airflow_kinesis_snowflake.hooks.aws import parameters_of_state
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.maintenance.inspection import inspect_state, inspect_table

try:
    from airflow.sdk.exceptions import AirflowException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
from airflow_kinesis_snowflake.stream.refs import region_of
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.monitoring.drains import Application

log = logging.getLogger(__name__)

# A user is waiting for the page: better no state than a late one. The next refresh tries again.
_IMPATIENT = Config(connect_timeout=2, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 1})
PATIENCE_SECONDS = 8.0
_AT_ONCE = 8
# Errors caused by a service or a connection; anything else is a bug in this package.
UNREADABLE = (KinesisSnowflakeError, AirflowException, BotoCoreError)
_HOOK_SECONDS = 300


@dataclass(frozen=True)
class Access:
    """How a drain accessed AWS, and therefore how the page does.

    :param stream_name: name or ARN of the stream; empty: the application's
    :param aws_conn_id: Airflow connection of type ``aws``
    :param region_name: None: the connection's
    :param dynamodb_conn_id: Airflow connection for the state; None: that of the stream
    """

    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    stream_name: str = ""
    dynamodb_conn_id: str | None = None


@dataclass(frozen=True)
class Reading:
    """The result of reading an application's table.

    :param inspection: None: it couldn't be read
    :param unreadable: why; empty if it was read
    """

    inspection: Inspection | None = None
    unreadable: str = ""


def read_states(applications: Collection[tuple[Application, Access]]) -> dict[Application, Reading]:
    """Read the tables of applications side by side, without asking Kinesis.

    One that can't be read, or not within 8 seconds, has the reason in its reading and doesn't affect the
    others.
    """
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="monitoring")
    try:
        asked = {application: pool.submit(_read, application, access) for application, access in applications}
        wait(asked.values(), timeout=PATIENCE_SECONDS)
        return {application: _come(answer) for application, answer in asked.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _come(answer: Future[Reading]) -> Reading:
    if not answer.done():
        return Reading(unreadable=f"no answer within {PATIENCE_SECONDS:g} s")
    error = answer.exception()
    if error is None:
        return answer.result()
    log.error("The state of an application can't be read", exc_info=error)
    return Reading(unreadable=f"{type(error).__name__}; the API server's log has the details")


def check_state(application: Application, access: Access) -> Reading:
    """Read the table, and compare it with what Kinesis lists."""
    return _read(application, access, with_kinesis=True)


def _read(application: Application, access: Access, *, with_kinesis: bool = False) -> Reading:
    now = now_millis()
    try:
        store, kinesis = hooks_of(application, access, now=now)
        inspection = (
            inspect_state(store, kinesis, now=now)
            if with_kinesis
            else inspect_table(store, application.stream, now=now)
        )
    except UNREADABLE as error:
        return Reading(unreadable=str(error))
    return Reading(inspection)


def hooks_of(
    application: Application, access: Access, *, now: int
) -> tuple[CheckpointStoreHook, KinesisStreamHook]:
    """The hooks of an application's state and stream, with short timeouts.

    :param now: milliseconds since the epoch
    """
    return _hooks(application, access, epoch=now // 1000 // _HOOK_SECONDS)


@lru_cache(maxsize=128)
def _hooks(
    application: Application, access: Access, *, epoch: int
) -> tuple[CheckpointStoreHook, KinesisStreamHook]:
    """Hooks, kept for some minutes: creating an AWS client takes longer than a call.

    :param epoch: a new value gives new hooks, so that a changed connection is noticed
    """
    stream_name = access.stream_name or application.stream
    aws: dict[str, Any] = {
        "aws_conn_id": access.aws_conn_id,
        "region_name": region_of(stream_name, access.region_name),
        "config": _IMPATIENT,
    }
    store = CheckpointStoreHook(application.name, **parameters_of_state(aws, access.dynamodb_conn_id))
    return store, KinesisStreamHook(stream_name, **aws)
