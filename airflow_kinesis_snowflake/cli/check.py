"""``check``: test what the promises rest on, on the user's own account."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option, repeated, switch
from airflow_kinesis_snowflake.cli.options import AWS, SNOWFLAKE, aws

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.check.bench import CheckSettings
    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Check an account."""
    # So that it removes what it created when it is told to stop.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with terminal.working("Preparing the checks"):
        from airflow_kinesis_snowflake.check import running

        report = running.run_checks(_settings(options))
    return Answer(report.as_dict(), report.parts(), report.status)


def _settings(options: argparse.Namespace) -> CheckSettings:
    from airflow_kinesis_snowflake.check.bench import CheckSettings
    from airflow_kinesis_snowflake.identifiers import TableName

    return CheckSettings(
        database=options.database,
        table=TableName.parse(options.table) if options.table else None,
        stream=options.stream,
        application=options.application,
        slow=options.slow,
        only=tuple(options.only),
        scratch_table=not options.no_scratch_table,
        left_after=timedelta(minutes=options.left_after),
        snowflake_conn_id=options.snowflake_conn_id,
        aws=aws(options),
        dynamodb_conn_id=options.dynamodb_conn_id,
    )


COMMAND = Command(
    "check",
    run,
    "test on your own account what the promises rest on",
    (
        option(
            "--table",
            help="landing table: check its privileges too, and create the scratch schema in its database",
        ),
        option("--database", help="where to create the scratch schema; default is the table's"),
        option("--stream", help="name or ARN of the Kinesis stream to read from"),
        option("--application", help="check its DynamoDB table"),
        switch("--slow", help="also run checks that take minutes"),
        repeated("--only", metavar="CHECK", help="only the check of this name; may be repeated"),
        switch("--no-scratch-table", help="create no scratch table in DynamoDB"),
        option(
            "--left-after",
            type=float,
            default=120,
            metavar="MINUTES",
            help="age after which others' scratch objects are removed; default is 120",
        ),
        SNOWFLAKE,
        *AWS,
    ),
)
