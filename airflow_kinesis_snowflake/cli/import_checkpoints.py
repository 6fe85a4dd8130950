"""``import``: take over the checkpoints of another consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option
from airflow_kinesis_snowflake.cli.options import (
    APPLICATION,
    AWS,
    CHANGE,
    FORCE,
    STREAM,
    aws_of_state,
    open_store,
    open_stream,
)
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Plan the import, ask, and carry it out."""
    with terminal.working(f"Reading {options.source}"):
        from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
        from airflow_kinesis_snowflake.maintenance.takeover.apply import apply_import
        from airflow_kinesis_snowflake.maintenance.takeover.plan import import_parts, plan_import

        store = open_store(options)
        plan = plan_import(
            source=options.source,
            kinesis=open_stream(options),
            tables=DynamoDBTablesHook(**aws_of_state(options)),
            store=store,
            now=now_millis(),
            timestamp=options.timestamp,
            force=options.force,
        )
    planned = import_parts(plan)
    if options.dry_run:
        return Answer({"plan": plan.as_dict()}, planned)
    terminal.confirm(planned, "Import these checkpoints?", yes=options.yes)
    with terminal.working("Writing the rows"):
        done = apply_import(plan, store=store, clock=now_millis)
    text = f"{done['created']} rows were written, {done['there']} existed already."
    return Answer({**done, "plan": plan.as_dict()}, [*planned, text] if options.yes else [text])


COMMAND = Command(
    "import",
    run,
    "take over from another consumer's table",
    (
        APPLICATION,
        STREAM,
        option("--source", required=True, help="table of KCL, Openflow or Redpanda Connect"),
        option("--timestamp", help="for leases at AT_TIMESTAMP: ISO-8601 with a time zone"),
        FORCE._replace(settings={**FORCE.settings, "help": "import from a live consumer too"}),
        *CHANGE,
        *AWS,
    ),
)
