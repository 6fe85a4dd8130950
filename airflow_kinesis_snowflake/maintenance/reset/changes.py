"""What a reset does to each shard, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.state.attributes import COPY
from airflow_kinesis_snowflake.stream.positions import Position  # noqa: TC001 -- plans are read from JSON

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
    from airflow_kinesis_snowflake.state.shards import ShardState


class Action(StrEnum):
    """What a plan does to a shard."""

    SET = "set"
    CREATE = "create"
    REMOVE = "remove"
    KEEP = "keep"
    LEAVE_TO_DRAIN = "leave to the next drain"


@dataclass(frozen=True, kw_only=True)
class ShardChange:
    """What a plan does to one shard.

    :param checkpoint: the present one, as are ``start_at``, ``incarnation``, ``lease`` and ``updated``
    :param incarnation: of a shard without a row, the one that ends, if Snowflake names it
    :param new_start_at: as ``StartAt`` writes it, or ``LATEST``: the moment when the plan is carried out
    :param new_offset: the position through which ``new_sink`` has loaded under the new incarnation
    :param new_sinks: the sinks that may have loaded under the new incarnation; none if it begins
    :param new_caught_up_at: no record before this moment counts (ms); the drain checks whether any aged out
        since then
    :param effect: in words
    :param loaded_again: records in Snowflake that the next drain loads once more; None: not counted
    :param retained: the stream still has the records from the new position on; None: not known
    """

    shard_id: str
    action: Action
    checkpoint: Position | None = None
    start_at: str | None = None
    incarnation: str | None = None
    lease: str = "free"
    updated: int | None = None
    parents: tuple[str, ...] = ()
    new_checkpoint: Position | None = None
    new_start_at: str | None = None
    new_incarnation: str | None = None
    new_ended: bool = False
    new_offset: Position | None = None
    new_sink: str = COPY
    new_sinks: tuple[str, ...] = ()
    new_caught_up_at: int | None = None
    effect: str = ""
    loaded_again: int | None = None
    retained: bool | None = None

    @property
    def starts(self) -> bool:
        """Whether the plan decides where the shard is read next."""
        return self.action in {Action.SET, Action.CREATE, Action.LEAVE_TO_DRAIN} and not self.new_ended


def unchanged(shard: ShardView, now: int) -> ShardChange:
    """No change of a shard: what methods begin with.

    :param now: milliseconds since the epoch
    """
    return ShardChange(
        shard_id=shard.shard_id,
        action=Action.KEEP,
        checkpoint=shard.checkpoint,
        start_at=shard.start_at,
        incarnation=shard.incarnation,
        lease=shard.lease_text(now),
        updated=shard.last_update,
        parents=shard.parents,
    )


def unmet_changes(changes: Iterable[ShardChange], inspection: Inspection) -> list[str]:
    """What isn't as the changes leave it; nothing if all is well."""
    shards = {shard.shard_id: shard for shard in inspection.shards}
    problems = []
    for change in changes:
        shard = shards.get(change.shard_id)
        if change.action is Action.REMOVE and shard is not None and shard.row:
            problems.append(f"shard {change.shard_id} still has a row")
        if change.action not in {Action.SET, Action.CREATE}:
            continue
        if shard is None or not _is_as_planned(shard, change):
            problems.append(f"shard {change.shard_id} wasn't reset")
        elif shard.leased(inspection.at):
            problems.append(f"shard {change.shard_id} is leased to {shard.lease_owner}")
    return problems


def _is_as_planned(shard: ShardView, change: ShardChange) -> bool:
    """Whether a shard goes on as planned; a drain may have moved its checkpoint since."""
    if shard.incarnation != change.new_incarnation:
        return False
    kept = change.incarnation == change.new_incarnation
    return not (kept and shard.checkpoint == change.checkpoint != change.new_checkpoint)


def has_copied(row: ShardState) -> bool:
    """Whether there may be an offset of a row's incarnation."""
    return row.offset is not None or COPY in row.sinks
