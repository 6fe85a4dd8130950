"""``reset``: change where an application continues."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.cli.backup import backup_text
from airflow_kinesis_snowflake.cli.command import Answer, Command, option, repeated, switch
from airflow_kinesis_snowflake.cli.options import (
    APPLICATION,
    AWS,
    CHANGE,
    FOLDER,
    FORCE,
    SNOWFLAKE,
    STREAM,
    aws_of_state,
    loaded,
    open_store,
    open_stream,
)
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.methods import Method
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal
    from airflow_kinesis_snowflake.maintenance.reset import ResetPlan, ResetRequest


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Plan the reset, ask, save the rows, carry out the plan, and verify the result."""
    if not options.dry_run and not options.folder:
        raise InvalidSettingError("Give --folder or --dry-run: the rows are saved there before they change")
    with terminal.working("Making the plan"):
        from airflow_kinesis_snowflake.maintenance.reset import plan_parts

        plan = _plan(options)
    planned = plan_parts(plan)
    if options.dry_run:
        return Answer({"plan": plan.as_dict()}, planned)
    terminal.confirm(planned, f"Reset {options.application} on {options.stream}?", yes=options.yes)
    with terminal.working("Carrying out the plan"):
        saved, done = _carry_out(plan, options)
    counts = ", ".join(f"{action} {count}" for action, count in sorted(done.items()))
    parts = [
        backup_text(saved),
        f"The reset is done. Shards by what was done: {counts or 'none'}.",
        _afterwards(plan),
    ]
    data = {"plan": plan.as_dict(), "backup": saved, "done": done}
    return Answer(data, [*planned, *parts] if options.yes else parts)


def _plan(options: argparse.Namespace) -> ResetPlan:
    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.maintenance.backup import try_out
    from airflow_kinesis_snowflake.maintenance.planning import plan_reset

    request = _request(options)
    if not options.dry_run:
        try_out(open_store(options), BackupFilesHook(**aws_of_state(options)), folder=options.folder)
    with loaded(options) as snowflake:
        return plan_reset(
            request,
            store=open_store(options),
            kinesis=open_stream(options),
            loaded=snowflake,
            open_store=partial(open_store, options),
            now=now_millis(),
        )


def _request(options: argparse.Namespace) -> ResetRequest:
    from airflow_kinesis_snowflake.maintenance.reset import ResetRequest

    return ResetRequest(
        application=options.application,
        stream=open_stream(options).stream_name,
        method=Method(options.method),
        shards=tuple(options.shard),
        position=options.position,
        new_application=options.new_application,
        initial_position=options.initial_position,
        trust_snowflake=options.trust_snowflake,
        force=options.force,
    )


def _carry_out(plan: ResetPlan, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int]]:
    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.maintenance.backup import back_up
    from airflow_kinesis_snowflake.maintenance.resetting import Resetting, verify_reset

    store = open_store(options)
    saved = back_up(store, BackupFilesHook(**aws_of_state(options)), folder=options.folder, now=now_millis())
    with loaded(options) as snowflake:
        resetting = Resetting(plan, store=store, loaded=snowflake, clock=now_millis)
        done = resetting.run(open_store=partial(open_store, options), remember=_leave_to_the_user)
    verify_reset(plan, store=store, kinesis=open_stream(options), now=now_millis())
    return saved, dict(done)


def _leave_to_the_user(_: str) -> None:
    """Only the user knows where the drain's application name is set; :func:`_afterwards` asks for it."""


def _afterwards(plan: ResetPlan) -> str:
    name = plan.request.new_application
    if name is None:
        return ""
    return (
        f"Now let the drain use application_name={name}. For the DAG kinesis_to_snowflake: "
        f"airflow variables set kinesis_to_snowflake_application_name {name}"
    )


COMMAND = Command(
    "reset",
    run,
    "change where an application continues: show the effects, ask, back up, and do it",
    (
        APPLICATION,
        STREAM,
        option("--method", required=True, choices=list(Method)),
        option("--position", help="TRIM_HORIZON, LATEST, a timestamp, or a sequence number"),
        repeated("--shard", metavar="SHARD", help="only this one; may be repeated"),
        option("--new-application", help="for rename"),
        option("--initial-position", default="TRIM_HORIZON", help="of the drain; default is TRIM_HORIZON"),
        switch("--trust-snowflake", help="for recover: checkpoints follow Snowflake back in time"),
        option("--table", help="landing table: count duplicates there, close what ends; recover needs it"),
        FOLDER,
        FORCE,
        *CHANGE,
        SNOWFLAKE,
        *AWS,
    ),
)
