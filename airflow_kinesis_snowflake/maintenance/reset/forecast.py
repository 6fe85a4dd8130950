"""What a reset causes: which record of each shard is read next, and what that means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import ForeignCheckpointError, SnowflakeObjectNotFoundError
from airflow_kinesis_snowflake.maintenance.reset.changes import Action
from airflow_kinesis_snowflake.maintenance.reset.due import due_shards
from airflow_kinesis_snowflake.maintenance.reset.peek import is_retained, next_record
from airflow_kinesis_snowflake.maintenance.reset.positions import LATEST
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt
from airflow_kinesis_snowflake.stream.times import millis, utc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
    from airflow_kinesis_snowflake.maintenance.reset.changes import ShardChange
    from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
    from airflow_kinesis_snowflake.maintenance.reset.peek import NextRecord
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

Start = Position | StartAt


@dataclass(frozen=True)
class Outlook:
    """Which record of a shard is read next.

    :param now: without the reset; None: no record is left, or the shard isn't read
    :param then: with it; None: no record is left
    """

    now: NextRecord | None
    then: NextRecord | None


# --- in words ----------------------------------------------------------------------------------------------


def with_effect(change: ShardChange, outlook: Outlook, *, again: int | None) -> ShardChange:
    """Say what a change causes.

    :param again: how many records from ``outlook.then`` on are in Snowflake; None: not counted
    """
    loaded_again = again if outlook.then is not None else 0
    return replace(change, effect=_effect(outlook), loaded_again=loaded_again)


def _effect(outlook: Outlook) -> str:
    if outlook.now == outlook.then:
        return "goes on with the same record" if outlook.then else "has nothing to read, as before"
    if outlook.now is None and outlook.then is not None:
        return f"loads records that arrived from {utc(outlook.then.arrived)} on"
    if outlook.now is not None and outlook.then is not None and outlook.then.position < outlook.now.position:
        return f"loads again the records that arrived from {utc(outlook.then.arrived)} on"
    began = "" if outlook.now is None else utc(outlook.now.arrived)
    until = "now" if outlook.then is None else utc(outlook.then.arrived)
    return f"skips the records that arrived from {began} until {until}"


def without_outlook(change: ShardChange) -> ShardChange:
    """Say what a change causes after which nothing is read of a shard."""
    if change.action is Action.REMOVE:
        effect = "is forgotten: it is no longer in the stream"
    elif change.new_ended:
        effect = "counts as read to its end; what came after its position has left the stream"
    elif change.starts:
        effect = "has left the stream with all records after its position; the next drain reports the loss"
    else:
        effect = "stays as it is"
    return replace(change, effect=effect, loaded_again=0)


# --- looked up ---------------------------------------------------------------------------------------------


def probed(change: ShardChange, kinesis: KinesisStreamHook, inspection: Inspection) -> ShardChange:
    """Note whether the stream still has what comes after the new position."""
    listed = {shard.shard_id for shard in inspection.shards if shard.listed}
    if not change.starts or change.new_checkpoint is None or change.shard_id not in listed:
        return change
    return replace(
        change, retained=is_retained(kinesis, change.shard_id, change.new_checkpoint.sequence_number)
    )


def forecast(
    request: ResetRequest,
    inspection: Inspection,
    changes: Sequence[ShardChange],
    *,
    offsets: Sequence[CommittedOffset],
    kinesis: KinesisStreamHook,
    snowflake: SnowflakeState | None,
) -> tuple[tuple[ShardChange, ...], list[str]]:
    """The changes, with what each of them causes, and notes.

    :param offsets: how far Snowflake is; nothing up to there is loaded again under the same incarnation
    :param snowflake: where to count what is loaded again; None: it isn't counted
    """
    outlooks = _outlooks(changes, kinesis, inspection, offsets)
    counts, notes = _counted(request, outlooks, snowflake)
    return tuple(_with_effect(change, outlooks, counts) for change in changes), notes


def _with_effect(
    change: ShardChange, outlooks: Mapping[str, tuple[Outlook, Start | None]], counts: Mapping[str, int]
) -> ShardChange:
    if change.shard_id not in outlooks:
        return without_outlook(change)
    outlook, _ = outlooks[change.shard_id]
    return with_effect(change, outlook, again=counts.get(change.shard_id))


def _outlooks(
    changes: Sequence[ShardChange],
    kinesis: KinesisStreamHook,
    inspection: Inspection,
    offsets: Sequence[CommittedOffset],
) -> dict[str, tuple[Outlook, Start | None]]:
    """What is read next of each shard of which something is read, and from where."""
    views = {shard.shard_id: shard for shard in inspection.shards if shard.listed}
    # The later one, where two sinks have committed.
    known = [offset for offset in offsets if offset.position is not None]
    committed = {
        (offset.shard_id, offset.incarnation): offset.position
        for offset in sorted(known, key=lambda offset: offset.position or Position("0"))
    }
    due = due_shards(inspection)
    outlooks = {}
    for change in changes:
        view = views.get(change.shard_id)
        if view is None:
            continue
        is_read = _is_read(view, inspection) or view.shard_id in due
        if not (change.starts or is_read):
            continue
        start = _later(_start_now(view), committed.get((view.shard_id, view.incarnation or "")))
        now = _next_now(view, kinesis, inspection, start) if is_read else None
        then = now
        if change.starts:
            start = _later(_start_then(change), committed.get((view.shard_id, change.new_incarnation or "")))
            then = None if start is None else next_record(kinesis, change.shard_id, start)
        outlooks[change.shard_id] = Outlook(now, then), start
    return outlooks


def _start_now(shard: ShardView) -> Start | None:
    return shard.checkpoint or (StartAt.parse(shard.start_at) if shard.start_at else TRIM_HORIZON)


def _start_then(change: ShardChange) -> Start | None:
    """None: after everything that is in the stream now."""
    if change.new_checkpoint is None and change.new_start_at == LATEST:
        return None
    return change.new_checkpoint or StartAt.parse(change.new_start_at or "TRIM_HORIZON")


def _later(start: Start | None, offset: Position | None) -> Start | None:
    """Where a drain really goes on: nothing up to the offset of an incarnation is loaded under it again."""
    if start is None or offset is None:
        return start
    return max(start, offset) if isinstance(start, Position) else offset


def _counted(
    request: ResetRequest,
    outlooks: Mapping[str, tuple[Outlook, Start | None]],
    snowflake: SnowflakeState | None,
) -> tuple[Mapping[str, int], list[str]]:
    """How many records Snowflake has of what the next drain reads, by shard, and notes."""
    if snowflake is None or not snowflake.count:
        return {}, []
    first = {
        shard_id: _first(outlook.then, start)
        for shard_id, (outlook, start) in outlooks.items()
        if outlook.then is not None
    }
    try:
        return snowflake.session.count_from(
            snowflake.target, application=request.application, stream=request.stream, first=first
        ), []
    except SnowflakeObjectNotFoundError as error:
        return {}, [
            "Check that the landing table is the right one, or grant SELECT on it and on "
            f"{snowflake.target.dead_letters}: it isn't known how many records are loaded again. {error}."
        ]


def _first(then: NextRecord, start: Start | None) -> Position:
    """The record from which on to count: inside an aggregate, if reading goes on there."""
    same = isinstance(start, Position) and start.sequence_number == then.position.sequence_number
    return start if same and isinstance(start, Position) else then.position


def _is_read(shard: ShardView, inspection: Inspection) -> bool:
    """Whether a drain can read a shard as its row is."""
    return shard.row and shard.readable and not shard.ended and not inspection.is_foreign(shard)


def _next_now(
    shard: ShardView, kinesis: KinesisStreamHook, inspection: Inspection, start: Start | None
) -> NextRecord | None:
    """What the next drain would read of a shard that it reads; None too if it couldn't."""
    if start is None:
        return None
    if isinstance(start, StartAt) and start.timestamp and millis(start.timestamp) > inspection.at:
        return None  # Kinesis refuses to look into the future.
    try:
        return next_record(kinesis, shard.shard_id, start)
    except ForeignCheckpointError:
        return None
