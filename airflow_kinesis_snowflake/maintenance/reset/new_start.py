"""What methods share after which the next drain starts from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.reset.changes import Action, unchanged
from airflow_kinesis_snowflake.maintenance.reset.method import Decision, MethodField
from airflow_kinesis_snowflake.maintenance.reset.positions import parse_start

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest

INITIAL_POSITION = MethodField(
    "initial_position", "where the drain starts a new application, for the forecast"
)


def left_to_drain(request: ResetRequest, inspection: Inspection) -> Decision:
    """Leave it to the next drain to start each shard that is listed at the initial position."""
    start_at = parse_start(request.initial_position)
    return Decision(
        tuple(
            replace(
                unchanged(shard, inspection.at),
                action=Action.LEAVE_TO_DRAIN if shard.listed else Action.REMOVE,
                new_start_at=start_at if shard.listed else None,
            )
            for shard in inspection.shards
        )
    )
