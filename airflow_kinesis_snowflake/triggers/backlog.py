"""Starts drains when the stream has new records, instead of by the clock."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
from airflow_kinesis_snowflake.operators.settings import number
from airflow_kinesis_snowflake.sources.backlog import BacklogWatch, RefireBackoff
from airflow_kinesis_snowflake.stream.times import now_millis
from airflow_kinesis_snowflake.triggers.base import DrainedStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASK_AGAIN_SECONDS = 1.0


class KinesisBacklogTrigger(BaseEventTrigger):
    """Fires when a stream has something that an application hasn't drained; for ``AssetWatcher``.

    Records, new shards and shards to close count, as does an application that hasn't started. The content of
    records isn't inspected, and none of them passes through Airflow.

    Nothing is fired while a worker holds a lease, because then a drain is under way. After a drain that made
    progress, the next event comes as soon as there is something again. If there was no progress since the
    last event, because the drain fails, or its DAG is paused or waits for a slot, the event is repeated after
    10 minutes, then after 20, 40, and every hour. Fired events are remembered only in the triggerer: when it
    is restarted, an event may come once too often, and the drain it starts finds nothing.

    An AWS error is logged when it first occurs, and the check is repeated at the next poll.

    :param stream_name: name of the Kinesis stream, or its ARN if it is of another account or region
    :param application_name: whose checkpoints count: the name of the DynamoDB table with the state
    :param poll_seconds: time between two checks; for the cost of a check see
        :class:`~airflow_kinesis_snowflake.sources.backlog.BacklogWatch`
    :param aws_conn_id: Airflow connection of type ``aws``
    :param region_name: AWS region of the stream, default is that of its ARN, or else the connection's
    :param dynamodb_conn_id: Airflow connection of type ``aws`` for the state, whose region counts then;
        default is ``aws_conn_id`` in the stream's region
    :param verify: whether or with which CA bundle to check certificates of AWS
    :param botocore_config: arguments of ``botocore.config.Config``
    :raises InvalidSettingError: ``poll_seconds`` is below 1, or another value is invalid
    """

    def __init__(
        self,
        *,
        stream_name: str,
        application_name: str,
        poll_seconds: float = 30.0,
        aws_conn_id: str | None = "aws_default",
        dynamodb_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poll_seconds = number(minimum=1).read("poll_seconds", poll_seconds)
        self.source = DrainedStream(
            stream_name=stream_name,
            application_name=application_name,
            aws_conn_id=aws_conn_id,
            dynamodb_conn_id=dynamodb_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of the class, and its parameters."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            **self.source.settings,
            "poll_seconds": self.poll_seconds,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check repeatedly, forever."""
        watch: BacklogWatch | None = None
        patience = RefireBackoff()
        complaint = ""
        while True:
            wait = self.poll_seconds
            try:
                if watch is None:
                    kinesis, store = await self.source.aopen()
                    watch = BacklogWatch(kinesis=kinesis, store=store)
                backlog = await asyncio.to_thread(watch.look, now=now_millis())
            except (KinesisSnowflakeError, AirflowException) as error:
                # If the trigger ended, Airflow would only start it again at once.
                if str(error) != complaint:
                    self.log.error("Can't see whether %s has something to drain: %s", self.source, error)
                complaint = str(error)
            else:
                complaint = ""
                if backlog.reason and patience.due(backlog.mark, now=time.monotonic()):
                    self.log.info("There is something to drain for %s: %s", self.source, backlog.reason)
                    yield TriggerEvent(self._payload(backlog.reason))  # type: ignore[no-untyped-call]
                if backlog.unclear:
                    wait = min(wait, ASK_AGAIN_SECONDS)
            await asyncio.sleep(wait)

    def _payload(self, reason: str) -> dict[str, str]:
        settings = self.source.settings
        return {
            "stream_name": settings["stream_name"],
            "application_name": settings["application_name"],
            "reason": reason,
        }
