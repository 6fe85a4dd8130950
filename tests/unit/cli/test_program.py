"""The commands, in both programs, and how they end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.cli import get_cli_commands, main, program
from airflow_kinesis_snowflake.cli.command import Answer, Command, ExitStatus
from airflow_kinesis_snowflake.cli.options import OUTPUT
from airflow_kinesis_snowflake.cli.program import COMMANDS, parser
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    MaintenanceRefusedError,
    ServiceUnavailableError,
    StreamNotFoundError,
)

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "command-line.md"
ASKED = ["audit", "--application", "a", "--stream", "s", "--table", "D.S.T"]


def commands_in(text: str) -> list[str]:
    """The commands of this package in Markdown, each in a line."""
    lines = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(
        r"(?:python -m airflow_kinesis_snowflake|airflow kinesis-snowflake) ([^`\"\n]*)", lines
    )
    return [each.partition("#")[0].strip() for each in found]


DOCUMENTED = [
    pytest.param(command, id=f"{page.name}: {command[:40]}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for command in commands_in(page.read_text())
]


def test_airflow_is_told_of_the_same_commands() -> None:
    [group] = get_cli_commands()
    assert [command.name for command in group.subcommands] == [command.name for command in COMMANDS]  # type: ignore[union-attr]


def test_options_may_be_repeated_or_left_out() -> None:
    assert parser().parse_args(ASKED).together_with == []
    again = parser().parse_args([*ASKED, "--together-with", "b", "--together-with", "c"])
    assert again.together_with == ["b", "c"]
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(ASKED[:-2])
    assert ended.value.code == ExitStatus.USAGE


def ends(how: ExitStatus | Exception | type[BaseException]) -> int:
    """The exit status of a command that ends in a way."""

    def run(_: argparse.Namespace, __: Terminal) -> Answer:
        if isinstance(how, ExitStatus):
            return Answer({}, ["done"], how)
        raise how

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "COMMANDS", (Command("try", run, "", OUTPUT),))
        return main(["try"])


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (ExitStatus.OK, 0),
        (ExitStatus.FINDINGS, 1),
        (InvalidSettingError("no such option"), 2),
        (MaintenanceRefusedError("a worker is reading"), 3),
        (AccessDeniedError("not allowed"), 3),
        (StreamNotFoundError("no such stream"), 3),
        (ServiceUnavailableError("no answer"), 4),
        (KeyError("a fault"), 70),
        (KeyboardInterrupt, 130),
    ],
)
def test_scripts_can_tell_how_a_command_ended(
    how: Any, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(how) == status
    out, err = capsys.readouterr()
    assert (out == "") is (not isinstance(how, ExitStatus))
    assert (err == "") is isinstance(how, ExitStatus)


def test_what_is_said_of_an_error_names_its_class_first(capsys: pytest.CaptureFixture[str]) -> None:
    ends(ServiceUnavailableError("Another [try] may succeed."))
    assert capsys.readouterr().err == "ServiceUnavailableError: Another [try] may succeed.\n"


def test_the_documentation_has_every_command_and_status() -> None:
    page = PAGE.read_text()
    rows = re.findall(r"^\| `?([a-z]+|\d+)`? \|", page, re.MULTILINE)
    assert [row for row in rows if row.isdigit()] == [str(status.value) for status in ExitStatus]
    assert [row for row in rows if not row.isdigit()] == [command.name for command in COMMANDS]


@pytest.mark.parametrize("command", DOCUMENTED)
def test_commands_in_the_documentation_can_be_typed(command: str) -> None:
    name, *arguments = shlex.split(command)
    if "..." in (name, *arguments) or not arguments:
        assert name in {"...", "--help", "--version", *(each.name for each in COMMANDS)}
    else:
        parser().parse_args([name, *arguments])
