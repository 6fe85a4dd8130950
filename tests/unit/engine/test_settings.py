"""Who a worker is, and whose leases it may take at once."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.engine.settings import Worker


@pytest.mark.parametrize(
    ("owner", "succeeds"),
    [
        ("dag/run/task/0#1-aa", True),
        ("dag/run/task/0#2-bb", False),
        ("dag/run/task/0#2-aa", False),
        ("dag/run/task/0#10-aa", False),
        ("dag/run/task/1#1-aa", False),
        ("6fdc6fe2-7ff3-4c5b-8f8a-0d1a6f1e3c55", False),
        (None, False),
    ],
)
def test_a_worker_succeeds_earlier_tries_of_its_task_and_nobody_else(
    owner: str | None, succeeds: bool
) -> None:
    assert Worker("dag/run/task/0", "2-bb").succeeds(owner) is succeeds
