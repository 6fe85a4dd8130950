"""Finding tables of applications, and deleting those that a plan names."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ServiceRefusedError,
    SnowflakeObjectNotFoundError,
)
from airflow_kinesis_snowflake.hooks.backups import backup_name
from airflow_kinesis_snowflake.maintenance.backup import Backup
from airflow_kinesis_snowflake.maintenance.cleanup.plan import (
    DAY_MILLIS,
    MOST_CHANNELS,
    MOST_OFFSETS,
    OUR_TAG,
    CleanupPlan,
    CleanupRules,
    StaleChannel,
    StaleOffset,
    TableDecision,
    TableKind,
    TableView,
    decide,
    decide_consumers,
    kind_of,
    stale_channels,
    stale_offsets,
)
from airflow_kinesis_snowflake.sinks.snowflake.streaming import channel_name
from airflow_kinesis_snowflake.state.attributes import is_note
from airflow_kinesis_snowflake.state.items import number_of, text_of
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook, TableDetails
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

log = logging.getLogger(__name__)

# A worker of the Kinesis Client Library renews its leases several times in this time.
WATCH_SECONDS = 12.0
ALIVE_MILLIS = 120_000


def plan_cleanup(
    rules: CleanupRules,
    *,
    tables: DynamoDBTablesHook,
    consumers: StreamConsumersHook,
    snowflake: SnowflakeState | None = None,
    streams: Iterable[str] = (),
    watch_seconds: float = WATCH_SECONDS,
    clock: Callable[[], int],
) -> CleanupPlan:
    """Find the tables of applications and decide about them. Changes nothing.

    :param snowflake: where to look for offsets and channels that nobody needs any more; None: nowhere
    :param streams: whose consumers to look at besides those that the tables have rows of
    :param watch_seconds: how long to watch leases of the Kinesis Client Library, which carry no time
    :param clock: gives milliseconds since the epoch
    """
    names = list(tables.names())
    looks = [look_into(tables, name) for name in names]
    unseen = [look for look in looks if isinstance(look, str)]
    seen = [look for look in looks if isinstance(look, ApplicationTable)]
    counters = {each.details.name: _counters(each.items) for each in seen if _is_kcl(each.kind)}
    if counters:
        time.sleep(watch_seconds)
    views = [_view(tables, each, counters, now=clock()) for each in seen]
    decisions = decide(views, rules, now=clock())
    looked_at = {*streams, *(stream for view in views for stream in view.streams)}
    registered = [
        (consumer.stream, consumer.name, consumer.arn)
        for stream in sorted(looked_at)
        for consumer in _consumers(consumers, stream)
    ]
    channels = [] if snowflake is None else _channels(snowflake)
    return CleanupPlan(
        made_at=clock(),
        decisions=decisions,
        consumers=decide_consumers(
            registered,
            gone={decision.table.application for decision in decisions if decision.delete},
            tables=names,
            named=rules.named,
        ),
        offsets=()
        if snowflake is None
        else _stale(snowflake, seen, decisions, before=_before(rules, clock())),
        channels=_stale_channels(channels, seen, decisions, before=_before(rules, clock())),
        fullest=max(Counter(channel.dead_letters for channel in channels).values(), default=0),
        unseen=tuple(sorted(unseen)),
    )


def clean_up(
    plan: CleanupPlan,
    *,
    tables: DynamoDBTablesHook,
    consumers: StreamConsumersHook,
    files: BackupFilesHook,
    folder: str,
    snowflake: SnowflakeState | None,
    clock: Callable[[], int],
) -> dict[str, Any]:
    """Back up and delete what a plan dooms. Can be repeated.

    A table that was made again since, or in which a worker shows up now, is left alone, and so is the
    application's consumer.

    :param snowflake: where to delete the offsets, channels and staged files of deleted applications, and the
        offsets and channels that nobody needs any more; None: they stay
    :return: ``deleted`` and ``kept`` tables, ``deregistered`` consumers, and how many ``offsets`` and
        ``channels`` are gone that nobody needed
    :raises InvalidSettingError: channels are to be dropped, and the extra ``streaming`` or the key pair is
        missing; nothing was changed
    """
    if snowflake is not None and plan.channels:
        with suppress(SnowflakeObjectNotFoundError):
            snowflake.channels.try_login()
    deleted, kept = [], []
    for decision in plan.to_delete:
        details = tables.describe(decision.table.name)
        if details is None:
            deleted.append(decision.table.name)
            continue
        reason = _changed(decision.table, details, tables.items(details.name), now=clock())
        if reason:
            log.warning("Table %s is kept: %s", details.name, reason)
            kept.append(details.name)
            continue
        _delete(details.name, tables=tables, files=files, folder=folder, now=clock())
        deleted.append(details.name)
    applications = {view.table.application for view in plan.to_delete if view.table.name in deleted}
    pruned = dropped = 0
    if snowflake is not None:
        _forget(snowflake, applications)
        pruned = _prune(snowflake, plan, tables)
        dropped = _drop_channels(snowflake, plan, tables, gone=applications)
    spared = {view.table.application for view in plan.to_delete if view.table.name in kept}
    to_deregister = [view for view in plan.consumers if view.deregister and view.name not in spared]
    for view in to_deregister:
        consumers.deregister(_registered(view))
        log.info("Consumer %s of stream %s is deregistered", view.name, view.stream)
    return {
        "deleted": deleted,
        "kept": kept,
        "deregistered": [view.name for view in to_deregister],
        "offsets": pruned,
        "channels": dropped,
    }


@dataclass(frozen=True)
class ApplicationTable:
    """A table of an application, and what is in it."""

    details: TableDetails
    kind: TableKind
    application: str
    items: list[dict[str, Any]]
    tags: Mapping[str, str]


def look_into(tables: DynamoDBTablesHook, name: str) -> ApplicationTable | str | None:
    """Look into a table; its name: the role may not; None: it is no table of an application."""
    try:
        details = tables.describe(name)
        kind = None if details is None else kind_of(name, details.keys)
        if details is None or kind is None or details.status != "ACTIVE":
            return None
        return ApplicationTable(details, *kind, items=tables.items(name), tags=tables.tags(details.arn))
    except AccessDeniedError as error:
        log.info("Table %s is left alone: %s", name, error)
        return name


def _view(
    tables: DynamoDBTablesHook, seen: ApplicationTable, counters: Mapping[str, Mapping[str, str]], *, now: int
) -> TableView:
    details, kcl = seen.details, _is_kcl(seen.kind)
    items = tables.items(details.name) if kcl else seen.items
    return TableView(
        name=details.name,
        kind=seen.kind,
        application=seen.application,
        created=millis(details.created),
        protected=details.protected,
        ours=seen.tags.get(OUR_TAG[0]) == OUR_TAG[1],
        touched=last_touched(items),
        live=(kcl and _counters(items) != counters.get(details.name)) or has_live_lease(items, now=now),
        streams=tuple(sorted({stream for item in items if (stream := stream_of(item))})),
    )


def last_touched(items: Iterable[Mapping[str, Any]]) -> int | None:
    """The latest time of a write that the items of any such table tell."""
    times = [
        time * scale
        for item in items
        for name, scale in (("lastUpdateTimestamp", 1), ("nodeHeartbeat", 1), ("lut", 1000))
        if (time := number_of(item, name)) is not None and time >= 0
    ]
    return max(times, default=None)


def has_live_lease(items: Iterable[Mapping[str, Any]], *, now: int) -> bool:
    """Whether a lease of this package or Openflow hasn't expired, or a worker beat lately."""
    return any(
        ("leaseOwner" in item and (number_of(item, "leaseExpiry") or 0) >= now)
        or (number_of(item, "nodeHeartbeat") or 0) >= now - ALIVE_MILLIS
        for item in items
    )


def stream_of(item: Mapping[str, Any]) -> str | None:
    """The stream an item is about; None if it doesn't say."""
    for name in ("streamName", "StreamID"):
        if "S" in item.get(name, {}):
            return str(item[name]["S"])
    return None


def _is_kcl(kind: TableKind) -> bool:
    return kind is TableKind.KCL_LEASES


def _counters(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Lease counters by lease; a worker that is alive makes them grow."""
    return {
        text_of(item, "leaseKey") or "": text_of(item, "leaseCounter") or ""
        for item in items
        if "leaseOwner" in item and "leaseCounter" in item
    }


def _consumers(hook: StreamConsumersHook, stream: str) -> Iterable[Any]:
    try:
        return hook.list(stream)
    except (AccessDeniedError, ServiceRefusedError) as error:
        log.warning("The consumers of stream %s can't be listed: %s", stream, error)
        return ()


def _registered(view: Any) -> Any:
    from airflow_kinesis_snowflake.hooks.consumers import StreamConsumer

    return StreamConsumer(view.stream, view.name, view.arn)


def _changed(
    planned: TableView, details: TableDetails, items: list[dict[str, Any]], *, now: int
) -> str | None:
    if millis(details.created) != planned.created:
        return "it was made again since the plan"
    if has_live_lease(items, now=now):
        return "a worker is alive now"
    if last_touched(items) != planned.touched:
        return "it was used since the plan"
    return None


def _delete(name: str, *, tables: DynamoDBTablesHook, files: BackupFilesHook, folder: str, now: int) -> None:
    backup = backup_name(name, now=now)
    items = tuple(tables.items(name))
    file = files.write(folder, f"{backup}.json", Backup(name, now, items).encode())
    arn = tables.back_up(name, backup)
    tables.delete(name)
    log.info("Table %s with %d rows is deleted; its backup is %s %s", name, len(items), file, arn or "")


def _forget(snowflake: SnowflakeState, applications: Collection[str]) -> None:
    for application in sorted(applications):
        try:
            rows = snowflake.session.forget_offsets(snowflake.target.offsets, application=application)
            log.info("%d offsets of application %s are forgotten", rows, application)
            snowflake.session.remove_files(snowflake.target.stage, application=application)
        except (ServiceRefusedError, SnowflakeObjectNotFoundError) as error:
            log.warning("Offsets or staged files of application %s are left: %s", application, error)


# --- offsets that nobody needs any more --------------------------------------------------------------------


def _before(rules: CleanupRules, now: int) -> int:
    return now - round(rules.days * DAY_MILLIS)


def _stale(
    snowflake: SnowflakeState,
    seen: Iterable[ApplicationTable],
    decisions: Iterable[TableDecision],
    *,
    before: int,
) -> tuple[StaleOffset, ...]:
    """Stale offsets of the applications that stay."""
    kept = {decision.table.name for decision in decisions if not decision.delete}
    rows: list[StaleOffset] = []
    for each in seen:
        if each.kind is TableKind.CHECKPOINTS and each.details.name in kept:
            found = _offsets_of(snowflake, each.application)
            rows += stale_offsets(found, named_incarnations(each.items), before=before)
    return tuple(rows[:MOST_OFFSETS])


def _offsets_of(snowflake: SnowflakeState, application: str) -> list[StaleOffset]:
    try:
        rows = snowflake.session.list_offsets(snowflake.target.offsets, application=application)
    except SnowflakeObjectNotFoundError as error:
        log.info("No offsets are looked at: %s", error)
        return []
    return [
        StaleOffset(
            application=application,
            stream=row.stream,
            shard_id=row.shard_id,
            incarnation=row.incarnation,
            updated=round(row.updated * 1000),
        )
        for row in rows
    ]


def named_incarnations(items: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, str, str]]:
    """Stream, shard id and incarnation of state rows, whatever else they hold."""
    return frozenset(
        (
            text_of(item, "streamName") or "",
            text_of(item, "shardId") or "",
            text_of(item, "incarnation") or "",
        )
        for item in items
        if not is_note(text_of(item, "shardId") or "")
    )


def _prune(snowflake: SnowflakeState, plan: CleanupPlan, tables: DynamoDBTablesHook) -> int:
    """Delete stale offsets that a plan names, if no state row names them now."""
    pruned = 0
    for application in sorted({row.application for row in plan.offsets}):
        named = named_incarnations(tables.items(application))
        of_application = [row for row in plan.offsets if row.application == application]
        stale = stale_offsets(of_application, named, before=plan.made_at)
        for stream in sorted({row.stream for row in stale}):
            rows = [row for row in stale if row.stream == stream]
            pruned += snowflake.session.prune_offsets(
                snowflake.target.offsets,
                application=application,
                stream=stream,
                keys=[OffsetKey(row.shard_id, row.incarnation) for row in rows],
                # To the second, as they were read; what changed since the plan is later.
                before=moment(max(row.updated for row in rows) + 1000),
            )
        log.info("%d offsets of application %s that nobody needs are deleted", len(stale), application)
    return pruned


# --- channels that nobody needs any more -------------------------------------------------------------------


def _channels(snowflake: SnowflakeState) -> list[StaleChannel]:
    """All channels into the landing table and the dead letters."""
    return [
        StaleChannel(
            application=channel.name.partition(":")[0],
            name=channel.name,
            dead_letters=table == snowflake.target.dead_letters,
            created=channel.created,
        )
        for table in (snowflake.target.table, snowflake.target.dead_letters)
        for channel in snowflake.channels.list(table)
    ]


def _stale_channels(
    channels: Sequence[StaleChannel],
    seen: Iterable[ApplicationTable],
    decisions: Iterable[TableDecision],
    *,
    before: int,
) -> tuple[StaleChannel, ...]:
    to_delete = {decision.table.name for decision in decisions if decision.delete}
    stale: list[StaleChannel] = []
    for each in seen:
        if each.kind is TableKind.CHECKPOINTS and each.details.name in to_delete:
            stale += [channel for channel in channels if channel.application == each.application]
        elif each.kind is TableKind.CHECKPOINTS:
            stale += _stale_of(channels, each.application, each.items, before=before)
    return tuple(sorted(stale, key=lambda channel: channel.created)[:MOST_CHANNELS])


def _stale_of(
    channels: Iterable[StaleChannel], application: str, items: Iterable[Mapping[str, Any]], *, before: int
) -> list[StaleChannel]:
    named = named_incarnations(items)
    needed = {channel_name(application, stream, OffsetKey(*key)) for stream, *key in named}
    streams = {stream for stream, _, _ in named}
    return stale_channels(channels, needed, application=application, streams=streams, before=before)


def _drop_channels(
    snowflake: SnowflakeState, plan: CleanupPlan, tables: DynamoDBTablesHook, *, gone: Collection[str]
) -> int:
    """Drop the channels that a plan names of applications that are gone, or that no state row names now."""
    kept = {decision.table.application for decision in plan.to_delete} - set(gone)
    dropped = 0
    for application in sorted({channel.application for channel in plan.channels} - kept):
        stale = [channel for channel in plan.channels if channel.application == application]
        if application not in gone:
            stale = _stale_of(stale, application, tables.items(application), before=plan.made_at)
        for table, letters in ((snowflake.target.table, False), (snowflake.target.dead_letters, True)):
            names = [channel.name for channel in stale if channel.dead_letters == letters]
            dropped += snowflake.channels.drop(table, names)
        log.info("%d channels of application %s that nobody needs are dropped", len(stale), application)
    return dropped
