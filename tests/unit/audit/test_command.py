"""The command is there, in both programs."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.cli import get_cli_commands
from airflow_kinesis_snowflake.cli.program import parser

ASKED = ["audit", "--application", "a", "--stream", "s", "--table", "D.S.T"]


def test_airflow_is_told_of_the_command() -> None:
    [group] = get_cli_commands()
    assert "audit" in {command.name for command in group.subcommands}  # type: ignore[union-attr]


def test_options_may_be_repeated_or_left_out() -> None:
    assert parser().parse_args(ASKED).together_with == []
    again = parser().parse_args([*ASKED, "--together-with", "b", "--together-with", "c"])
    assert again.together_with == ["b", "c"]
    with pytest.raises(SystemExit):
        parser().parse_args(ASKED[:-2])
