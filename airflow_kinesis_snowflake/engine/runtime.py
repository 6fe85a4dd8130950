"""Clock, threads and randomness for a drain: those of the machine, or of a simulation."""

from __future__ import annotations

import random
import threading
import time
import uuid
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

T = TypeVar("T")


class Event(Protocol):
    """Like :class:`threading.Event`."""

    def set(self) -> None:
        """Wake everyone who waits."""

    def is_set(self) -> bool:
        """Whether it was set."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for some seconds; whether it is set."""


class Queue(Protocol[T]):
    """Like :class:`queue.SimpleQueue`; ``put`` is safe in a signal handler."""

    def put(self, item: T, /) -> None:
        """Add an item."""

    def get(self, *, timeout: float | None = None) -> T:
        """Wait for the next item.

        :raises queue.Empty: there was none for this many seconds
        """


class Runtime(Protocol):
    """What a drain uses of its machine, besides the services that it is given."""

    @property
    def random(self) -> random.Random:
        """Random numbers, for waits that shouldn't coincide."""

    def monotonic(self) -> float:
        """Seconds on a monotonic clock."""

    def wall(self) -> int:
        """This machine's time, in milliseconds since the epoch."""

    def new_id(self) -> str:
        """32 unique hexadecimal digits."""

    def start(self, target: Callable[[], None], *, name: str) -> None:
        """Call on a new thread, which doesn't keep the process from ending."""

    def event(self) -> Event:
        """An event that isn't set."""

    def lock(self) -> AbstractContextManager[Any]:
        """A reentrant lock."""

    def queue(self) -> Queue[Any]:
        """A queue without a limit."""

    def wait(self, futures: Collection[Future[Any]], *, timeout: float | None = None) -> bool:
        """Wait until all are done, or for some seconds; whether all are done."""


class Machine:
    """The clock and the threads of this machine."""

    random = random.Random()

    def monotonic(self) -> float:
        """Like :func:`time.monotonic`."""
        return time.monotonic()

    def wall(self) -> int:
        """As :func:`~airflow_kinesis_snowflake.stream.times.now_millis`."""
        return now_millis()

    def new_id(self) -> str:
        """A UUID."""
        return uuid.uuid4().hex

    def start(self, target: Callable[[], None], *, name: str) -> None:
        """Call on a daemon thread."""
        threading.Thread(target=target, name=name, daemon=True).start()

    def event(self) -> Event:
        """A :class:`threading.Event`."""
        return threading.Event()

    def lock(self) -> AbstractContextManager[Any]:
        """A :class:`threading.RLock`."""
        return threading.RLock()

    def queue(self) -> Queue[Any]:
        """A :class:`queue.SimpleQueue`."""
        return SimpleQueue()

    def wait(self, futures: Collection[Future[Any]], *, timeout: float | None = None) -> bool:
        """Like :func:`concurrent.futures.wait`."""
        return not wait(futures, timeout=timeout).not_done


MACHINE = Machine()
