"""``rewind``: shards go to a position, forwards or backwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.reset.changes import Action, unchanged
from airflow_kinesis_snowflake.maintenance.reset.due import due_shards
from airflow_kinesis_snowflake.maintenance.reset.method import Decision, MethodField, ResetMethod, refuse
from airflow_kinesis_snowflake.maintenance.reset.positions import parse_position
from airflow_kinesis_snowflake.stream.retention import why_foreign
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
    from airflow_kinesis_snowflake.maintenance.reset.apply import ResetRun
    from airflow_kinesis_snowflake.maintenance.reset.changes import ShardChange
    from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
    from airflow_kinesis_snowflake.maintenance.reset.method import ListShards
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest


class Rewind(ResetMethod):
    """Sets shards to a position, under new incarnations, so that what was loaded before doesn't count."""

    name = "rewind"
    summary = "set shards to a position"
    fields = (
        MethodField(
            "position",
            "TRIM_HORIZON, LATEST, an ISO-8601 timestamp with a time zone, or the sequence number of the "
            "last record that counts as loaded (with exactly one shard)",
            required=True,
        ),
        MethodField("shards", "only these shards; all of them if none is named"),
    )

    def check(self, request: ResetRequest) -> None:
        """A sequence number belongs to one shard."""
        checkpoint, _ = parse_position(request.position or "")
        if checkpoint is not None and len(request.shards) != 1:
            raise InvalidSettingError(
                f"name exactly one shard: the sequence number {request.position} belongs to a single shard"
            )

    def intention(self, request: ResetRequest) -> str:
        """Which shards go where."""
        return f"{len(request.shards) or 'all'} shards go to {request.position}."

    def refusals(self, request: ResetRequest, inspection: Inspection) -> Iterable[str]:
        """A drain makes no rows for ancestors of shards that have one: it takes them for read long ago."""
        made = {
            shard.shard_id
            for shard in inspection.shards
            if shard.shard_id in request.shards and not shard.row
        }
        left_out = due_shards(inspection) - made - due_shards(inspection, made=made) if made else ()
        if left_out:
            yield (
                f"name the shards {', '.join(sorted(left_out))} too, or drain once before: they have no row "
                "yet, and no drain would read them after their descendants got one"
            )

    def decide(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        offsets: Sequence[CommittedOffset],
        new_incarnation: Callable[[], str],
    ) -> Decision:
        """Set each of the shards that are listed, and remove rows that are of no use to anybody."""
        return Decision(
            tuple(
                _rewound(request, shard, inspection, new=new_incarnation())
                for shard in inspection.shards
                if not request.shards or shard.shard_id in request.shards
            )
        )

    def apply(self, run: ResetRun) -> None:
        """Set the shards; a plan for all of them must name all that have rows by now."""
        run.change_shards(whole=not run.plan.request.shards)

    def review(
        self,
        request: ResetRequest,
        inspection: Inspection,
        changes: Sequence[ShardChange],
        *,
        list_shards: ListShards,
    ) -> Iterable[str]:
        """A sequence number must be that of a record that the shard has."""
        numbered = [change for change in changes if change.new_checkpoint is not None]
        listed = {shard.shard_id: shard for shard in list_shards()} if numbered else {}
        for change in numbered:
            if change.new_checkpoint is None or change.shard_id not in listed:
                continue
            number = change.new_checkpoint.sequence_number
            foreign = why_foreign(change.new_checkpoint, listed[change.shard_id], now=moment(inspection.at))
            if foreign:
                refuse(request, [f"the sequence number {number} {foreign}"])
            if not change.retained:
                refuse(
                    request,
                    [
                        f"use TRIM_HORIZON for the oldest record there is: shard {change.shard_id} has no "
                        f"record {number}, which has left the stream or was never in it"
                    ],
                )
        return ()


def _rewound(request: ResetRequest, shard: ShardView, inspection: Inspection, *, new: str) -> ShardChange:
    change = unchanged(shard, inspection.at)
    if not shard.listed:
        if shard.readable and not inspection.is_foreign(shard):
            return change
        return replace(change, action=Action.REMOVE)
    checkpoint, start_at = parse_position(request.position or "")
    return replace(
        change,
        action=Action.SET if shard.row else Action.CREATE,
        new_checkpoint=checkpoint,
        new_start_at=start_at or shard.start_at or "TRIM_HORIZON",
        new_incarnation=new,
    )
