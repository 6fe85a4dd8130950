"""Torture judges what landed by its numbers and by its order."""

from __future__ import annotations

import pytest

from tests.torture.crew import is_expected, raised
from tests.torture.verdicts import Landed, judge


def row(
    number: int, *, key: str = "key", shard: str = "parent", place: int | None = None, sub: int = 0
) -> Landed:
    return Landed(number, key, shard, (number if place is None else place, sub))


def test_every_number_once_and_in_order_is_good() -> None:
    landed = [row(0), row(1), row(3, place=2, sub=0), row(4, place=2, sub=1), row(5, shard="child")]

    verdict = judge(6, landed=landed, dead=[row(2)])

    assert verdict.good
    assert str(verdict) == "every number once and in order"


def test_missing_repeated_and_foreign_numbers_are_told_apart() -> None:
    verdict = judge(4, landed=[row(0), row(1), row(9)], dead=[row(1)])

    assert (verdict.missing, verdict.duplicates, verdict.foreign) == ((2, 3), {1: 2}, (9,))
    assert not verdict.good
    assert "2 missing (2, 3)" in str(verdict)


@pytest.mark.parametrize(
    "rows",
    [
        [row(0, key="a", place=2), row(1, key="b", place=1)],
        [row(0, key="a", place=2, sub=1), row(1, key="b", place=2, sub=0)],
        [row(1, shard="child"), row(0, shard="parent")],
    ],
    ids=["a shard backwards", "an aggregate backwards", "a child before its parent"],
)
def test_rows_in_the_wrong_order_are_noticed(rows: list[Landed]) -> None:
    assert len(judge(2, landed=rows, dead=[]).disorder) == 1
    assert len(judge(2, landed=[], dead=rows).disorder) == 1


TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 1, in a
    raise KeyError
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "b.py", line 1, in b
    raise {name}("what happened")
{module}{name}: what happened
and a note
"""


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("airflow_kinesis_snowflake.exceptions.", "ServiceUnavailableError", True),
        ("airflow_kinesis_snowflake.exceptions.", "CorruptStateError", False),
        ("airflow_kinesis_snowflake.exceptions.", "KinesisSnowflakeError", False),
        ("", "KeyError", False),
    ],
)
def test_a_drain_may_fail_only_with_what_another_try_may_not_meet(
    module: str, name: str, expected: bool
) -> None:
    assert raised(TRACEBACK.format(module=module, name=name)) == name
    assert is_expected(name) is expected
