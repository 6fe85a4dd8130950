"""Threads that begin when there is a call for them, and no more of them than allowed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.engine.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0


class Counting(Machine):
    """Remembers which threads were begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def start(self, target: Callable[[], None], *, name: str) -> None:
        self.begun.append(name)
        super().start(target, name=name)


def test_no_thread_begins_before_there_is_a_call_for_it() -> None:
    runtime, go_on = Counting(), threading.Event()
    with DaemonThreads(3, name="pool", runtime=runtime) as threads:
        assert runtime.begun == []
        calls = [threads.submit(go_on.wait, PATIENCE) for _ in range(5)]
        assert runtime.begun == ["pool-1", "pool-2", "pool-3"]
        go_on.set()
        assert all(call.result(PATIENCE) for call in calls)


def test_calls_that_wait_get_the_threads_that_are_added() -> None:
    runtime, go_on = Counting(), threading.Event()
    with DaemonThreads(1, name="pool", runtime=runtime) as threads:
        hangs = threads.submit(go_on.wait, PATIENCE)
        answers = threads.submit(lambda: "done")
        threads.resize(2)
        assert answers.result(PATIENCE) == "done"
        threads.resize(1)
        go_on.set()
        assert hangs.result(PATIENCE)
        assert threads.submit(lambda: "again").result(PATIENCE) == "again"
