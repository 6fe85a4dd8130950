"""What methods share after which the next drain starts from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.reset.changes import Action, unchanged
from airflow_kinesis_snowflake.maintenance.reset.method import Decision, MethodField, ResetMethod
from airflow_kinesis_snowflake.maintenance.reset.positions import parse_start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest

INITIAL_POSITION = MethodField(
    "initial_position", "where the drain starts a new application, for the forecast"
)


class NewStart(ResetMethod):
    """Writes no rows: the next drain starts each listed shard at its initial position."""

    writes_rows = False

    def check(self, request: ResetRequest) -> None:
        """The initial position must be one for any shard."""
        parse_start(request.initial_position)

    def decide(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        offsets: Sequence[CommittedOffset],
        new_incarnation: Callable[[], str],
    ) -> Decision:
        """Leave everything to the next drain."""
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
