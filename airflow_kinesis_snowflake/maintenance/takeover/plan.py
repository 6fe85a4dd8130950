"""The plan of an import: read from the table of another consumer. Making it changes nothing."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.cleanup.tables import WATCH_SECONDS, has_live_lease
from airflow_kinesis_snowflake.maintenance.inspection import describe_position
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.maintenance.takeover.registry import find_source
from airflow_kinesis_snowflake.maintenance.takeover.source import (
    Circumstances,
    ImportedShard,
    Item,
    ItemSkippedError,
)
from airflow_kinesis_snowflake.stream.positions import StartAt, parse_timestamp
from airflow_kinesis_snowflake.stream.retention import why_foreign
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
    from airflow_kinesis_snowflake.maintenance.takeover.source import CheckpointSource
    from airflow_kinesis_snowflake.stream.lineage import Shard

_NAMESPACE = uuid.UUID("6f6c1c0e-6f0a-4f5e-9a49-8c2a8c6f3d11")


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """What an import writes.

    :param source: name of the table
    :param kind: the consumer whose table it is
    :param skipped: items of the source that aren't checkpoints of the stream, by what they are
    """

    source: str
    kind: str
    application: str
    stream: str
    stream_created: int
    shards: tuple[ImportedShard, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    stream_arn: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return as_json(self)


def plan_import(
    *,
    source: str,
    kinesis: KinesisStreamHook,
    tables: DynamoDBTablesHook,
    store: CheckpointStoreHook,
    now: int,
    timestamp: str | None = None,
    watch_seconds: float = WATCH_SECONDS,
    force: bool = False,
) -> ImportPlan:
    """Read the source, and check that it can be taken over. Changes nothing.

    :param source: name of the table with the checkpoints
    :param store: of the application that takes over; it must not have rows of the stream, unless it is the
        source
    :param watch_seconds: how long to watch for a live consumer, where leases carry no time
    :param force: take over even from a live consumer; what it processes from now on is loaded too
    :raises MaintenanceRefusedError: there is no such table, it is of another kind, or its consumer is alive
    """
    details = tables.describe(source)
    consumer = None if details is None else find_source(details.keys)
    if details is None or consumer is None:
        what = "doesn't exist" if details is None else "has the key of no consumer that is known"
        raise MaintenanceRefusedError(
            f"Check the name of the source: table {source} {what}. Nothing was imported."
        )
    items = tables.items(source)
    if not force:
        _check_consumer_is_gone(tables, source, consumer, items, watch_seconds=watch_seconds, now=now)
    facts = kinesis.describe()
    created = millis(facts.created)
    shards, skipped = parse_checkpoints(
        items,
        consumer=consumer,
        stream=kinesis.stream_name,
        stream_created=created,
        stream_arn=facts.arn,
        now=now,
        timestamp=timestamp,
    )
    if not shards:
        raise MaintenanceRefusedError(
            f"Check the names of source and stream: table {source} has no checkpoint of stream "
            f"{kinesis.stream_name}. Nothing was imported."
        )
    if source != store.application_name and store.exists():
        check_target(store, source, kinesis.stream_name)
    _check_own(shards, kinesis.list_shards(), now=now)
    return ImportPlan(
        source=source,
        kind=consumer.name,
        application=store.application_name,
        stream=kinesis.stream_name,
        stream_created=created,
        stream_arn=facts.arn,
        shards=shards,
        skipped=skipped,
    )


def parse_checkpoints(
    items: Iterable[Item],
    *,
    consumer: CheckpointSource,
    stream: str,
    stream_created: int,
    now: int,
    stream_arn: str | None = None,
    timestamp: str | None = None,
) -> tuple[tuple[ImportedShard, ...], dict[str, int]]:
    """Read the checkpoints of a stream out of a table.

    :param consumer: whose table it is
    :param stream_created: milliseconds since the epoch, as ``now``
    :param stream_arn: ``None``: items of streams of the same name in other accounts aren't told apart
    :param now: where a shard goes on that stands at ``LATEST`` and has read nothing
    :param timestamp: where one goes on that stands at ``AT_TIMESTAMP``: ISO-8601 with a time zone
    :return: by shard, and what was skipped
    :raises InvalidSettingError: an item can't be what the source writes, or a timestamp is missing
    """
    try:
        start = None if timestamp is None else StartAt(parse_timestamp(timestamp))
    except ValueError as error:
        raise InvalidSettingError(f"correct the timestamp: {error}") from error
    circumstances = Circumstances(stream, stream_created // 1000, stream_arn, StartAt(moment(now)), start)
    shards: list[ImportedShard] = []
    skipped: dict[str, int] = {}
    for item in items:
        try:
            shards.append(consumer.read(item, circumstances))
        except ItemSkippedError as reason:
            skipped[str(reason)] = skipped.get(str(reason), 0) + 1
    return tuple(sorted(shards, key=lambda shard: shard.shard_id)), skipped


def _check_consumer_is_gone(
    tables: DynamoDBTablesHook,
    source: str,
    consumer: CheckpointSource,
    items: Iterable[Item],
    *,
    watch_seconds: float,
    now: int,
) -> None:
    alive = has_live_lease(items, now=now)
    before = _signs_of_life(consumer, items)
    if before:
        time.sleep(watch_seconds)
        alive = _signs_of_life(consumer, tables.items(source)) != before
    if alive:
        raise MaintenanceRefusedError(
            f"Stop the consumer of table {source} first: it is alive, and what it processes from now on "
            "would be loaded twice. Nothing was imported."
        )


def _signs_of_life(consumer: CheckpointSource, items: Iterable[Item]) -> dict[str, str]:
    return dict(sign for item in items if (sign := consumer.sign_of_life(item)) is not None)


def _check_own(shards: Iterable[ImportedShard], listed: Iterable[Shard], *, now: int) -> None:
    by_id = {shard.shard_id: shard for shard in listed}
    for shard in shards:
        if shard.checkpoint is None or shard.shard_id not in by_id:
            continue
        foreign = why_foreign(shard.checkpoint, by_id[shard.shard_id], now=moment(now))
        if foreign:
            raise MaintenanceRefusedError(
                f"Correct the source: the checkpoint of shard {shard.shard_id} {foreign}. Nothing was "
                "imported."
            )


def check_target(store: CheckpointStoreHook, source: str, stream: str) -> int:
    """Check that the application has no rows except those of an earlier try.

    :return: when its table was created
    :raises MaintenanceRefusedError: it has others
    """
    created = store.describe_table().created
    if created is None:
        raise MaintenanceRefusedError(
            f"Try again: the table {store.application_name} was deleted in the meantime."
        )
    for row in store.read_state(stream).shards.values():
        if row.incarnation != incarnation_of_import(source, stream, row.shard_id, millis(created)):
            raise MaintenanceRefusedError(
                f"Choose another name, or delete the table first: application {store.application_name} "
                f"already has checkpoints on stream {stream}. Nothing was imported."
            )
    return millis(created)


def incarnation_of_import(source: str, stream: str, shard_id: str, table_created: int) -> str:
    """The same for each try of an import, so that a later try recognizes the rows of an earlier one."""
    return uuid.uuid5(_NAMESPACE, f"{source}/{stream}/{shard_id}/{table_created}").hex


# --- for people --------------------------------------------------------------------------------------------


def import_text(plan: ImportPlan) -> str:
    """The plan for people to read, as Markdown."""
    return markdown(import_parts(plan))


def import_parts(plan: ImportPlan) -> list[Part]:
    """The plan for people to read."""
    rows = [
        (
            shard.shard_id,
            describe_position(shard.checkpoint) or ("ended" if shard.ended else shard.start_at),
            shard.note,
        )
        for shard in plan.shards
    ]
    parts: list[Part] = [
        f"Application **{plan.application}** continues on stream **{plan.stream}** where table "
        f"**{plan.source}** ({plan.kind}) stands; that table is only read.",
        Table.of(("shard", "goes on after", ""), rows),
    ]
    parts += [f"{count} {what} were left out." for what, count in sorted(plan.skipped.items())]
    return parts
