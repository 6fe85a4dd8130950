"""Drains in processes of their own, for tests that kill, pause or stop them.

The processes are forked from a server that has imported everything once, so starting one takes milliseconds.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.leases import Leases
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.channels import Channel, ChannelClient
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, Copy, Landing, Streaming
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink
from airflow_kinesis_snowflake.sources.fan_out import FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from airflow_kinesis_snowflake.engine.ports import Source

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "tests.preloaded"])

COPY_POINTS: dict[str, tuple[type, str]] = {
    "upload": (SnowflakeSession, "upload"),
    "copy": (SnowflakeSession, "copy_landing"),
    "offsets": (SnowflakeSession, "move_offsets"),
    "commit": (SnowflakeSession, "_commit"),
    "checkpoint": (Leases, "save"),
    "release": (Leases, "release"),
}
"""Steps of a load, by name, and the method that takes each."""

STREAMING_POINTS: dict[str, tuple[type, str]] = {
    "open": (ChannelClient, "open"),
    "opened": (StreamingSink, "_outcome_by"),
    "append": (Channel, "append"),
    "flush": (Channel, "flush"),
    "wait": (Channel, "wait"),
    "checkpoint": (Leases, "save"),
    "release": (Leases, "release"),
}
"""The same of a load that streams."""

POINTS = {**COPY_POINTS, **STREAMING_POINTS}


@dataclass(frozen=True)
class Job:
    """One drain to run in a process.

    :param task: the task instance; a retry has the same
    :param attempt: number of the try
    :param connections: environment with Airflow connections
    :param signals: step at which the process sends itself a signal, and the signal
    :param settings: more settings of the drain
    :param fan_out: have records pushed
    :param prepare: called in the process before the drain, to change the package for a test
    :param sink: ``copy`` or ``streaming``
    """

    stream: str
    application: str
    table: str
    task: str
    connections: Mapping[str, str]
    signals: Mapping[str, signal.Signals] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    fan_out: bool = False
    prepare: Callable[[], None] | None = None
    sink: str = COPY

    def make_drain(self) -> Drain:
        """The drain, not begun."""
        table = TableName.parse(self.table)
        landing, snowflake = Landing(table=table), SnowflakeLoadHook(database=table.database)
        sink: Any = Copy(landing, snowflake.open_session)
        if self.sink != COPY:
            sink = Streaming(landing, snowflake.open_session, snowflake.open_channels)
        of_all: dict[str, Any] = {
            "stream_name": self.stream,
            "application_name": self.application,
            "initial_position": TRIM_HORIZON,
            "stop_at": datetime.now(UTC),
        }
        return Drain(
            DrainSettings(**of_all | dict(self.settings)),
            worker=Worker(self.task, f"{self.attempt}-{uuid.uuid4().hex}"),
            source=self._source(),
            store=CheckpointStoreHook(self.application),
            sink=sink,
        )

    def _source(self) -> Source:
        if self.fan_out:
            return FanOutSource(FanOutHook(self.stream), application_name=self.application)
        return PollingSource(KinesisStreamHook(self.stream))


class WorkerProcess:
    """Runs a job in a process of its own.

    SIGTERM stops the drain, as Airflow's ``on_kill`` does.
    """

    def __init__(self, job: Job) -> None:
        self._results, results = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=run, args=(job, results), daemon=True)
        self._process.start()
        results.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None, "the process wasn't started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is still running, paused or not."""
        return self._process.is_alive()

    @property
    def paused(self) -> bool:
        """Whether SIGSTOP has stopped it."""
        try:
            return _state(self.pid) == "T"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def send(self, what: signal.Signals) -> None:
        """Send a signal: SIGKILL, SIGSTOP, SIGCONT or SIGTERM. A process that has ended takes no notice."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, what)

    def wait_until_paused(self) -> None:
        """Wait until the process has stopped itself at one of its job's signals."""
        while not self.paused:
            assert self.alive, "the process ended instead of pausing"
            self._process.join(0.02)

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end and return the exit code; that of a signal is negative."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the worker didn't end"
        return self._process.exitcode

    def result(self, timeout: float = 60) -> dict[str, Any]:
        """Wait for the end of the drain and return its report.

        :raises AssertionError: the drain failed; the message is its traceback
        """
        assert self._results.poll(timeout), "the worker didn't end"
        try:
            answer: dict[str, Any] = self._results.recv()
        except EOFError:
            raise AssertionError(f"the worker died: exit code {self.wait()}") from None
        self.wait()
        assert "report" in answer, answer["error"]
        return dict(answer["report"])

    def error(self, timeout: float = 60) -> str:
        """Wait for the drain to fail and return its traceback."""
        assert self._results.poll(timeout), "the worker didn't end"
        answer: dict[str, str] = self._results.recv()
        self.wait()
        return answer["error"]


def warm_up() -> None:
    """Return when processes can be started in milliseconds."""
    process = CONTEXT.Process(target=int)
    process.start()
    process.join()


def run(job: Job, results: Connection) -> None:
    """Body of the process."""
    os.environ.update(job.connections)
    if job.prepare is not None:
        job.prepare()
    for step, what in job.signals.items():
        raise_at(step, what)
    drain = job.make_drain()
    signal.signal(signal.SIGTERM, lambda *_: drain.stop())
    try:
        results.send({"report": drain.run().as_dict()})
    except Exception:
        results.send({"error": traceback.format_exc()})
        raise SystemExit(1) from None


def raise_at(step: str, what: signal.Signals) -> None:
    """Make this process send itself a signal, once, right before a step."""
    owner, method = POINTS[step]
    original = getattr(owner, method)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, method, original)
        os.kill(os.getpid(), what)
        return original(*args, **kwargs)

    setattr(owner, method, interrupted)


def _state(pid: int | None) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]
