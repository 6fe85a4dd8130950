"""``list``: list the applications that have state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command
from airflow_kinesis_snowflake.cli.options import AWS, aws_of_state, open_store
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """List the applications of an account and region."""
    with terminal.working("Looking for tables"):
        from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
        from airflow_kinesis_snowflake.maintenance.listing import list_applications, listing_parts

        listing = list_applications(
            DynamoDBTablesHook(**aws_of_state(options)),
            open_store=partial(open_store, options),
            now=now_millis(),
        )
    return Answer(listing.as_dict(), listing_parts(listing))


COMMAND = Command(
    "list", run, "list the applications with state in an account and region, with their progress", AWS
)
