"""How triggers access AWS without blocking the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_kinesis_snowflake.operators.settings import AWS, STREAM, TEXT, aws_parameters, read
from airflow_kinesis_snowflake.stream.refs import region_of

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook


class DrainedStream:
    """A stream and the application that drains it, as triggers name them.

    :param stream_name: name of the Kinesis stream, or its ARN if it is of another account or region
    :param application_name: the name of the DynamoDB table with its state
    :param aws_conn_id: Airflow connection of type ``aws``
    :param region_name: AWS region of the stream, default is that of its ARN, or else the connection's
    :param dynamodb_conn_id: Airflow connection of type ``aws`` for the state, whose region counts then;
        default is ``aws_conn_id`` in the stream's region
    :param verify: whether or with which CA bundle to check certificates of AWS
    :param botocore_config: arguments of ``botocore.config.Config``
    :raises InvalidSettingError: one of them is invalid
    """

    def __init__(
        self,
        *,
        stream_name: str,
        application_name: str,
        aws_conn_id: str | None = "aws_default",
        dynamodb_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        self.settings = read(
            {"stream_name": STREAM, "application_name": TEXT, **AWS},
            {
                "stream_name": stream_name,
                "application_name": application_name,
                "aws_conn_id": aws_conn_id,
                "dynamodb_conn_id": dynamodb_conn_id,
                "region_name": region_name,
                "verify": verify,
                "botocore_config": botocore_config,
            },
        )
        region_of(self.settings["stream_name"], self.settings["region_name"])

    def open(self) -> tuple[KinesisStreamHook, CheckpointStoreHook]:
        """The hooks of stream and state, with their connection looked up.

        :raises InvalidSettingError: a name can't be one, or there is no region
        """
        from airflow_kinesis_snowflake.hooks.aws import parameters_of_state
        from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
        from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook

        aws = aws_parameters(self.settings)
        kinesis = KinesisStreamHook(self.settings["stream_name"], **aws)
        of_state = parameters_of_state(aws, self.settings["dynamodb_conn_id"])
        store = CheckpointStoreHook(self.settings["application_name"], **of_state)
        kinesis.place()
        store.get_conn()
        return kinesis, store

    async def aopen(self) -> tuple[KinesisStreamHook, CheckpointStoreHook]:
        """The same, from the triggerer's loop.

        Airflow answers a connection lookup through that loop, and before 3.2 only on threads created by
        asgiref. Everything after the lookup may run on any thread.
        """
        return await sync_to_async(self.open)()

    def __str__(self) -> str:
        return f"application {self.settings['application_name']} on stream {self.settings['stream_name']}"
