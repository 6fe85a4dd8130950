"""A worker's machine: its clocks, its threads, its death."""

from __future__ import annotations

from collections import deque
from math import inf
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.scheduler import Process, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from random import Random

    from airflow_kinesis_snowflake.engine.runtime import Event, Queue
    from tests.simulation.scheduler import Scheduler, Task

T = TypeVar("T")

# Midnight of a day in 2026, where simulated time begins.
EPOCH = 1_790_000_000


class Machine(Process):
    """The runtime of one worker process.

    :param scheduler: whose time it has
    :param random: its chance
    :param name: of the worker
    :param clock_off: seconds by which its wall clock is ahead
    :param steady: its wall clock is never set
    """

    def __init__(
        self,
        scheduler: Scheduler,
        random: Random,
        *,
        name: str,
        clock_off: float = 0.0,
        steady: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        self.scheduler = scheduler
        self.random = random
        self.clock_off = clock_off
        self.steady = steady
        self.stopped_for = 0.0
        self.hindered_at = -inf
        self._booted = random.uniform(0, 1e6)

    def monotonic(self) -> float:
        """Stands still while the machine is suspended."""
        return self._booted + self.scheduler.now - self.stopped_for

    def wall(self) -> int:
        """The time as this machine has it."""
        return int((EPOCH + self.scheduler.now + self.clock_off) * 1000)

    def new_id(self) -> str:
        """Digits by chance."""
        return f"{self.random.getrandbits(128):032x}"

    def start(self, target: Callable[[], None], *, name: str) -> None:
        """Run on a thread of this process."""
        self.scheduler.spawn(target, owner=self)

    def event(self) -> Event:
        """An event in virtual time."""
        return _Event(self.scheduler)

    def lock(self) -> AbstractContextManager[Any]:
        """A reentrant lock of greenlets."""
        return _Lock(self.scheduler)

    def queue(self) -> Queue[Any]:
        """A queue in virtual time."""
        return _Queue(self.scheduler)

    def wait(self, futures: Collection[Future[Any]], *, timeout: float | None = None) -> bool:
        """Wait for futures in virtual time."""
        deadline = None if timeout is None else self.scheduler.now + timeout
        done = Signal()
        for future in futures:
            if not future.done():
                future.add_done_callback(lambda _: self.scheduler.give(done))
        while not all(future.done() for future in futures):
            left = None if deadline is None else deadline - self.scheduler.now
            if left is not None and left <= 0:
                return False
            self.scheduler.wait(done, left)
        return True

    def sleep(self, seconds: float, *, suspended: bool) -> None:
        """Take no step for a while.

        :param suspended: the whole machine sleeps, and its monotonic clock with it
        """
        self.asleep_until = self.scheduler.now + seconds
        if suspended:
            self.stopped_for += seconds


class _Event:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._signal = Signal()
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        self._scheduler.give(self._signal)

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            self._scheduler.wait(self._signal, timeout)
        return self._is_set


class _Lock:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._signal = Signal()
        self._holder: Task | None = None
        self._depth = 0

    def __enter__(self) -> None:
        task = self._scheduler.running
        while self._holder not in (None, task):
            self._scheduler.wait(self._signal)
        self._holder = task
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = None
            self._scheduler.give(self._signal)


class _Queue:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._signal = Signal()
        self._items: deque[Any] = deque()

    def put(self, item: Any, /) -> None:
        self._items.append(item)
        self._scheduler.give_one(self._signal)

    def get(self, *, timeout: float | None = None) -> Any:
        deadline = None if timeout is None else self._scheduler.now + timeout
        while not self._items:
            left = None if deadline is None else deadline - self._scheduler.now
            if left is not None and left <= 0:
                raise Empty
            self._scheduler.wait(self._signal, left)
        return self._items.popleft()
