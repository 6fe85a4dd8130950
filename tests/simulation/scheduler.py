"""Virtual time: greenlets that sleep, wait and are resumed in an order drawn by chance."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

# A history that needs more steps than this doesn't get on.
MOST_STEPS = 400_000


class StuckError(AssertionError):
    """A history doesn't come to its end."""


class Task:
    """A thread of the simulation.

    :param run: what it does
    :param owner: the process that it belongs to; ``None``: a service
    """

    def __init__(self, run: Callable[[], None], owner: Process | None, main: greenlet) -> None:
        self.greenlet = greenlet(run, parent=main)
        self.owner = owner
        self.turn = 0


class Process:
    """Threads that die and sleep together."""

    def __init__(self) -> None:
        self.dead = False
        self.asleep_until = 0.0
        self.tasks: dict[Task, None] = {}


class Signal:
    """Something that tasks wait for."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Task, int]] = []


class Scheduler:
    """Runs tasks one at a time; a step of one lasts no time.

    :param random: decides the order of what happens at the same time
    """

    def __init__(self, random: Random) -> None:
        self.now = 0.0
        self.steps = 0
        self.random = random
        self._main = getcurrent()
        self._agenda: list[tuple[float, float, int, Task, int]] = []
        self._tasks: list[Task] = []
        self._count = 0
        self._running: Task | None = None
        self._until: Callable[[], bool] = lambda: False
        self._stuck: str | None = None

    @property
    def running(self) -> Task:
        """The task whose step this is."""
        assert self._running is not None
        return self._running

    def spawn(self, run: Callable[[], None], *, owner: Process | None = None, after: float = 0.0) -> Task:
        """Begin a task.

        :param after: seconds from now
        """
        task = Task(run, owner, self._main)
        if owner is not None:
            if owner.dead:
                raise GreenletExit
            owner.tasks[task] = None
        self._tasks.append(task)
        self._plan(task, after)
        return task

    def sleep(self, seconds: float) -> None:
        """Let the running task go on later."""
        self._check_alive()
        at = self.now + seconds
        owner = self.running.owner
        nobody_before = not self._agenda or self._agenda[0][0] > at
        if nobody_before and (owner is None or owner.asleep_until <= at) and self.steps < MOST_STEPS:
            self.now = at
            self.steps += 1
            return
        self._plan(self.running, seconds)
        self._pause()

    def wait(self, signal: Signal, timeout: float | None = None) -> None:
        """Let the running task go on when a signal is given, or after so many seconds."""
        self._check_alive()
        task = self.running
        signal.waiting.append((task, task.turn))
        if timeout is not None:
            self._plan(task, timeout)
        self._pause()

    def give(self, signal: Signal) -> None:
        """Let everybody who waits for a signal go on."""
        waiting, signal.waiting = signal.waiting, []
        for task, turn in waiting:
            if task.turn == turn:
                self._plan(task, 0.0)

    def give_one(self, signal: Signal) -> None:
        """Let one of those who wait for a signal go on."""
        while signal.waiting:
            task, turn = signal.waiting.pop(0)
            if task.turn == turn:
                self._plan(task, 0.0)
                return

    def kill(self, process: Process) -> None:
        """End a process: none of its threads takes another step that anybody could notice."""
        process.dead = True
        for task in list(process.tasks):
            if task is not self._running:
                self._let_go(task)
        process.tasks.clear()
        if self._running is not None and self._running.owner is process:
            raise GreenletExit

    def end(self) -> None:
        """End all tasks, which otherwise wait for ever and keep their memory."""
        for task in self._tasks:
            if task.owner is not None:
                task.owner.dead = True
        for task in self._tasks:
            self._let_go(task)

    def _let_go(self, task: Task) -> None:
        if not task.greenlet.dead:
            task.turn += 1
            interrupted, self._running = self._running, task
            task.greenlet.parent = getcurrent()
            task.greenlet.throw(GreenletExit)
            self._running = interrupted

    def run(self, until: Callable[[], bool]) -> None:
        """Go on until a condition holds.

        :raises StuckError: it doesn't come to hold
        """
        self._until = until
        while (task := self._next()) is not None:
            task.greenlet.switch()
            ended = self._running
            if ended is not None and ended.owner is not None and ended.greenlet.dead:
                ended.owner.tasks.pop(ended, None)
        self._running = None
        if self._stuck is not None:
            raise StuckError(self._stuck)

    def _next(self) -> Task | None:
        """Whose turn it is; ``None``: the condition holds, or never will."""
        while not self._until() and self._stuck is None:
            if not self._agenda:
                self._stuck = "nobody has anything left to do"
                break
            at, _, _, task, turn = heapq.heappop(self._agenda)
            if task.turn != turn or task.greenlet.dead:
                continue
            owner = task.owner
            if owner is not None and owner.asleep_until > at:
                # Not after the difference: the sum may come out a rounding error too early, for ever.
                self._plan_at(task, owner.asleep_until)
                continue
            self.now = max(self.now, at)
            self.steps += 1
            if self.steps > MOST_STEPS:
                self._stuck = f"no end after {MOST_STEPS:,} steps and {self.now:,.0f} s"
                break
            task.turn += 1
            self._running = task
            return task
        return None

    def _plan(self, task: Task, seconds: float) -> None:
        self._plan_at(task, self.now + max(0.0, seconds))

    def _plan_at(self, task: Task, at: float) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (at, self.random.random(), self._count, task, task.turn))

    def _pause(self) -> None:
        paused, task = self._running, self._next()
        if task is None:
            self._main.switch()
        elif task is not paused:
            task.greenlet.switch()
        self._check_alive()

    def _check_alive(self) -> None:
        owner = self.running.owner
        if owner is not None and owner.dead:
            raise GreenletExit
