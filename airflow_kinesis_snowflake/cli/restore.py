"""``restore``: put back the rows of a backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option
from airflow_kinesis_snowflake.cli.options import (
    APPLICATION,
    AWS,
    CHANGE,
    FORCE,
    SNOWFLAKE,
    aws_of_state,
    open_snowflake,
    open_store,
)
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Compare the backup with the current rows, ask, and put it back."""
    with terminal.working("Reading the backup"):
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.maintenance.backup import Backup, plan_restore, restore, restore_parts

        store = open_store(options)
        backup = Backup.decode(BackupFilesHook(**aws_of_state(options)).read(options.file))
        plan = plan_restore(backup, store=store)
    planned = restore_parts(plan, now=now_millis(), with_table=bool(options.table))
    if options.dry_run:
        return Answer({"plan": plan.as_dict()}, planned)
    terminal.confirm(planned, "Put these rows back?", yes=options.yes)
    with terminal.working("Putting the rows back"), open_snowflake(options) as snowflake:
        done = restore(
            backup,
            store=store,
            snowflake=snowflake,
            owner=f"restore#{backup.application}/{backup.saved_at}",
            clock=now_millis,
            force=options.force,
        )
    text = f"{done['restored']} rows were put back, {done['removed']} removed."
    return Answer({**done, "plan": plan.as_dict()}, [*planned, text] if options.yes else [text])


COMMAND = Command(
    "restore",
    run,
    "restore the rows of a backup, for all streams of the application",
    (
        APPLICATION,
        option("--file", required=True, help="backup: an absolute path, or s3://bucket/prefix/name.json"),
        option("--table", help="landing table: reopen what a reset has closed, which drains need"),
        FORCE,
        *CHANGE,
        SNOWFLAKE,
        *AWS,
    ),
)
