"""Threads that never keep a process from ending."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow_kinesis_snowflake.engine.runtime import MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_kinesis_snowflake.engine.runtime import Queue, Runtime

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class DaemonThreads:
    """Daemon threads that run calls in order of submission.

    ``concurrent.futures.ThreadPoolExecutor`` joins its threads when the interpreter exits, so a call that
    hangs in a socket would hold up a task that was told to stop. These threads are left behind instead. Each
    begins when there is a call for it.

    :param count: the largest number of threads
    :param name: prefix of the threads' names
    :param runtime: where they run
    """

    def __init__(self, count: int, *, name: str, runtime: Runtime = MACHINE) -> None:
        self._count = count
        self._name = name
        self.runtime = runtime
        self._calls: Queue[Callable[[], None] | None] = runtime.queue()
        self._lock = runtime.lock()
        self._threads = 0
        self._unfinished = 0

    def resize(self, count: int) -> None:
        """Change the number of threads; those that are too many end once the submitted calls are done."""
        with self._lock:
            self._count = count
            while self._threads > count:
                self._threads -= 1
                self._calls.put(None)
            self._start_as_needed()

    def _start_as_needed(self) -> None:
        while self._threads < min(self._unfinished, self._count):
            self._threads += 1
            self.runtime.start(self._work, name=f"{self._name}-{self._threads}")

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the call on the next free thread."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            self._unfinished += 1
            self._calls.put(run)
            self._start_as_needed()
        return future

    def map(self, call: Callable[[A], T], items: Iterable[A]) -> list[T]:
        """Run the call once per item, side by side, and return the results in order of the items.

        :raises Exception: the first item's error, after all calls have ended
        """
        futures: list[Future[T]] = [self.submit(call, item) for item in items]
        self.runtime.wait(futures)
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let the threads end once the submitted calls are done; doesn't wait for them."""
        self.resize(0)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._lock:
                self._unfinished -= 1

    def __enter__(self) -> DaemonThreads:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()
