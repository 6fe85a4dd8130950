"""A command: a name, options, and a function that runs it."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from airflow_kinesis_snowflake.cli.terminal import Terminal
    from airflow_kinesis_snowflake.maintenance.rendering import Part


class ExitStatus(IntEnum):
    """The exit status of a command, for scripts."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    REFUSED = 3
    OUTAGE = 4
    FAULT = 70
    INTERRUPTED = 130


class Option(NamedTuple):
    """An option of a command, with the :mod:`argparse` parameters besides its name."""

    flag: str
    settings: Mapping[str, Any]


class Answer(NamedTuple):
    """What a command found or did.

    :param data: JSON-compatible
    :param parts: the same in human-readable form
    :param status: :attr:`ExitStatus.OK`, or another exit status
    """

    data: Any
    parts: Sequence[Part]
    status: int = ExitStatus.OK


class Command(NamedTuple):
    """A command.

    :param run: does the work
    :param help: what it does, in a line
    """

    name: str
    run: Callable[[argparse.Namespace, Terminal], Answer]
    help: str
    options: tuple[Option, ...]


def option(flag: str, **settings: Any) -> Option:
    """An option; the settings are those of ``add_argument``."""
    return Option(flag, settings)


def repeated(flag: str, **settings: Any) -> Option:
    """An option that may be given several times."""
    return option(flag, action="append", default=[], **settings)


def switch(flag: str, **settings: Any) -> Option:
    """An option without a value."""
    return option(flag, action="store_true", **settings)
