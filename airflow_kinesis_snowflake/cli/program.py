"""The program: its commands, how they are parsed, and how they end."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake import __version__
from airflow_kinesis_snowflake.cli import (
    audit,
    backup,
    check,
    cleanup,
    cost,
    iam,
    import_checkpoints,
    list_applications,
    reset,
    restore,
    sample,
    show,
)
from airflow_kinesis_snowflake.cli.command import ExitStatus
from airflow_kinesis_snowflake.exceptions import InvalidSettingError, KinesisSnowflakeError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.cli.cli_config import CLICommand

    from airflow_kinesis_snowflake.cli.command import Command

DESCRIPTION = "Kinesis to Snowflake: inspect state and loads, and change state."
COMMANDS: tuple[Command, ...] = (
    list_applications.COMMAND,
    show.COMMAND,
    reset.COMMAND,
    backup.COMMAND,
    restore.COMMAND,
    cleanup.COMMAND,
    import_checkpoints.COMMAND,
    audit.COMMAND,
    check.COMMAND,
    sample.COMMAND,
    cost.COMMAND,
    iam.COMMAND,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    :param arguments: without the program's name; None: those of this process
    :return: exit status, a :class:`~airflow_kinesis_snowflake.cli.command.ExitStatus`
    """
    options = parser().parse_args(arguments)
    return run(options.command, options)


def run(command: Command, options: argparse.Namespace) -> int:
    """Run a command with its options, print the answer and return the exit status."""
    from airflow_kinesis_snowflake.cli.terminal import Terminal

    terminal = Terminal(output=options.output, verbose=options.verbose)
    try:
        with terminal:
            answer = command.run(options, terminal)
    except KinesisSnowflakeError as error:
        terminal.error(f"{type(error).__name__}: {error}")
        return status_of(error)
    except KeyboardInterrupt:
        terminal.error("Interrupted.")
        return ExitStatus.INTERRUPTED
    except Exception:
        terminal.error(f"This is a bug in the package; please report it.\n{traceback.format_exc()}")
        return ExitStatus.FAULT
    terminal.answer(answer)
    return answer.status


def status_of(error: KinesisSnowflakeError) -> ExitStatus:
    """The exit status for a command that failed."""
    if isinstance(error, InvalidSettingError):
        return ExitStatus.USAGE
    return ExitStatus.OUTAGE if isinstance(error, TransientError) else ExitStatus.REFUSED


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m airflow_kinesis_snowflake", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        made = commands.add_parser(command.name, help=command.help, description=command.help)
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
            func=lambda options: sys.exit(run(command, options)),
            args=[Arg((flag,), **settings) for flag, settings in command.options],  # type: ignore[no-untyped-call]
        )

    return [
        GroupCommand(
            name="kinesis-snowflake",
            help=f"{DESCRIPTION} Version {__version__}.",
            subcommands=list(map(action, COMMANDS)),
        )
    ]
