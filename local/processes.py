"""Processes of the demo and the tests: started, waited for and stopped in one way."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

LEASH = Path(__file__).with_name("leash.py")
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class ProcessFailedError(RuntimeError):
    """A process ended, or didn't answer in time. The message ends with the tail of its log."""


class Process:
    """A process that writes to a log file and is stopped, at the latest, when this program ends.

    A context manager; the process starts when the object is made, and is gone when the block ends.

    :param name: name of the process; its log is ``<name>.log``.
    :param command: the program and its arguments.
    :param folder: where the process runs and its log goes.
    :param env: the whole environment of the process.
    :param stop_signal: what asks the process to stop.
    :param grace: seconds it has for that, before it and its descendants are killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        env: Mapping[str, str],
        stop_signal: str = "SIGTERM",
        grace: float = 5,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._grace = grace
        with self.log.open("wb") as log:
            self._leash = subprocess.Popen(
                [sys.executable, LEASH, stop_signal, str(grace), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=env,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for_port(self, *, timeout: float = 60) -> int:
        """Return the port that the process says it listens on.

        :param timeout: seconds to wait for that.
        :raises ProcessFailedError: it ended, or said nothing in time.
        """
        return int(self.wait_until(lambda: LISTENING.search(self.log_text()), timeout=timeout)[1])

    def wait_for_text(self, text: str, *, timeout: float = 60) -> None:
        """Return when the process has written this text.

        :param timeout: seconds to wait for that.
        :raises ProcessFailedError: it ended, or didn't write it in time.
        """
        self.wait_until(lambda: text in self.log_text() or None, timeout=timeout)

    def wait_until(self, answer: Callable[[], T | None], *, timeout: float) -> T:
        """Ask again and again until there is an answer, as long as the process lives.

        :param answer: returns None while there is none.
        :param timeout: seconds.
        :raises ProcessFailedError: it ended, or there was no answer in time.
        """
        deadline = time.monotonic() + timeout
        while (result := answer()) is None:
            if self._leash.poll() is not None:
                raise ProcessFailedError(
                    f"{self.name} ended with status {self._leash.returncode}.{self._tail()}"
                )
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self.name} wasn't ready after {timeout:g} seconds.{self._tail()}")
            time.sleep(0.05)
        return result

    def log_text(self) -> str:
        """Return what the process has written so far."""
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        """Ask the process to stop, and return when it and its descendants are gone."""
        assert self._leash.stdin
        self._leash.stdin.close()
        self._leash.wait(self._grace + 10)

    def _tail(self) -> str:
        lines = self.log_text().splitlines()[-30:]
        return "\n".join([f" The end of {self.log}:", *lines])
