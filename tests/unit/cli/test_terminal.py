"""What people and programs see of a command."""

from __future__ import annotations

import json
import logging
import os
import pty
import sys
import warnings
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.cli import terminal as module
from airflow_kinesis_snowflake.cli.command import Answer
from airflow_kinesis_snowflake.cli.terminal import Terminal, show
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.rendering import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

TABLE = Table.of(("shard", "records"), [("shardId-000000000001", "1,200"), ("[red]", "7")])
log = logging.getLogger(f"{module.PACKAGE}.some.module")


class Screen:
    """A terminal; what is written to it can be read."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.file: TextIO = os.fdopen(theirs, "w")

    def read(self) -> str:
        self.file.write("\0")
        self.file.flush()
        read = b""
        while not read.endswith(b"\0"):
            read += os.read(self._ours, 4096)
        return read.decode()

    def close(self) -> None:
        self.file.close()
        os.close(self._ours)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    made = Screen()
    yield made
    made.close()


def test_a_table_is_plain_where_no_terminal_is() -> None:
    file = StringIO()
    show(["About **orders**:", "", TABLE], file=file)
    assert file.getvalue().splitlines() == [
        "About orders:",
        "",
        "shard                 records",
        "shardId-000000000001    1,200",
        "[red]                       7",
    ]


def test_a_table_of_no_rows_has_its_heads() -> None:
    file = StringIO()
    show([Table.of(("shard", "records"), [])], file=file)
    assert file.getvalue().split() == ["shard", "records"]


def test_a_table_has_a_frame_on_a_terminal(screen: Screen) -> None:
    show([TABLE], file=screen.file)
    shown = screen.read()
    assert "│ shardId-000000000001" in shown
    assert "[red]" in shown


def test_programs_get_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(output="json").answer(Answer({"shards": 2}, [TABLE]))
    assert json.loads(capsys.readouterr().out) == {"shards": 2}


def test_what_libraries_log_and_warn_of_is_nobodys_business(capfd: pytest.CaptureFixture[str]) -> None:
    with Terminal():
        print("logged by Airflow")
        os.write(1, b"logged straight to the file\n")
        warnings.showwarning("deprecated", DeprecationWarning, "file.py", 1)
    print("the answer")
    assert capfd.readouterr() == ("the answer\n", "")


def test_it_can_be_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with Terminal(verbose=True):
        print("logged by Airflow")
        os.write(1, b"logged straight to the file\n")
    out, err = capfd.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == ["logged by Airflow", "logged straight to the file"]


def test_what_the_package_warns_of_is_shown_and_what_else_it_logs_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Terminal() as terminal, terminal.working("Reading"):
        log.info("12 rows")
        log.warning("The consumers of stream %s can't be listed", "orders")
    assert capfd.readouterr() == ("", "Warning: The consumers of stream orders can't be listed\n")


def test_what_takes_longer_is_shown_on_a_terminal(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    with redirect_stderr(screen.file), Terminal() as terminal:
        with terminal.working("Reading the state"):
            pass
        with terminal.working("Deleting"):
            log.info("Table orders is deleted")
    shown = screen.read()
    assert "Reading the state (0 s)" in shown
    assert "Table orders is deleted (0 s)" in shown
    assert "Deleting (0 s)" not in shown.partition("Table orders")[2]


def test_what_is_quick_is_not(screen: Screen) -> None:
    with redirect_stderr(screen.file), Terminal() as terminal, terminal.working("Reading the state"):
        pass
    assert "Reading" not in screen.read()


def test_nobody_is_asked_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    Terminal().confirm([TABLE], "Delete?", yes=True)
    with pytest.raises(InvalidSettingError, match="Add --yes"):
        Terminal().confirm([TABLE], "Delete?", yes=False)
    assert capsys.readouterr() == ("", "")
