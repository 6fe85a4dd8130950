"""Making the plan of a reset: reads DynamoDB, Kinesis and Snowflake, and changes nothing."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ForeignCheckpointError,
    MaintenanceRefusedError,
    SnowflakeObjectNotFoundError,
)
from airflow_kinesis_snowflake.maintenance.iam import drain_policy_text
from airflow_kinesis_snowflake.maintenance.inspection import inspect_state
from airflow_kinesis_snowflake.maintenance.methods import Method
from airflow_kinesis_snowflake.maintenance.probing import is_retained, next_record
from airflow_kinesis_snowflake.maintenance.reset import (
    LATEST,
    Committed,
    Outlook,
    ResetPlan,
    ResetRequest,
    choose_changes,
    committed_by_shard,
    notes_of_return,
    refusals,
    with_effect,
    without_outlook,
)
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.state.attributes import key_of
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
    offsets, notes = _offsets(request, inspection, loaded)
    channels, of_channels = _channels(request, inspection, loaded)
    known = (*(offsets or ()), *channels)
    committed, more = _committed(request, inspection, known)
    changes = choose_changes(
        request, inspection, committed=committed, new_incarnation=lambda: uuid.uuid4().hex
    )
    changes = tuple(_probed(change, kinesis, inspection) for change in changes)
    _check_positions(request, changes, kinesis, now=now)
    outlooks = _outlooks(changes, kinesis, inspection, known)
    counts, unseen = _counted(request, outlooks, loaded)
    if request.trust_snowflake:
        more += notes_of_return(changes, inspection.retention_seconds)
    return ResetPlan(
        id=uuid.uuid4().hex[:12],
        request=request,
        made_at=now,
        table_created=inspection.table_created,
        stream_created=inspection.stream_created,
        stream_arn=inspection.stream_arn,
        changes=tuple(_with_effect(change, outlooks, counts) for change in changes),
        other_streams=_other_streams(request, store),
        offsets_unseen=loaded is not None and offsets is None,
        notes=(*notes, *of_channels, *more, *unseen),
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
            f"{store.application_name}: {statement}"
        ) from None


# --- what Snowflake has ------------------------------------------------------------------------------------


def _offsets(
    request: ResetRequest, inspection: Inspection, loaded: Loaded | None
) -> tuple[tuple[Committed, ...] | None, list[str]]:
    """What the offsets table says of the application on the stream, and notes.

    :return: None: it wasn't asked, or can't be seen
    :raises MaintenanceRefusedError: something was loaded, so that there must be such a table
    """
    if loaded is None:
        if request.method is Method.RECOVER:
            refuse(request, ["recover needs the landing table, beside which the offsets table is"])
        return None, []
    copied = any(COPY in shard.sinks and shard.offset for shard in inspection.shards)
    if not _may_have_copied(inspection):
        return None, []
    table = loaded.target.offsets
    try:
        rows = loaded.session.list_offsets(table, application=request.application)
    except SnowflakeObjectNotFoundError:
        what = (
            f"{table} doesn't exist or the role of the connection can't see it: correct the landing table, "
            "or grant SELECT, INSERT and UPDATE"
        )
        if copied or (request.method is Method.RECOVER and not _has_streamed(inspection, loaded)):
            refuse(request, [what])
        return None, [f"{what}. Incarnations aren't closed: a worker that should be dead may still commit."]
    of_stream = [row for row in rows if row.stream == request.stream]
    odd = [f"{row.odd!r:.80} as the position of {row.shard_id}" for row in of_stream if row.odd is not None]
    if odd and request.method is Method.RECOVER:
        refuse(
            request, [f"{table} holds {', '.join(odd)}, which no load wrote: correct it, or rewind the shard"]
        )
    offsets = tuple(
        Committed(row.shard_id, row.incarnation, row.position, closed=row.closed, updated=row.updated)
        for row in of_stream
        if row.odd is None
    )
    if of_stream or not copied:
        return offsets, []
    what = f"{table} has no offsets of it on stream {request.stream}, although drains have loaded records"
    if request.method is Method.RECOVER:
        refuse(request, [f"{what}: correct the landing table, or rewind the shards"])
    return offsets, [f"{what}: see whether the landing table is the right one."]


def _may_have_copied(inspection: Inspection) -> bool:
    """Whether there may be offsets; to ask for them takes a warehouse, where there is their table."""
    rows = [shard for shard in inspection.shards if shard.row]
    return not rows or any(
        not shard.sinks or COPY in shard.sinks or shard.offset is not None for shard in rows
    )


def _has_streamed(inspection: Inspection, loaded: Loaded) -> bool:
    streamed = any(STREAMING in shard.sinks for shard in inspection.shards)
    return streamed or bool(loaded.channels.list(loaded.target.table))


def _channels(
    request: ResetRequest, inspection: Inspection, loaded: Loaded | None
) -> tuple[list[Committed], list[str]]:
    """What the channels of the application's shards say, and notes.

    :raises MaintenanceRefusedError: a token that no drain wrote
    :raises InvalidSettingError: there are channels, and to ask for them takes what isn't there
    """
    recovers = request.method is Method.RECOVER
    named = [
        OffsetKey(shard.shard_id, shard.incarnation)
        for shard in inspection.shards
        if shard.incarnation and STREAMING in shard.sinks
    ]
    if loaded is None or not (named or recovers):
        return [], []
    try:
        if named:
            loaded.channels.try_login()
    except SnowflakeObjectNotFoundError as error:
        return [], [f"{error}. Channels aren't taken: a worker that should be dead may still stream."]
    found = loaded.channels.read(
        application=request.application, stream=request.stream, keys=named, listed=recovers
    )
    odd = [f"{each.odd!r:.80} as the token of {each.shard_id}" for each in found if each.odd is not None]
    if odd and recovers:
        refuse(request, [f"channels have {', '.join(odd)}, which no drain wrote: rewind the shard"])
    return [
        Committed(each.shard_id, each.incarnation, each.position, updated=each.created / 1000, sink=STREAMING)
        for each in found
        if each.odd is None
    ], []


def _committed(
    request: ResetRequest, inspection: Inspection, offsets: tuple[Committed, ...]
) -> tuple[Mapping[str, Committed], list[str]]:
    if request.method is not Method.RECOVER:
        return {}, []
    committed, notes = committed_by_shard(offsets, inspection, backwards=request.trust_snowflake)
    rows = {shard.shard_id for shard in inspection.shards if shard.incarnation}
    unnamed = sorted(
        shard_id for shard_id, each in committed.items() if each.sink == STREAMING and shard_id not in rows
    )
    if unnamed:
        notes.append(
            f"{len(unnamed)} shards without a row go on behind their channels, which don't tell whether a "
            f"reset had ended them: {', '.join(unnamed)}. Rewind those that a reset meant to be read again."
        )
    if not committed and not any(shard.row for shard in inspection.shards):
        refuse(request, [f"Snowflake has no offsets of it on stream {request.stream} to recover from"])
    return committed, notes


# --- what is read next -------------------------------------------------------------------------------------


def _probed(change: ShardChange, kinesis: KinesisStreamHook, inspection: Inspection) -> ShardChange:
    """Say whether the stream still has what comes after the new position."""
    listed = {shard.shard_id for shard in inspection.shards if shard.listed}
    if not change.starts or change.new_checkpoint is None or change.shard_id not in listed:
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


def _outlooks(
    changes: Sequence[ShardChange],
    kinesis: KinesisStreamHook,
    inspection: Inspection,
    offsets: Sequence[Committed],
) -> dict[str, tuple[Outlook, Position | StartAt | None]]:
    """What is read next of each shard of which something is read, and from where."""
    views = {shard.shard_id: shard for shard in inspection.shards if shard.listed}
    # The later, where two sinks have committed.
    known = [offset for offset in offsets if offset.position is not None]
    loaded = {
        (offset.shard_id, offset.incarnation): offset.position
        for offset in sorted(known, key=lambda offset: offset.position or Position("0"))
    }
    outlooks = {}
    for change in changes:
        view = views.get(change.shard_id)
        if view is None or not (change.starts or _is_read(view, inspection)):
            continue
        start = _later(_start_now(view), loaded.get((view.shard_id, view.incarnation or "")))
        now = _next_now(view, kinesis, inspection, start)
        then = now
        if change.starts:
            start = _later(_start_then(change), loaded.get((view.shard_id, change.new_incarnation or "")))
            then = None if start is None else next_record(kinesis, change.shard_id, start)
        outlooks[change.shard_id] = Outlook(now, then), start
    return outlooks


def _start_now(shard: ShardView) -> Position | StartAt | None:
    return shard.checkpoint or (StartAt.parse(shard.start_at) if shard.start_at else TRIM_HORIZON)


def _start_then(change: ShardChange) -> Position | StartAt | None:
    """None: after everything that is in the stream now."""
    if change.new_checkpoint is None and change.new_start_at == LATEST:
        return None
    return change.new_checkpoint or StartAt.parse(change.new_start_at or "TRIM_HORIZON")


def _later(start: Position | StartAt | None, offset: Position | None) -> Position | StartAt | None:
    """Where a drain really goes on: nothing up to the offset of an incarnation is loaded under it again."""
    if start is None or offset is None:
        return start
    return max(start, offset) if isinstance(start, Position) else offset


def _counted(
    request: ResetRequest,
    outlooks: Mapping[str, tuple[Outlook, Position | StartAt | None]],
    loaded: Loaded | None,
) -> tuple[Mapping[str, int], list[str]]:
    """How many records Snowflake has of what the next drain reads, by shard, and notes."""
    if loaded is None or not loaded.count:
        return {}, []
    first = {
        shard_id: _first(outlook.then, start)
        for shard_id, (outlook, start) in outlooks.items()
        if outlook.then is not None
    }
    try:
        return loaded.session.count_from(
            loaded.target, application=request.application, stream=request.stream, first=first
        ), []
    except SnowflakeObjectNotFoundError as error:
        return {}, [
            "How many records are loaded again isn't known: see whether the landing table is the right one, "
            f"or grant SELECT on it and on {loaded.target.dead_letters}. {error}."
        ]


def _first(then: Seen, start: Position | StartAt | None) -> Position:
    """From where on records count: inside an aggregate, if reading goes on there."""
    same = isinstance(start, Position) and start.sequence_number == then.position.sequence_number
    return start if same and isinstance(start, Position) else then.position


def _with_effect(
    change: ShardChange,
    outlooks: Mapping[str, tuple[Outlook, Position | StartAt | None]],
    counts: Mapping[str, int],
) -> ShardChange:
    if change.shard_id not in outlooks:
        return without_outlook(change)
    outlook, _ = outlooks[change.shard_id]
    return with_effect(change, outlook, again=counts.get(change.shard_id))


def _is_read(shard: ShardView, inspection: Inspection) -> bool:
    """Whether a drain can read a shard as its row is."""
    foreign = shard.stream_created not in {None, inspection.stream_created}
    return shard.row and shard.readable and not shard.ended and not foreign


def _next_now(
    shard: ShardView, kinesis: KinesisStreamHook, inspection: Inspection, start: Position | StartAt | None
) -> Seen | None:
    """What the next drain would read of a shard; None too if it couldn't read it."""
    if start is None or not _is_read(shard, inspection):
        return None
    if isinstance(start, StartAt) and start.timestamp and millis(start.timestamp) > inspection.at:
        return None  # Kinesis refuses to look into the future.
    try:
        return next_record(kinesis, shard.shard_id, start)
    except ForeignCheckpointError:
        return None


def _other_streams(request: ResetRequest, store: CheckpointStoreHook) -> tuple[str, ...]:
    if request.method is not Method.DELETE_TABLE:
        return ()
    streams = {stream for stream, _ in map(key_of, store.read_items())}
    return tuple(sorted(streams - {request.stream}))
