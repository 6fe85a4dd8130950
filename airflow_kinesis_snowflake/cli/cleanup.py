"""``cleanup``: delete tables of applications that nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option, repeated
from airflow_kinesis_snowflake.cli.options import (
    AWS,
    CHANGE,
    FOLDER,
    SNOWFLAKE,
    aws,
    aws_of_state,
    open_snowflake,
)
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal
    from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Plan the cleanup, ask, and carry it out."""
    if not options.dry_run and not options.folder:
        raise InvalidSettingError(
            "Give --folder or --dry-run: tables are saved there before they are deleted"
        )
    with terminal.working("Looking for tables"):
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
        from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
        from airflow_kinesis_snowflake.maintenance.cleanup.apply import clean_up
        from airflow_kinesis_snowflake.maintenance.cleanup.plan import cleanup_parts, plan_cleanup

        tables, consumers = DynamoDBTablesHook(**aws_of_state(options)), StreamConsumersHook(**aws(options))
        files = BackupFilesHook(**aws_of_state(options))
        if not options.dry_run:
            files.try_out(options.folder)
        with open_snowflake(options, count=False) as snowflake:
            plan = plan_cleanup(
                _rules(options),
                tables=tables,
                consumers=consumers,
                snowflake=snowflake,
                streams=options.stream,
                clock=now_millis,
            )
    planned = cleanup_parts(plan)
    if options.dry_run or plan.changes_nothing:
        return Answer({"plan": plan.as_dict()}, planned)
    terminal.confirm(planned, "Delete these?", yes=options.yes)
    with terminal.working("Deleting"), open_snowflake(options) as snowflake:
        done = clean_up(
            plan,
            tables=tables,
            consumers=consumers,
            files=files,
            folder=options.folder,
            snowflake=snowflake,
            clock=now_millis,
        )
    text = (
        f"{len(done['deleted'])} tables and {done['offsets']} offsets were deleted, "
        f"{done['channels']} channels dropped, {len(done['deregistered'])} consumers deregistered, and "
        f"{len(done['kept'])} tables kept because they were used since the plan."
    )
    return Answer({**done, "plan": plan.as_dict()}, [*planned, text] if options.yes else [text])


def _rules(options: argparse.Namespace) -> CleanupRules:
    from airflow_kinesis_snowflake.hooks.airflow_api import AirflowApiHook
    from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules

    lately = AirflowApiHook(options.airflow_conn_id).applications() if options.airflow_conn_id else ()
    return CleanupRules(
        days=options.days,
        used=frozenset({*options.used, *lately}),
        named=frozenset(options.named),
        most=options.most,
    )


COMMAND = Command(
    "cleanup",
    run,
    "find the tables of applications that nobody needs any more, and delete them",
    (
        option("--days", type=float, default=30, help="age from which a table is stale; default is 30"),
        repeated("--used", metavar="APPLICATION", help="application to keep in any case; may be repeated"),
        repeated(
            "--named",
            metavar="APPLICATION",
            help="application whose tables may be deleted although this package didn't create them; "
            "may be repeated",
        ),
        option("--most", type=int, default=10, help="tables to delete in one run; default is 10"),
        repeated("--stream", metavar="STREAM", help="check its registered consumers too; may be repeated"),
        option("--table", help="landing table: also delete offsets and files that nobody needs any more"),
        FOLDER,
        option(
            "--airflow-conn-id",
            default="",
            help="connection to Airflow's API, which knows which applications its tasks used recently",
        ),
        *CHANGE,
        SNOWFLAKE,
        *AWS,
    ),
)
