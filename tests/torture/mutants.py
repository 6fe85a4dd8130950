"""Defects that torture must find out. Each changes the package in the process that calls it only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.leases import Leases
from airflow_kinesis_snowflake.engine.loading import Loader
from airflow_kinesis_snowflake.engine.offsets import Offsets
from airflow_kinesis_snowflake.sinks.snowflake import copy, statements
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.loading import LoadResult


def without_compare_and_set() -> None:
    """Offsets move from wherever they stand, whoever holds the lease."""
    move_offsets = statements.move_offsets

    def unconditional(*args: Any, **kwargs: Any) -> statements.Statement:
        statement = move_offsets(*args, **kwargs)
        update, condition, guard = re.split(r"( AND TO_BINARY.*?)(?= AND CURRENT_TRANSACTION)", statement.sql)
        assert condition, "the compare-and-set isn't where it was"
        return statements.Statement(update + guard, statement.params)

    statements.move_offsets = unconditional
    without_alarm()
    Leases.holds = lambda *_: True  # type: ignore[method-assign]


def checkpoint_before_commit() -> None:
    """Checkpoints are written first, and then the batch is loaded."""
    load_one = Loader._load

    def too_early(loader: Loader, batch: Batch, *, began: float) -> LoadResult:
        loader._checkpoint(batch, {})
        return load_one(loader, batch, began=began)

    Loader._load = too_early  # type: ignore[assignment, method-assign]
    without_alarm()


def without_guard() -> None:
    """Offsets move outside the transaction too."""
    move_offsets = statements.move_offsets

    def unguarded(*args: Any, **kwargs: Any) -> statements.Statement:
        statement = move_offsets(*args, **kwargs)
        update, guard, rest = statement.sql.partition(" AND CURRENT_TRANSACTION() = %s")
        assert (guard, rest) == (" AND CURRENT_TRANSACTION() = %s", ""), "the guard isn't where it was"
        return statements.Statement(update, statement.params[:-1])

    statements.move_offsets = unguarded


def without_tokens() -> None:
    """What the tokens of channels say is committed already is streamed again."""
    StreamingSink.offsets = lambda *_: Offsets({}, {})  # type: ignore[method-assign]
    StreamingSink._outcome_by = lambda *_: None  # type: ignore[method-assign]


def without_alarm() -> None:
    """Nobody notices that an offset is before one that was committed, which would end a drain in time."""
    copy.went_back = lambda *_: []
