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
    open_snowflake,
    open_store,
    open_stream,
)
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.reset.fields import FIELDS, FieldKind
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, find_method, help_of, summaries
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.command import Option
    from airflow_kinesis_snowflake.cli.terminal import Terminal
    from airflow_kinesis_snowflake.maintenance.reset.fields import RequestField
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Plan the reset, ask, save the rows, carry out the plan, and verify the result."""
    if not options.dry_run and not options.folder:
        raise InvalidSettingError("Give --folder or --dry-run: the rows are saved there before they change")
    with terminal.working("Making the plan"):
        from airflow_kinesis_snowflake.maintenance.reset.plan import plan_parts

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
        find_method(plan.request.method).afterwards(plan.request),
    ]
    data = {"plan": plan.as_dict(), "backup": saved, "done": done}
    return Answer(data, [*planned, *parts] if options.yes else parts)


def _plan(options: argparse.Namespace) -> ResetPlan:
    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.maintenance.backup import try_out
    from airflow_kinesis_snowflake.maintenance.reset.plan import plan_reset

    request = _request(options)
    if not options.dry_run:
        try_out(open_store(options), BackupFilesHook(**aws_of_state(options)), folder=options.folder)
    with open_snowflake(options) as snowflake:
        return plan_reset(
            request,
            store=open_store(options),
            kinesis=open_stream(options),
            snowflake=snowflake,
            open_store=partial(open_store, options),
            now=now_millis(),
        )


def _request(options: argparse.Namespace) -> ResetRequest:
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest

    return ResetRequest(
        application=options.application,
        stream=open_stream(options).stream_name,
        method=options.method,
        force=options.force,
        **{field.name: _given(getattr(options, field.name)) for field in FIELDS},
    )


def _given(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _carry_out(plan: ResetPlan, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int]]:
    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.maintenance.backup import back_up
    from airflow_kinesis_snowflake.maintenance.reset.apply import apply_reset, verify_reset

    store = open_store(options)
    saved = back_up(store, BackupFilesHook(**aws_of_state(options)), folder=options.folder, now=now_millis())
    with open_snowflake(options) as snowflake:
        done = apply_reset(
            plan,
            store=store,
            snowflake=snowflake,
            open_store=partial(open_store, options),
            remember=_leave_to_the_user,
            clock=now_millis,
        )
    verify_reset(plan, store=store, kinesis=open_stream(options), now=now_millis())
    return saved, done


def _leave_to_the_user(_: str) -> None:
    """Only the user knows where the drain's application name is set; ``afterwards`` of the method asks."""


def make_command() -> Command:
    """The command, with the options of the methods there are."""
    return Command(
        "reset",
        run,
        "change where an application continues: show the effects, ask, back up, and do it",
        (
            APPLICATION,
            STREAM,
            option("--method", required=True, choices=list(METHODS), help=summaries()),
            *map(_option, FIELDS),
            option(
                "--table",
                help=f"landing table: count duplicates there, close what ends; needed for {_need_table()}",
            ),
            FOLDER,
            FORCE,
            *CHANGE,
            SNOWFLAKE,
            *AWS,
        ),
    )


def _need_table() -> str:
    return " and ".join(name for name, method in METHODS.items() if method.needs_offsets)


def _option(field: RequestField) -> Option:
    settings = {"dest": field.name, "help": help_of(field.name)}
    match field.kind:
        case FieldKind.LIST:
            return repeated(field.flag, metavar=field.flag.removeprefix("--").upper(), **settings)
        case FieldKind.SWITCH:
            return switch(field.flag, **settings)
    return option(field.flag, default="TRIM_HORIZON" if field.of_drain else None, **settings)


COMMAND = make_command()
