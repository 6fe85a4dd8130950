"""How far Snowflake has loaded a shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.state.attributes import COPY

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.stream.positions import Position


@dataclass(frozen=True)
class CommittedOffset:
    """How far Snowflake has loaded a shard under one incarnation.

    :param position: None: nothing yet
    :param closed: a reset ended the incarnation; channels don't say so
    :param updated: orders the incarnations of a shard by their last change
    :param sink: the way in; each sink has a memory of its own
    """

    shard_id: str
    incarnation: str
    position: Position | None
    closed: bool = False
    updated: float = 0.0
    sink: str = COPY
