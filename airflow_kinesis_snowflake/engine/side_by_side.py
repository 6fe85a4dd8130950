"""Several drains in one process, so many at a time; one that fails stops no other."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import DrainStoppedError, KinesisSnowflakeError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.engine.drain import Drain
    from airflow_kinesis_snowflake.engine.report import DrainReport

log = logging.getLogger(__name__)


class SideBySide:
    """Drains several streams.

    :param make: makes the drain of a stream; ``None``: it has nothing to do
    :param at_once: how many drains at a time
    """

    def __init__(self, make: Callable[[str], Drain | None], *, at_once: int) -> None:
        self._make = make
        self._at_once = at_once
        self._lock = Lock()
        self._running: set[Drain] = set()
        self._stopped = False
        self.reports: dict[str, DrainReport] = {}
        self.idle: list[str] = []
        self.failures: dict[str, KinesisSnowflakeError] = {}

    def run(self, streams: Sequence[str]) -> None:
        """Drain all of them.

        :raises KinesisSnowflakeError: some failed, after all others were drained; a transient error if
            another try may help any of them
        :raises DrainStoppedError: :meth:`stop` was called
        """
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="stream") as pool:
            list(pool.map(self._drain, streams))
        if self._stopped:
            raise DrainStoppedError(
                f"The drains of {len(streams)} streams were told to stop; {len(self.reports)} had ended"
            )
        if self.failures:
            raise self._combined()

    def stop(self) -> None:
        """Make all drains stop, and begin no other."""
        self._stopped = True
        with self._lock:
            running = list(self._running)
        for drain in running:
            drain.stop()

    def _drain(self, stream: str) -> None:
        if self._stopped:
            return
        try:
            drain = self._make(stream)
            if drain is None:
                self.idle.append(stream)
                return
            with self._lock:
                self._running.add(drain)
            if self._stopped:
                drain.stop()
            try:
                self.reports[stream] = drain.run()
            finally:
                with self._lock:
                    self._running.discard(drain)
        except KinesisSnowflakeError as error:
            log.error("Stream %s wasn't drained: %s", stream, error)
            self.failures[stream] = error

    def _combined(self) -> KinesisSnowflakeError:
        errors = list(self.failures.values())
        first = next((error for error in errors if isinstance(error, TransientError)), errors[0])
        for stream, error in self.failures.items():
            if error is not first:
                first.add_note(f"{stream}: {error}")
        return first
