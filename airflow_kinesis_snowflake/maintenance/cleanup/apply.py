"""Carrying out the plan of a cleanup. Everything is looked at once more before it is deleted."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import ServiceRefusedError, SnowflakeObjectNotFoundError
from airflow_kinesis_snowflake.hooks.backups import backup_name
from airflow_kinesis_snowflake.hooks.consumers import StreamConsumer
from airflow_kinesis_snowflake.maintenance.backup import Backup
from airflow_kinesis_snowflake.maintenance.cleanup.plan import stale_channels_of
from airflow_kinesis_snowflake.maintenance.cleanup.rules import stale_offsets
from airflow_kinesis_snowflake.maintenance.cleanup.tables import (
    has_live_lease,
    last_touched,
    named_incarnations,
)
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook, TableDetails
    from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan
    from airflow_kinesis_snowflake.maintenance.cleanup.rules import TableView
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

log = logging.getLogger(__name__)


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
    """Back up and delete what a plan says can go. Can be repeated.

    A table that was created again since, or in which a worker is alive now, is left alone, and so is the
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
        items = tables.items(details.name)
        reason = _changed(decision.table, details, items, now=clock())
        if reason is None:
            saved = _back_up(details.name, items, tables=tables, files=files, folder=folder, now=clock())
            # A worker may have begun meanwhile.
            reason = _changed(decision.table, details, tables.items(details.name), now=clock())
        if reason is not None:
            log.warning("Table %s is kept: %s", details.name, reason)
            kept.append(details.name)
            continue
        tables.delete(details.name)
        log.info("Table %s with %d rows is deleted; its backup is %s", details.name, len(items), saved)
        deleted.append(details.name)
    applications = {view.table.application for view in plan.to_delete if view.table.name in deleted}
    pruned = dropped = 0
    if snowflake is not None:
        _forget(snowflake, applications, before=plan.made_at)
        pruned = _prune(snowflake, plan, tables)
        dropped = _drop_channels(snowflake, plan, tables, gone=applications)
    spared = {view.table.application for view in plan.to_delete if view.table.name in kept}
    to_deregister = [view for view in plan.consumers if view.deregister and view.name not in spared]
    for view in to_deregister:
        consumers.deregister(StreamConsumer(view.stream, view.name, view.arn))
        log.info("Consumer %s of stream %s is deregistered", view.name, view.stream)
    return {
        "deleted": deleted,
        "kept": kept,
        "deregistered": [view.name for view in to_deregister],
        "offsets": pruned,
        "channels": dropped,
    }


def _changed(
    planned: TableView, details: TableDetails, items: list[dict[str, Any]], *, now: int
) -> str | None:
    if millis(details.created) != planned.created:
        return "it was created again since the plan"
    if has_live_lease(items, now=now):
        return "a worker is alive now"
    if last_touched(items) != planned.touched:
        return "it was used since the plan"
    return None


def _back_up(
    name: str,
    items: list[dict[str, Any]],
    *,
    tables: DynamoDBTablesHook,
    files: BackupFilesHook,
    folder: str,
    now: int,
) -> str:
    """Save the items of a table; where they are then."""
    backup = backup_name(name, now=now)
    file = files.write(folder, f"{backup}.json", Backup(name, now, tuple(items)).encode())
    return " ".join(filter(None, (file, tables.back_up(name, backup))))


def _forget(snowflake: SnowflakeState, applications: Collection[str], *, before: int) -> None:
    """Delete the offsets and staged files of applications whose tables are gone.

    :param before: offsets that changed since (ms) are those of an application that has begun again
    """
    for application in sorted(applications):
        try:
            rows = snowflake.session.forget_offsets(
                snowflake.target.offsets, application=application, before=moment(before)
            )
            log.info("%d offsets of application %s are deleted", rows, application)
            snowflake.session.remove_files(snowflake.target.stage, application=application)
        except (ServiceRefusedError, SnowflakeObjectNotFoundError) as error:
            log.warning("Offsets or staged files of application %s stay: %s", application, error)


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


def _drop_channels(
    snowflake: SnowflakeState, plan: CleanupPlan, tables: DynamoDBTablesHook, *, gone: Collection[str]
) -> int:
    """Drop the channels that a plan names of applications that are gone, or that no state row names now."""
    kept = {decision.table.application for decision in plan.to_delete} - set(gone)
    dropped = 0
    for application in sorted({channel.application for channel in plan.channels} - kept):
        stale = [channel for channel in plan.channels if channel.application == application]
        if application not in gone:
            stale = stale_channels_of(stale, application, tables.items(application), before=plan.made_at)
        for table, letters in ((snowflake.target.table, False), (snowflake.target.dead_letters, True)):
            names = [channel.name for channel in stale if channel.dead_letters == letters]
            dropped += snowflake.channels.drop(table, names)
        log.info("%d channels of application %s that nobody needs are dropped", len(stale), application)
    return dropped
