"""``python -m airflow_kinesis_snowflake ...``: looking at state, loads and accounts without the UI at hand.

Where Airflow lets providers add commands, ``airflow kinesis-snowflake ...`` is the same. Uses Airflow's
connections. Reads only, except ``state import``, which writes rows that aren't there yet, and ``check``,
which makes a scratch schema and a scratch table and removes them. Tables and sentences for people, or JSON
for programs with ``--json``. Exit status 1: refused or failed, the reason is on the standard error output; of
``audit``, not exactly once; of ``check``, something doesn't hold, while 3 says that something couldn't be
tried.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.cli.cli_config import CLICommand

    from airflow_kinesis_snowflake.maintenance.loaded import Loaded

METHODS = ("rewind", "delete_table", "rename", "recover")
PURPOSES = ("drain", "reset", "cleanup", "import")
STATE = "the state of an application on a stream"


class Option(NamedTuple):
    """An option of a command, with what :mod:`argparse` takes besides its name."""

    flag: str
    settings: Mapping[str, Any]


class Command(NamedTuple):
    """A command.

    :param run: returns the answer as JSON takes it, and as text for people
    :param status: exit status for an answer
    :param refused: exit status where there is no answer
    """

    name: str
    run: Callable[[argparse.Namespace], tuple[Any, str]]
    help: str
    options: tuple[Option, ...]
    status: Callable[[Any], int] = lambda _: 0
    refused: int = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    :param arguments: without the program's name; None: those of this process
    :return: exit status
    """
    options = parser().parse_args(arguments)
    return answer(options.command, options)


def answer(command: Command, options: argparse.Namespace) -> int:
    """Run a command with its options, print the answer and return the exit status."""
    try:
        with _standard_output_kept_free():
            data, text = command.run(options)
    except KinesisSnowflakeError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return command.refused
    print(json.dumps(data, indent=2) if options.json else text)
    return command.status(data)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m airflow_kinesis_snowflake")
    groups = top.add_subparsers(required=True, metavar="GROUP")
    state = groups.add_parser("state", help=STATE).add_subparsers(required=True, metavar="COMMAND")
    for group, commands in ((groups, TOP_COMMANDS), (state, COMMANDS)):
        for command in commands:
            made = group.add_parser(command.name, help=command.help, description=command.help)
            made.set_defaults(command=command)
            for flag, settings in command.options:
                made.add_argument(flag, **settings)
    return top


def get_cli_commands() -> list[CLICommand]:
    """The same as commands of ``airflow``; Airflow asks for them under the key ``cli`` of the provider."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    def action(command: Command) -> ActionCommand:
        return ActionCommand(
            name=command.name,
            help=command.help,
            func=lambda options: sys.exit(answer(command, options)),
            args=[Arg((flag,), **settings) for flag, settings in command.options],  # type: ignore[no-untyped-call]
        )

    state = GroupCommand(name="state", help=STATE, subcommands=[action(command) for command in COMMANDS])
    subcommands = [*map(action, TOP_COMMANDS), state]
    return [GroupCommand(name="kinesis-snowflake", help="Kinesis to Snowflake", subcommands=subcommands)]


def make_audit(options: argparse.Namespace) -> tuple[Any, str]:
    """The audit of what an application has loaded."""
    from airflow_kinesis_snowflake.audit.auditing import AuditRequest, audit, open_landed
    from airflow_kinesis_snowflake.audit.text import report_text
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook

    request = AuditRequest(
        stream=options.stream,
        applications=(options.application, *options.together_with),
        several_documents=options.several_documents,
        compare_counts=not options.no_counts,
        with_stream=options.with_stream,
    )
    with open_landed(options.table, snowflake_conn_id=options.snowflake_conn_id) as landed:
        report = audit(
            request,
            landed=landed,
            open_store=lambda name: CheckpointStoreHook(name, **_aws(options)),
            kinesis=_kinesis(options),
        )
    return report.as_dict(), report_text(report)


def show(options: argparse.Namespace) -> tuple[Any, str]:
    """The inspection of an application."""
    from airflow_kinesis_snowflake.maintenance.inspection import inspect_state, inspection_text

    inspection = inspect_state(_store(options), _kinesis(options), now=now_millis())
    return inspection.as_dict(), inspection_text(inspection)


def make_plan(options: argparse.Namespace) -> tuple[Any, str]:
    """The plan of a reset."""
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.maintenance.planning import plan_reset
    from airflow_kinesis_snowflake.maintenance.reset import Method, ResetRequest, plan_text

    request = ResetRequest(
        application=options.application,
        stream=options.stream,
        method=Method(options.method),
        shards=tuple(options.shard),
        position=options.position,
        new_application=options.new_application,
        initial_position=options.initial_position,
        trust_snowflake=options.trust_snowflake,
    )
    with ExitStack() as stack:
        plan = plan_reset(
            request,
            store=_store(options),
            kinesis=_kinesis(options),
            loaded=_loaded(options, stack),
            open_store=lambda name: CheckpointStoreHook(name, **_aws(options)),
            now=now_millis(),
        )
    return plan.as_dict(), plan_text(plan)


def export_state(options: argparse.Namespace) -> tuple[Any, str]:
    """A backup of the application's rows."""
    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.maintenance.backup import back_up

    saved = back_up(
        _store(options), BackupFilesHook(**_aws(options)), folder=options.folder, now=now_millis()
    )
    return saved, f"{saved['rows']} rows saved to {saved['file']}."


def import_checkpoints(options: argparse.Namespace) -> tuple[Any, str]:
    """An import of another consumer's checkpoints."""
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
    from airflow_kinesis_snowflake.maintenance.importing import carry_out_import, import_text, plan_import

    store = _store(options)
    plan = plan_import(
        source=options.source,
        kinesis=_kinesis(options),
        tables=DynamoDBTablesHook(**_aws(options)),
        store=store,
        now=now_millis(),
        timestamp=options.timestamp,
    )
    if options.dry_run:
        return {"plan": plan.as_dict()}, import_text(plan)
    done = carry_out_import(plan, store=store, clock=now_millis)
    text = f"{import_text(plan)}\n\n{done['created']} rows were written, {done['there']} were there."
    return {**done, "plan": plan.as_dict()}, text


def show_policy(options: argparse.Namespace) -> tuple[Any, str]:
    """An IAM policy."""
    from airflow_kinesis_snowflake.maintenance.iam import Purpose, Resources, policy

    document = policy(
        Purpose(options.purpose),
        Resources(
            application=options.application,
            stream=options.stream,
            account=options.account,
            region=options.region,
            partition=options.partition,
            consumer=options.consumer,
            source=options.source,
            key=options.key,
            backups=options.backups,
        ),
    )
    return document, json.dumps(document, indent=2)


def check(options: argparse.Namespace) -> tuple[Any, str]:
    """What holds on the user's account."""
    from airflow_kinesis_snowflake.check.bench import CheckSettings
    from airflow_kinesis_snowflake.check.running import run_checks
    from airflow_kinesis_snowflake.identifiers import TableName

    # So that it removes what it made when it is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = run_checks(
        CheckSettings(
            database=options.database,
            table=TableName.parse(options.table) if options.table else None,
            stream=options.stream,
            application=options.application,
            slow=options.slow,
            only=tuple(options.only),
            scratch_table=not options.no_scratch_table,
            left_after=timedelta(minutes=options.left_after),
            snowflake_conn_id=options.snowflake_conn_id,
            aws=_aws(options),
        )
    )
    return report.as_dict(), report.text()


@contextmanager
def _standard_output_kept_free() -> Iterator[None]:
    """Keep the standard output for the answer: Airflow logs to it, in part straight to the file."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        # What is still in the buffer of another stream over it was logged too.
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _aws(options: argparse.Namespace) -> dict[str, Any]:
    return {"aws_conn_id": options.aws_conn_id, "region_name": options.aws_region}


def _store(options: argparse.Namespace) -> Any:
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook

    return CheckpointStoreHook(options.application, **_aws(options))


def _kinesis(options: argparse.Namespace) -> Any:
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook

    return KinesisStreamHook(options.stream, **_aws(options))


def _loaded(options: argparse.Namespace, stack: ExitStack) -> Loaded | None:
    if not options.table:
        return None
    from airflow_kinesis_snowflake.maintenance.loaded import open_loaded

    return stack.enter_context(open_loaded(options.table, snowflake_conn_id=options.snowflake_conn_id))


def option(flag: str, **settings: Any) -> Option:
    """An option; the settings are those of ``add_argument``."""
    return Option(flag, settings)


COMMON = (
    option("--application", required=True, help="also the name of its DynamoDB table"),
    option("--aws-conn-id", default="aws_default", help="Airflow connection"),
    option("--aws-region", help="default is the connection's"),
    option("--json", action="store_true", help="for programs"),
)
OF_STREAM = (*COMMON, option("--stream", required=True, help="name of the Kinesis stream"))
TOP_COMMANDS = (
    Command(
        "audit",
        make_audit,
        "say whether what an application has loaded is exactly once, and for how much",
        (
            *OF_STREAM,
            option("--table", required=True, help="landing table, as DATABASE.SCHEMA.TABLE"),
            option("--snowflake-conn-id", default="snowflake_default", help="Airflow connection"),
            option(
                "--together-with",
                action="append",
                default=[],
                metavar="APPLICATION",
                help="another application that loads the stream into the table; may be repeated",
            ),
            option("--with-stream", action="store_true", help="look for each record that the stream retains"),
            option("--no-counts", action="store_true", help="rows were removed, or loaded by other software"),
            option("--several-documents", action="store_true", help="a record may become several rows"),
        ),
        status=lambda report: 0 if report["exactly_once"] else 1,
    ),
    Command(
        "check",
        check,
        "try on your own account what the promises rest on",
        (
            option("--table", help="landing table: check its privileges too, and work in a schema beside it"),
            option("--database", help="where to make the scratch schema; default is the table's"),
            option("--stream", help="name of the Kinesis stream to read from"),
            option("--application", help="look at its DynamoDB table"),
            option("--slow", action="store_true", help="also what takes minutes"),
            option(
                "--only", action="append", default=[], help="only the check of this name; may be repeated"
            ),
            option("--no-scratch-table", action="store_true", help="make no scratch table in DynamoDB"),
            option(
                "--left-after", type=float, default=120, help="minutes after which others' scratch is removed"
            ),
            option("--snowflake-conn-id", default="snowflake_default"),
            *(each for each in COMMON if each.flag != "--application"),
        ),
        status=lambda report: int(report["status"]),
        refused=3,
    ),
)
COMMANDS = (
    Command("show", show, "show shards, checkpoints and leases, and what is wrong with them", OF_STREAM),
    Command(
        "plan",
        make_plan,
        "say what a reset would do; change nothing",
        (
            *OF_STREAM,
            option("--method", required=True, choices=METHODS),
            option("--position", help="TRIM_HORIZON, LATEST, a timestamp, or a sequence number"),
            option("--shard", action="append", default=[], help="only this one; may be repeated"),
            option("--new-application", help="for rename"),
            option("--initial-position", default="TRIM_HORIZON", help="of the drain"),
            option(
                "--trust-snowflake",
                action="store_true",
                help="for recover: checkpoints follow Snowflake back in time",
            ),
            option("--table", help="landing table: count duplicates there; recover needs it"),
            option("--snowflake-conn-id", default="snowflake_default"),
        ),
    ),
    Command(
        "export",
        export_state,
        "save all rows of the application",
        (*COMMON, option("--folder", required=True, help="absolute path or s3://bucket/prefix")),
    ),
    Command(
        "import",
        import_checkpoints,
        "take over from another consumer's table",
        (
            *OF_STREAM,
            option("--source", required=True, help="table of KCL, Openflow or Redpanda Connect"),
            option("--timestamp", help="for leases that stand at AT_TIMESTAMP"),
            option("--dry-run", action="store_true", help="only say what would be written"),
        ),
    ),
    Command(
        "iam",
        show_policy,
        "print the smallest IAM policy",
        (
            *OF_STREAM,
            option("--for", dest="purpose", choices=PURPOSES, default="drain"),
            option("--account", default="*"),
            option("--region", default="*"),
            option("--partition", default="aws"),
            option("--consumer", help="name of a registered consumer that a cleanup may deregister"),
            option("--source", help="table that an import reads"),
            option("--key", help="ARN of the stream's KMS key"),
            option("--backups", help="bucket/prefix of JSON backups"),
        ),
    ),
)
