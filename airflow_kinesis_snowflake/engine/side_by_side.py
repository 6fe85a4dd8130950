"""Several drains in one process, a limited number at a time; one that fails stops no other."""

from __future__ import annotations

import logging
from math import inf
from threading import Lock
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.drain import TICK_SECONDS
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import DrainStoppedError, KinesisSnowflakeError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.engine.drain import Drain
    from airflow_kinesis_snowflake.engine.report import DrainReport
    from airflow_kinesis_snowflake.engine.runtime import Runtime

log = logging.getLogger(__name__)

# Stopping a drain takes no longer; only a call that hangs before its drain has started does.
STOP_SECONDS = 5.0


class SideBySide:
    """Drains several streams.

    :param make: creates the drain of a stream; ``None``: it has nothing to do
    :param runtime: its clock and threads
    """

    def __init__(self, make: Callable[[str], Drain | None], *, runtime: Runtime = MACHINE) -> None:
        self._make = make
        self._runtime = runtime
        self._lock = Lock()
        self._stopped = False
        self.drains: dict[str, Drain] = {}
        self.reports: dict[str, DrainReport] = {}
        self.idle: list[str] = []
        self.failures: dict[str, KinesisSnowflakeError] = {}

    def run(self, streams: Sequence[str], *, at_once: int) -> None:
        """Drain all of them.

        :param at_once: how many at a time
        :raises KinesisSnowflakeError: some failed, after all others were drained; a transient error if a
            retry may help any of them
        :raises DrainStoppedError: :meth:`stop` was called
        """
        give_up_at = inf
        with DaemonThreads(at_once, name="stream", runtime=self._runtime) as threads:
            drained = [threads.submit(self._drain, stream) for stream in streams]
            while not self._runtime.wait(drained, timeout=TICK_SECONDS):
                now = self._runtime.monotonic()
                if self._stopped:
                    give_up_at = min(give_up_at, now + STOP_SECONDS)
                if now >= give_up_at:
                    break
        if self._stopped:
            raise DrainStoppedError(
                f"The drains of {len(streams)} streams were told to stop; {len(self.reports)} had ended"
            )
        for each in drained:
            each.result()
        if self.failures:
            raise self._combined()

    def stop(self) -> None:
        """Stop all drains, and start no others."""
        self._stopped = True
        with self._lock:
            begun = list(self.drains.values())
        for drain in begun:
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
                self.drains[stream] = drain
            if self._stopped:
                drain.stop()
            self.reports[stream] = drain.run()
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
