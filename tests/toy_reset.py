"""A method of a reset that the package does not have, in one module, as the docs say to write it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.reset.changes import Action, unchanged
from airflow_kinesis_snowflake.maintenance.reset.method import Decision, MethodField, ResetMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest


class Nudge(ResetMethod):
    """Sets every shard that has a row to a position, and counts the offsets that this passes over."""

    name = "nudge"
    summary = "give shards a push"
    fields = (MethodField("position", "how hard to push", required=True),)

    def intention(self, request: ResetRequest) -> str:
        return f"shards are pushed to {request.position}."

    def decide(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        offsets: Sequence[CommittedOffset],
        new_incarnation: Callable[[], str],
    ) -> Decision:
        changes = tuple(
            replace(
                unchanged(shard, inspection.at),
                action=Action.SET,
                new_start_at=request.position,
                new_incarnation=new_incarnation(),
            )
            for shard in inspection.shards
            if shard.row
        )
        return Decision(changes, (f"{len(offsets)} offsets were pushed over.",))
