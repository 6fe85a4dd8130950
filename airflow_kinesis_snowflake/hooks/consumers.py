"""The consumers that are registered with a Kinesis stream (enhanced fan-out)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_kinesis_snowflake.exceptions import StreamNotFoundError
from airflow_kinesis_snowflake.hooks.aws import AwsHook, translated
from airflow_kinesis_snowflake.stream.refs import StreamRef


@dataclass(frozen=True)
class StreamConsumer:
    """A registered consumer."""

    stream: str
    name: str
    arn: str


class StreamConsumersHook(AwsHook):
    """Lists and deregisters consumers. Raises the errors of :mod:`airflow_kinesis_snowflake.exceptions` only.

    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    """

    def __init__(self, **aws: Any) -> None:
        super().__init__(client_type="kinesis", **aws)

    def list(self, stream_name: str) -> tuple[StreamConsumer, ...]:
        """Consumers of a stream; none if there is no such stream.

        Needs ``kinesis:ListStreamConsumers``, and for a name ``kinesis:DescribeStreamSummary``.

        :param stream_name: a name, or the ARN of a stream of the hook's region
        """
        try:
            with translated(
                doing="kinesis:ListStreamConsumers", resource=f"stream {stream_name!r} {self.where}"
            ):
                pages = self._client.get_paginator("list_stream_consumers").paginate(
                    StreamARN=StreamRef.parse(stream_name).arn or self._arn(stream_name)
                )
                return tuple(
                    StreamConsumer(stream_name, consumer["ConsumerName"], consumer["ConsumerARN"])
                    for page in pages
                    for consumer in page["Consumers"]
                )
        except StreamNotFoundError:
            return ()

    def deregister(self, consumer: StreamConsumer) -> None:
        """Deregister a consumer, if it is there. Needs ``kinesis:DeregisterStreamConsumer``."""
        with (
            suppress(StreamNotFoundError),
            translated(
                doing="kinesis:DeregisterStreamConsumer", resource=f"consumer {consumer.name} {self.where}"
            ),
        ):
            self._client.deregister_stream_consumer(ConsumerARN=consumer.arn)

    def _arn(self, stream_name: str) -> str:
        summary = self._client.describe_stream_summary(StreamName=stream_name)
        return str(summary["StreamDescriptionSummary"]["StreamARN"])

    @property
    def _client(self) -> Any:
        return self.get_conn()
