"""Making the plan of a reset: reads DynamoDB, Kinesis and Snowflake, and changes nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ForeignCheckpointError,
    MaintenanceRefusedError,
)
from airflow_kinesis_snowflake.maintenance.iam import drain_policy_text
from airflow_kinesis_snowflake.maintenance.inspection import inspect_state
from airflow_kinesis_snowflake.maintenance.probing import is_retained, next_record
from airflow_kinesis_snowflake.maintenance.reset import (
    LATEST,
    Committed,
    Method,
    Outlook,
    ResetPlan,
    ResetRequest,
    choose_changes,
    committed_by_shard,
    refusals,
    with_effect,
    without_outlook,
)
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt
from airflow_kinesis_snowflake.stream.retention import why_foreign
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
    from airflow_kinesis_snowflake.maintenance.loaded import Loaded
    from airflow_kinesis_snowflake.maintenance.reset import Seen, ShardChange


def plan_reset(
    request: ResetRequest,
    *,
    store: CheckpointStoreHook,
    kinesis: KinesisStreamHook,
    loaded: Loaded | None,
    open_store: Callable[[str], CheckpointStoreHook],
    now: int,
) -> ResetPlan:
    """Make the plan of a reset.

    :param loaded: None: nothing is counted; ``recover`` needs it
    :param open_store: the store of another application, for ``rename``
    :param now: milliseconds since the epoch
    :raises MaintenanceRefusedError: it can't be done; the message says why
    """
    inspection = inspect_state(store, kinesis, now=now)
    refuse(request, refusals(request, inspection))
    if request.new_application:
        check_new_application(request, open_store(request.new_application), inspection)
    committed, notes = _committed(request, inspection, loaded)
    changes = choose_changes(
        request, inspection, committed=committed, new_incarnation=lambda: uuid.uuid4().hex
    )
    changes = tuple(_probed(change, kinesis, inspection) for change in changes)
    _check_positions(request, changes, kinesis, now=now)
    return ResetPlan(
        id=uuid.uuid4().hex[:12],
        request=request,
        made_at=now,
        table_created=inspection.table_created,
        stream_created=inspection.stream_created,
        changes=_with_effects(changes, kinesis, inspection, loaded),
        other_streams=_other_streams(request, store),
        notes=tuple(notes),
    )


def refuse(request: ResetRequest, reasons: Sequence[str]) -> None:
    """Refuse a reset if there are reasons to.

    :raises MaintenanceRefusedError: there are
    """
    if reasons:
        raise MaintenanceRefusedError(
            f"The reset {request.method} of application {request.application} was refused, and nothing was "
            f"changed: {'; '.join(reasons)}."
        )


def check_new_application(request: ResetRequest, store: CheckpointStoreHook, inspection: Inspection) -> None:
    """Try the access to the new name, and see that it is free.

    :raises MaintenanceRefusedError: the name is in use
    :raises AccessDeniedError: a policy doesn't allow it; the message has the statement that would
    """
    try:
        if store.exists() and store.read_items():
            refuse(request, [f"the name {store.application_name} is in use: its table has rows"])
    except AccessDeniedError as error:
        statement = drain_policy_text(application=store.application_name, stream=inspection.stream)
        raise AccessDeniedError(
            f"{error} The policy that names the table {request.application} has to name "
            f"{store.application_name}:\n{statement}"
        ) from None


# --- what Snowflake has ------------------------------------------------------------------------------------


def _committed(
    request: ResetRequest, inspection: Inspection, loaded: Loaded | None
) -> tuple[Mapping[str, Committed], list[str]]:
    if request.method is not Method.RECOVER:
        return {}, []
    if loaded is None:
        refuse(request, ["recover needs the landing table, beside which the offsets table is"])
        raise AssertionError("refused")
    rows = loaded.session.list_offsets(loaded.target.offsets, application=request.application)
    offsets = [
        Committed(row.shard_id, row.incarnation, row.position, closed=row.closed, updated=row.updated)
        for row in rows
        if row.stream == request.stream
    ]
    committed, notes = committed_by_shard(offsets, inspection)
    if not committed and not any(shard.row for shard in inspection.shards):
        refuse(
            request,
            [f"{loaded.target.offsets} has no offsets of it on stream {request.stream} to recover from"],
        )
    return committed, notes


# --- what is read next -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Probe:
    change: ShardChange
    outlook: Outlook | None


def _probed(change: ShardChange, kinesis: KinesisStreamHook, inspection: Inspection) -> ShardChange:
    """Say whether the stream still has what comes behind the new position."""
    if not change.starts or change.new_checkpoint is None:
        return change
    return replace(
        change, retained=is_retained(kinesis, change.shard_id, change.new_checkpoint.sequence_number)
    )


def _check_positions(
    request: ResetRequest, changes: Sequence[ShardChange], kinesis: KinesisStreamHook, *, now: int
) -> None:
    if request.method is not Method.REWIND:
        return
    listed = {shard.shard_id: shard for shard in kinesis.list_shards()}
    for change in changes:
        if change.new_checkpoint is None or change.shard_id not in listed:
            continue
        number = change.new_checkpoint.sequence_number
        foreign = why_foreign(change.new_checkpoint, listed[change.shard_id], now=moment(now))
        if foreign:
            refuse(request, [f"the sequence number {number} {foreign}"])
        if not change.retained:
            refuse(
                request,
                [
                    f"shard {change.shard_id} has no record {number}: it has left the stream, or was never "
                    "in it; use TRIM_HORIZON for the oldest record there is"
                ],
            )


def _with_effects(
    changes: Sequence[ShardChange],
    kinesis: KinesisStreamHook,
    inspection: Inspection,
    loaded: Loaded | None,
) -> tuple[ShardChange, ...]:
    views = {shard.shard_id: shard for shard in inspection.shards}
    probes = [
        _Probe(change, _outlook(change, kinesis, inspection) if views.get(change.shard_id) else None)
        for change in changes
    ]
    first = {
        probe.change.shard_id: probe.outlook.then.position.sequence_number
        for probe in probes
        if probe.outlook is not None
        and probe.outlook.then is not None
        and probe.outlook.then != probe.outlook.now
    }
    counts: Mapping[str, int] = {}
    if loaded is not None and loaded.count:
        counts = loaded.session.count_from(loaded.target, stream=inspection.stream, first=first)
    return tuple(
        without_outlook(probe.change)
        if probe.outlook is None
        else with_effect(
            probe.change, probe.outlook, again=counts.get(probe.change.shard_id), now=inspection.at
        )
        for probe in probes
    )


def _outlook(change: ShardChange, kinesis: KinesisStreamHook, inspection: Inspection) -> Outlook | None:
    if not change.starts:
        return None
    shard = next(shard for shard in inspection.shards if shard.shard_id == change.shard_id)
    then = None
    if change.new_start_at != LATEST:
        then = next_record(kinesis, change.shard_id, _start(change))
    return Outlook(_next_now(shard, kinesis, inspection), then)


def _next_now(shard: ShardView, kinesis: KinesisStreamHook, inspection: Inspection) -> Seen | None:
    """What the next drain would read of a shard; None too if it couldn't read it."""
    foreign = shard.stream_created not in {None, inspection.stream_created}
    if not shard.row or not shard.readable or shard.ended or foreign:
        return None
    start = StartAt.parse(shard.start_at) if shard.start_at else TRIM_HORIZON
    if shard.checkpoint is None and start.timestamp is not None and millis(start.timestamp) > inspection.at:
        return None  # Kinesis refuses to look into the future.
    try:
        return next_record(kinesis, shard.shard_id, shard.checkpoint or start)
    except ForeignCheckpointError:
        return None


def _start(change: ShardChange) -> Position | StartAt:
    return change.new_checkpoint or StartAt.parse(change.new_start_at or "TRIM_HORIZON")


def _other_streams(request: ResetRequest, store: CheckpointStoreHook) -> tuple[str, ...]:
    if request.method is not Method.DELETE_TABLE:
        return ()
    streams = {item["streamName"]["S"] for item in store.read_items()}
    return tuple(sorted(streams - {request.stream}))
