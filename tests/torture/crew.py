"""The workers: started again and again, and killed, paused or told to stop."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake import exceptions
from airflow_kinesis_snowflake.engine import assignment, coordinator, leases, retries
from airflow_kinesis_snowflake.engine.intake import Intake
from airflow_kinesis_snowflake.engine.loading import Loader
from airflow_kinesis_snowflake.sinks.snowflake import channels, streaming
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from tests.torture.journal import Journal, JournalHandler
from tests.workers import COPY_POINTS, POINTS, STREAMING_POINTS, Job, WorkerProcess

if TYPE_CHECKING:
    from random import Random

LEASE_SECONDS = 3.0
RENEW_SECONDS = 1.0
HEARTBEAT_MILLIS = 4_000
MAX_WAIT_SECONDS = 3.0
# As often as they are named, here and below.
SIGNALS = 6 * (signal.SIGKILL,) + 3 * (signal.SIGSTOP,) + (signal.SIGTERM,)
STEPS = {
    COPY: (*COPY_POINTS, "offsets", "commit", "commit", "checkpoint"),
    STREAMING: (*STREAMING_POINTS, "append", "wait", "wait", "checkpoint"),
}
COMMIT_SECONDS = 4.0
TRYING_SECONDS = 5


@dataclass(frozen=True)
class Strike:
    """A signal that a worker process sends to itself.

    :param point: of :data:`tests.workers.POINTS`; right before that step
    :param nth: the how-manieth time it takes that step
    """

    point: str
    nth: int
    signal: signal.Signals

    def arm(self) -> None:
        """Lie in wait, in the worker process."""
        owner, method = POINTS[self.point]
        original = getattr(owner, method)
        calls = iter(range(1, 1_000_000))

        def struck(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == self.nth:
                os.kill(os.getpid(), self.signal)
            return original(*args, **kwargs)

        setattr(owner, method, struck)


@dataclass(frozen=True)
class Preparation:
    """What is changed in a worker process before it drains.

    :param mutant: a defect to put in, to see whether it is found out: ``module:function``
    """

    journal: Journal
    strike: Strike | None = None
    mutant: str | None = None

    def __call__(self) -> None:
        """Shorten leases and waits, watch what happens, put the defect in."""
        leases.LEASE_SECONDS, leases.RENEW_SECONDS = LEASE_SECONDS, RENEW_SECONDS
        leases.RETRY_SECONDS = 0.3
        assignment.HEARTBEAT_MILLIS = HEARTBEAT_MILLIS
        coordinator.REVIEW_SECONDS, coordinator.LOOK_AGAIN_SECONDS = 2.0, 0.3
        retries.MAX_WAIT_SECONDS = MAX_WAIT_SECONDS
        streaming.COMMIT_SECONDS, channels._TRYING_SECONDS = COMMIT_SECONDS, TRYING_SECONDS
        logger = logging.getLogger("airflow_kinesis_snowflake")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(JournalHandler(self.journal))
        watch(self.journal)
        if self.mutant is not None:
            module, _, function = self.mutant.partition(":")
            getattr(importlib.import_module(module), function)()
        if self.strike is not None:
            self.strike.arm()


def watch(journal: Journal) -> None:
    """Note takeovers and how loads end."""
    look, load_batch = Intake.look, Loader.load

    def watched_look(intake: Intake, **kwargs: Any) -> Any:
        acquired = look(intake, **kwargs)
        if acquired.taken:
            journal.write("took", shards=acquired.taken, takeovers=len(acquired.takeovers))
        return acquired

    def watched_load(loader: Loader, batch: Any) -> Any:
        loaded = load_batch(loader, batch)
        spans = {shard: (str(span.began), str(span.reached)) for shard, span in batch.spans.items()}
        journal.write(
            "loaded",
            batch=batch.id,
            committed=loaded.committed,
            fenced=sorted(loaded.ahead),
            lost=sorted(loaded.lost),
            spans=spans,
        )
        return loaded

    Intake.look = watched_look  # type: ignore[assignment, method-assign]
    Loader.load = watched_load  # type: ignore[assignment, method-assign]


@dataclass
class Shift:
    """One worker process, from its start to its end.

    :param due: moment of a signal from outside, on the monotonic clock
    :param signal: that signal; ``None``: the worker is given up for dead, though it lives
    :param resume_at: when a paused process goes on
    :param given_up: its slot belongs to the next
    """

    process: WorkerProcess
    job: Job
    name: str
    due: float | None
    signal: signal.Signals | None
    resume_at: float | None = None
    given_up: bool = False
    over: bool = False


class Crew:
    """So many slots with a worker in each; paused workers leave their slot to the next.

    :param job: what every worker does; task and preparation are set for each
    """

    def __init__(
        self, job: Job, *, workers: int, random: Random, journal: Journal, mutant: str | None
    ) -> None:
        self._job = job
        self._random = random
        self._journal = journal
        self._mutant = mutant
        self._tasks = [(self._new_task(), 1) for _ in range(workers)]
        self._slots: list[Shift | None] = [None] * workers
        self._zombies: list[Shift] = []
        self.counts: Counter[str] = Counter()
        self.unexpected: list[str] = []

    def act(self) -> float:
        """Look after every worker once, and say when to do so again."""
        now = time.monotonic()
        for slot, shift in enumerate(self._slots):
            if shift is None:
                self._slots[slot] = self._start(*self._tasks[slot])
                continue
            self._attend(shift, now)
            if shift.over or shift.given_up:
                self._slots[slot] = None
                self._follow(slot, shift)
        for zombie in self._zombies:
            self._attend(zombie, now)
        self._zombies = [zombie for zombie in self._zombies if not zombie.over]
        return 0.02

    def finish(self, *, timeout: float) -> None:
        """Start no more, wake who is paused, and wait until all have ended.

        Who has much left to do is told to stop half-way.

        :raises TimeoutError: one didn't end
        """
        working = [shift for shift in (*self._slots, *self._zombies) if shift]
        began = time.monotonic()
        for shift in working:
            shift.due, shift.signal = began + timeout / 2, signal.SIGTERM
        while working:
            for shift in working:
                shift.resume_at = shift.resume_at and 0.0
                self._attend(shift, time.monotonic())
            working = [shift for shift in working if not shift.over]
            if time.monotonic() > began + timeout:
                raise TimeoutError(f"{[shift.name for shift in working]} didn't end in {timeout:g} s")
            time.sleep(0.02)
        self._slots, self._zombies = [], []

    def kill(self) -> None:
        """Kill all that are left."""
        for shift in (*self._slots, *self._zombies):
            if shift and shift.process.alive:
                shift.process.send(signal.SIGKILL)

    # --- starting ------------------------------------------------------------------------------------------

    def _new_task(self) -> str:
        return f"task-{self._random.getrandbits(32):08x}"

    def _follow(self, slot: int, shift: Shift) -> None:
        """Decide who comes next: a retry of the task, or another run."""
        if not shift.over:
            self._zombies.append(shift)
        task, attempt = self._tasks[slot]
        retry = self._random.random() < (0.8 if shift.given_up else 0.5)
        self._tasks[slot] = (task, attempt + 1) if retry else (self._new_task(), 1)

    def _start(self, task: str, attempt: int) -> Shift:
        self.counts["rounds"] += 1
        name = f"{self.counts['rounds']}"
        strike = self._choose_strike()
        limits = {
            "stop_at": datetime.now(UTC),
            "max_batch_records": self._random.choice([5, 40, 1000]),
            "max_batch_seconds": self._random.choice([0.3, 1.0, 5.0]),
        }
        job = replace(
            self._job,
            task=task,
            attempt=attempt,
            settings=limits,
            prepare=Preparation(Journal(self._journal.path, name), strike, self._mutant),
        )
        due = time.monotonic() + self._random.uniform(1.0, 9.0)
        self._journal.write("starts", worker=name, task=f"{task} {attempt}", strike=str(strike))
        return Shift(WorkerProcess(job), job, name, due, self._random.choice((*SIGNALS, None, None)))

    def _choose_strike(self) -> Strike | None:
        if self._random.random() < 0.4:
            return None
        return Strike(
            point=self._random.choice(STEPS[self._job.sink]),
            nth=self._random.choice([1, 1, 2, 3]),
            signal=self._random.choice(SIGNALS),
        )

    # --- looking after -------------------------------------------------------------------------------------

    def _attend(self, shift: Shift, now: float) -> None:
        """Do what is due for a worker."""
        if shift.resume_at is not None:
            self._wake(shift, now)
        elif not shift.process.alive:
            self._note_end(shift)
        elif shift.process.paused:
            self._note_pause(shift, now)
        elif shift.due is not None and now >= shift.due:
            shift.due = None
            self._interfere(shift)

    def _interfere(self, shift: Shift) -> None:
        if shift.signal is None:
            self.counts["doubled"] += 1
            self._journal.write("given up", worker=shift.name)
            shift.given_up = True
        else:
            self._journal.write("signal", worker=shift.name, signal=shift.signal.name)
            shift.process.send(shift.signal)

    def _note_pause(self, shift: Shift, now: float) -> None:
        self.counts["pauses"] += 1
        self._journal.write("paused", worker=shift.name)
        shift.resume_at = now + self._random.uniform(1.1, 2.5) * LEASE_SECONDS
        shift.given_up = True

    def _wake(self, shift: Shift, now: float) -> None:
        if shift.resume_at is not None and now >= shift.resume_at:
            shift.resume_at = None
            self._journal.write("wakes", worker=shift.name)
            shift.process.send(signal.SIGCONT)

    def _note_end(self, shift: Shift) -> None:
        shift.over = True
        code = shift.process.wait()
        if code == 0:
            how = "succeeded"
            self.counts["records"] += shift.process.result()["records"]
        elif code < 0:
            how = "killed" if code == -signal.SIGKILL else f"ended by {signal.Signals(-code).name}"
        else:
            error = shift.process.error()
            name = raised(error)
            how = f"failed with {name}"
            if not is_expected(name):
                self.unexpected.append(f"worker {shift.name}: {error}")
        self.counts[how] += 1
        self._journal.write("ends", worker=shift.name, how=how)


def raised(text: str) -> str:
    """The class of the exception that a traceback ends with."""
    last = text.rpartition("Traceback (most recent call last):")[2]
    line = next(line for line in last.splitlines() if line and not line.startswith(" "))
    return line.partition(":")[0].rpartition(".")[2]


def is_expected(name: str) -> bool:
    """Whether a drain may fail with this under faults: an error that another try may not meet."""
    kind = getattr(exceptions, name, None)
    return isinstance(kind, type) and issubclass(kind, exceptions.TransientError)
