"""What may become of a shard, and that the documentation draws it as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_kinesis_snowflake.engine.reader import ShardReader
from airflow_kinesis_snowflake.engine.status import (
    FINISHED,
    TRANSITIONS,
    IllegalTransitionError,
    Status,
)
from airflow_kinesis_snowflake.state.shards import ShardState

PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"
PAIRS = [(before, after) for before in Status for after in Status]


def test_the_documentation_has_the_table() -> None:
    section = PAGE.read_text().partition("## The life of a shard")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", section, flags=re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", after)) for name, after in lines} == {
        before.value: {after.value for after in TRANSITIONS[before]} for before in Status
    }


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_shard_changes_as_the_table_says_and_not_otherwise(before: Status, after: Status) -> None:
    reader = ShardReader(ShardState("a"), committed=None, shard=None)
    reader.status = before
    if after in TRANSITIONS[before]:
        reader.enter(after)
        assert reader.status is after
    else:
        with pytest.raises(IllegalTransitionError, match=f"was {before}, and got {after}"):
            reader.enter(after)
        assert reader.status is before


def test_whatever_is_held_can_be_lost_and_released() -> None:
    held = set(Status) - {Status.LOST, Status.RELEASED}
    assert all({Status.LOST, Status.RELEASED} <= TRANSITIONS[status] for status in held)
    assert held >= FINISHED
