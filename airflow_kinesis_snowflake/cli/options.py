"""Options that commands share, and the hooks made from them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.cli.command import option, switch
from airflow_kinesis_snowflake.stream.refs import region_of

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

OUTPUT = (
    option("--output", choices=("table", "json"), default="table", help="default is table"),
    switch("--verbose", help="show the log of Airflow and its libraries"),
)
AWS = (
    option("--aws-conn-id", default="aws_default", help="Airflow connection; default is aws_default"),
    option("--dynamodb-conn-id", help="Airflow connection for the state, if it is elsewhere than the stream"),
    option("--aws-region", help="of the stream; default is that of its ARN, or the connection's"),
    *OUTPUT,
)
APPLICATION = option("--application", required=True, help="also the name of its DynamoDB table")
STREAM = option("--stream", required=True, help="name or ARN of the Kinesis stream")
SNOWFLAKE = option(
    "--snowflake-conn-id",
    default="snowflake_default",
    help="Airflow connection; default is snowflake_default",
)
FOLDER = option("--folder", help="where backups go: an absolute path, or s3://bucket/prefix")
FORCE = switch("--force", help="take leases away from workers that may still be reading")
CHANGE = (
    switch("--dry-run", help="only print what would be done"),
    switch("--yes", help="don't ask before changing anything"),
)


def aws(options: argparse.Namespace) -> dict[str, Any]:
    """How the hook of a stream accesses AWS."""
    stream = getattr(options, "stream", None)
    region = region_of(stream if isinstance(stream, str) else None, options.aws_region)
    return {"aws_conn_id": options.aws_conn_id, "region_name": region}


def aws_of_state(options: argparse.Namespace) -> dict[str, Any]:
    """How the hooks of state and backups access AWS."""
    from airflow_kinesis_snowflake.hooks.aws import parameters_of_state

    return parameters_of_state(aws(options), options.dynamodb_conn_id)


def open_store(options: argparse.Namespace, application: str | None = None) -> CheckpointStoreHook:
    """The state of an application; by default that of the option."""
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook

    return CheckpointStoreHook(application or options.application, **aws_of_state(options))


def open_stream(options: argparse.Namespace) -> KinesisStreamHook:
    """The stream given as an option."""
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook

    return KinesisStreamHook(options.stream, **aws(options))


def open_snowflake(
    options: argparse.Namespace, *, count: bool = True
) -> AbstractContextManager[SnowflakeState | None]:
    """What Snowflake has, over a session that ends with the block; None if no table is named."""
    if not options.table:
        return nullcontext()
    from airflow_kinesis_snowflake.maintenance.snowflake_state import open_snowflake_state

    return open_snowflake_state(options.table, snowflake_conn_id=options.snowflake_conn_id, count=count)
