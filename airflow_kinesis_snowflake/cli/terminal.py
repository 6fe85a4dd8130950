"""How commands interact with people: tables, questions, and signs of progress."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import TextIOBase
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.box import ROUNDED
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.prompt import Confirm
from rich.spinner import Spinner
from rich.table import Table as RichTable
from rich.text import Text

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.rendering import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from airflow_kinesis_snowflake.cli.command import Answer
    from airflow_kinesis_snowflake.maintenance.rendering import Part

PACKAGE = "airflow_kinesis_snowflake"
QUIET_SECONDS = 2.0
_STRONG = re.compile(r"\*\*(.+?)\*\*")
_NUMBER = re.compile(r"[\d,]{0,20}")
_ANY_WIDTH = 100_000


class Terminal:
    """The standard output for an answer, and the standard error output for everything else.

    A context manager: within its block, logs and warnings of Airflow and its libraries are kept off both, and
    what this package logs is shown to the user.

    :param output: ``table`` or ``json``
    :param verbose: show the log on the standard error output
    """

    def __init__(self, *, output: str = "table", verbose: bool = False) -> None:
        self._json = output == "json"
        self._verbose = verbose
        self._err = Console(stderr=True, soft_wrap=True, highlight=False)
        self._listener = _Listener(self._err)
        self._within = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as entering:
            entering.enter_context(_free_of_noise(verbose=self._verbose))
            if not self._verbose:
                entering.enter_context(_heard_by(self._listener))
            self._within = entering.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._within.close()

    def answer(self, answer: Answer) -> None:
        """Print an answer; after the block."""
        if self._json:
            sys.stdout.write(f"{json.dumps(answer.data, indent=2)}\n")
        else:
            show(answer.parts, file=sys.stdout)

    def error(self, text: str) -> None:
        """Print an error instead of an answer."""
        self._err.print(escape(text), style="red" if self._err.is_terminal else None)

    def confirm(self, parts: Sequence[Part], question: str, *, yes: bool) -> None:
        """Show what will be done, and ask for confirmation.

        :param yes: don't ask
        :raises InvalidSettingError: there is no terminal to ask on
        :raises MaintenanceRefusedError: the answer is no
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise InvalidSettingError("Add --yes, or run this in a terminal: there is no terminal to ask on")
        show(parts, file=sys.stderr)
        if not Confirm.ask(f"\n{escape(question)}", console=self._err, default=False):
            raise MaintenanceRefusedError("Nothing was changed: the answer was no.")

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show on a terminal that something is in progress, once it takes more than two seconds.

        :param what: goes on, until the package logs what it does
        """
        if not self._err.is_terminal or self._verbose:
            yield
            return
        line = _Line(what, self._listener)
        with Live(
            get_renderable=line.render,
            console=self._err,
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield


def show(parts: Sequence[Part], *, file: TextIO) -> None:
    """Print paragraphs and tables: framed and coloured on a terminal, otherwise plain and unwrapped."""
    console = Console(file=file, highlight=False)
    plain = not console.is_terminal
    if plain:
        console = Console(file=file, highlight=False, color_system=None, width=_ANY_WIDTH)
    with console.capture() as captured:
        for number, part in enumerate(part for part in parts if part):
            if number:
                console.print()
            console.print(_rich_table(part, plain=plain) if isinstance(part, Table) else _paragraph(part))
    file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _paragraph(text: str) -> Text:
    return Text.from_markup(_STRONG.sub(r"[bold]\1[/bold]", escape(text)))


def _rich_table(table: Table, *, plain: bool) -> RichTable:
    shown = RichTable(box=None if plain else ROUNDED, pad_edge=not plain, header_style="bold")
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.heads)
    for head, cells in zip(table.heads, columns, strict=True):
        number = any(cells) and all(map(_NUMBER.fullmatch, cells))
        shown.add_column(
            head,
            justify="right" if number else "left",
            overflow="fold",
            no_wrap=plain or not shown.columns,  # names are in the first one
        )
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown


class _Line:
    """What is in progress, once it takes long.

    :param what: goes on, until something is logged
    :param listener: knows the last line logged
    """

    def __init__(self, what: str, listener: _Listener) -> None:
        self._what = what
        self._listener = listener
        listener.heard = ""
        self._began = time.monotonic()
        self._spinner = Spinner("dots")

    def render(self) -> RenderableType:
        """The current line."""
        seconds = time.monotonic() - self._began
        if seconds < QUIET_SECONDS:
            return ""
        what = self._listener.heard or self._what
        self._spinner.update(text=Text(f"{what} ({seconds:.0f} s)", overflow="ellipsis", no_wrap=True))
        return self._spinner


class _Listener(logging.Handler):
    """Keeps the last line of the package's log, and prints warnings."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.heard = ""
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._console.print(escape(f"{record.levelname.capitalize()}: {record.getMessage()}"))
        else:
            self.heard = record.getMessage().partition("\n")[0]


class _Nowhere(TextIOBase):
    """Discards what is written to it."""

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def _heard_by(listener: _Listener) -> Iterator[None]:
    """Send the package's log to a listener, and discard all other logs."""
    logger, root = logging.getLogger(PACKAGE), logging.getLogger()
    before = logger.propagate, logger.level, root.handlers
    logger.addHandler(listener)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    # Airflow's own program logs to the standard error output. Without any handler, logging would.
    root.handlers = [logging.NullHandler()]
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate, level, root.handlers = before
        logger.setLevel(level)


@contextmanager
def _free_of_noise(*, verbose: bool) -> Iterator[None]:
    """Reserve the standard output for the answer: Airflow logs to it, partly by writing to its file."""
    sys.stdout.flush()
    kept, elsewhere = os.dup(1), os.dup(2) if verbose else os.open(os.devnull, os.O_WRONLY)
    os.dup2(elsewhere, 1)
    os.close(elsewhere)
    try:
        with redirect_stdout(sys.stderr if verbose else _Nowhere()), warnings.catch_warnings():
            if not verbose:
                warnings.showwarning = _ignore
            yield
    finally:
        # What is still in the buffer of another stream on top of it was logged too.
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _ignore(*_: Any, **__: Any) -> None:
    """Show no warning."""
