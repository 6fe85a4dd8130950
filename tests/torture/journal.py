"""What happened when: one file that all processes of a run append to."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Journal:
    """Appends events as lines of JSON, each in one write, so that lines of several processes don't mix.

    :param path: the file
    :param who: names the process
    """

    path: Path
    who: str = "torture"

    def write(self, what: str, **facts: Any) -> None:
        """Note an event with the wall-clock time."""
        line = json.dumps({"at": round(time.time(), 3), "who": self.who, "what": what, **facts}, default=str)
        file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.write(file, line.encode() + b"\n")
        finally:
            os.close(file)

    def entries(self) -> Iterator[dict[str, Any]]:
        """All events so far, of all processes. A process that was killed may have left half a line."""
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


class JournalHandler(logging.Handler):
    """Notes log lines in a journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Note one line."""
        self._journal.write("log", level=record.levelname, text=record.getMessage())
