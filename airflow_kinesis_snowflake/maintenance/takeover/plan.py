"""Taking over checkpoints of other consumers. The source is only read.

What the sources mean:

- *Kinesis Client Library* (1, 2, 3 and 3.5, whose table also holds items that aren't leases): ``checkpoint``
  and ``checkpointSubSequenceNumber`` name the last record that was processed, inside an aggregate or not; or
  ``checkpoint`` says where the shard starts (``TRIM_HORIZON``, ``LATEST``, ``AT_TIMESTAMP``) or that it is
  finished (``SHARD_END``). A pending checkpoint isn't processed yet, and is left out. See
  ``leases/dynamodb/DynamoDBLeaseSerializer.java`` of the library.
- *Openflow*: the same table as ours, so nothing has to be imported for going on under the same name. This
  copies its rows for another name.
- *Redpanda Connect*: the last acknowledged ``SequenceNumber`` per ``StreamID`` and ``ShardID``; the row of a
  finished shard is deleted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.cleanup.apply import has_live_lease
from airflow_kinesis_snowflake.maintenance.holding import holding
from airflow_kinesis_snowflake.maintenance.inspection import describe_position
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.state.attributes import KEYS, is_note
from airflow_kinesis_snowflake.state.items import text_of
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt, parse_timestamp
from airflow_kinesis_snowflake.stream.refs import StreamRef
from airflow_kinesis_snowflake.stream.retention import why_foreign
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
    from airflow_kinesis_snowflake.stream.lineage import Shard

# The workers of the Kinesis Client Library renew every few seconds, those of Redpanda every ten.
WATCH_SECONDS = 12.0

_NAMESPACE = uuid.UUID("6f6c1c0e-6f0a-4f5e-9a49-8c2a8c6f3d11")

Item = Mapping[str, Mapping[str, Any]]


class Source(StrEnum):
    """Whose checkpoints they are, by the key of the table."""

    KCL = "Kinesis Client Library"
    OPENFLOW = "Openflow"
    REDPANDA = "Redpanda Connect"


_KEYS = {
    Source.KCL: {"HASH": "leaseKey"},
    Source.OPENFLOW: KEYS,
    Source.REDPANDA: {"HASH": "StreamID", "RANGE": "ShardID"},
}


@dataclass(frozen=True)
class ImportedShard:
    """Where one shard goes on.

    :param start_at: while there is no checkpoint, as ``StartAt`` writes it
    :param note: what a person should know of it
    """

    shard_id: str
    checkpoint: Position | None = None
    start_at: str = "TRIM_HORIZON"
    ended: bool = False
    parents: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """What an import writes.

    :param skipped: items of the source that aren't checkpoints of the stream, by what they are
    """

    source: str
    kind: Source
    application: str
    stream: str
    stream_created: int
    shards: tuple[ImportedShard, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    stream_arn: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return as_json(self)


class _SkippedError(Exception):
    """An item isn't a checkpoint of the stream; the message says what it is."""


@dataclass(frozen=True)
class _Reading:
    """What the reading of an item depends on.

    :param stream_created: in seconds, as the Kinesis Client Library names streams
    :param timestamp: for ``AT_TIMESTAMP``, whose moment the Kinesis Client Library doesn't store
    """

    stream: str
    stream_created: int
    stream_arn: str | None
    now: StartAt
    timestamp: StartAt | None


def source_of(keys: Mapping[str, str]) -> Source | None:
    """Whose table it is; None: nobody's that is known."""
    return next((source for source, known in _KEYS.items() if known == keys), None)


def read_items(
    items: Iterable[Item],
    *,
    kind: Source,
    stream: str,
    stream_created: int,
    now: int,
    stream_arn: str | None = None,
    timestamp: str | None = None,
) -> tuple[tuple[ImportedShard, ...], dict[str, int]]:
    """Read the checkpoints of a stream out of a table.

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
        raise InvalidSettingError(f"the timestamp can't be read: {error}") from error
    reading = _Reading(stream, stream_created // 1000, stream_arn, StartAt(moment(now)), start)
    read = {Source.KCL: _from_kcl, Source.OPENFLOW: _from_openflow, Source.REDPANDA: _from_redpanda}[kind]
    shards: list[ImportedShard] = []
    skipped: dict[str, int] = {}
    for item in items:
        try:
            shards.append(read(item, reading))
        except _SkippedError as reason:
            skipped[str(reason)] = skipped.get(str(reason), 0) + 1
    return tuple(sorted(shards, key=lambda shard: shard.shard_id)), skipped


def _from_kcl(item: Item, reading: _Reading) -> ImportedShard:
    kind = _held(item, "entityType", "S") or "LEASE"
    if kind != "LEASE":
        raise _SkippedError(f"{kind} items")
    key = _key(item, "leaseKey")
    shard_id = _shard_of_lease(key, reading)
    parents = tuple(sorted(_held(item, "parentShardId", "SS") or ()))
    checkpoint = _held(item, "checkpoint", "S") or ""
    if checkpoint.isdigit():
        sub = _held(item, "checkpointSubSequenceNumber", "N") or "0"
        return ImportedShard(shard_id, _position(checkpoint, sub, key), parents=parents)
    if checkpoint == "SHARD_END":
        return ImportedShard(shard_id, ended=True, parents=parents, note="finished")
    if checkpoint == "TRIM_HORIZON":
        return ImportedShard(shard_id, parents=parents, note="not begun")
    if checkpoint == "LATEST":
        return ImportedShard(
            shard_id,
            start_at=str(reading.now),
            parents=parents,
            note="not begun: reads what arrives from now on, as the source would",
        )
    if checkpoint == "AT_TIMESTAMP":
        if reading.timestamp is None:
            raise InvalidSettingError(
                f"lease {key} stands at AT_TIMESTAMP, and the table doesn't say which; give the timestamp "
                "that the consumer is configured with"
            )
        return ImportedShard(shard_id, start_at=str(reading.timestamp), parents=parents, note="not begun")
    raise InvalidSettingError(f"lease {key} has the checkpoint {checkpoint!r:.80}, which isn't one")


def _shard_of_lease(key: str, reading: _Reading) -> str:
    """The shard id in the key of a lease, which in the multi-stream mode names account and stream too."""
    account_stream, _, shard_id = key.rpartition(":")
    if not account_stream:
        return key
    account, stream, created = [*account_stream.split(":"), "", ""][:3]
    if stream != reading.stream:
        raise _SkippedError(f"leases of stream {stream}")
    if reading.stream_arn is not None and account != StreamRef.parse(reading.stream_arn).account:
        raise _SkippedError(f"leases of stream {stream} of account {account}")
    # The Kinesis Client Library rounds the creation time down to the second.
    if created.isdigit() and int(created) != reading.stream_created:
        raise _SkippedError(f"leases of a deleted stream {stream}")
    return shard_id


def _from_openflow(item: Item, reading: _Reading) -> ImportedShard:
    stream, shard_id = _key(item, "streamName"), _key(item, "shardId")
    if stream != reading.stream:
        raise _SkippedError(f"rows of stream {stream}")
    if is_note(shard_id):
        raise _SkippedError("rows of workers")
    arn = _held(item, "streamArn", "S")
    if arn is not None and reading.stream_arn not in {None, arn}:
        raise _SkippedError(f"rows of {arn}")
    number = _held(item, "sequenceNumber", "S")
    ended = _held(item, "shardEnded", "BOOL") or False
    start_at = _start_at(_held(item, "startAt", "S") or str(TRIM_HORIZON), shard_id)
    parents = tuple(sorted(_held(item, "parentShardIds", "SS") or ()))
    if number is None:
        return ImportedShard(shard_id, start_at=start_at, ended=ended, parents=parents, note="not begun")
    sub = _held(item, "subSequenceNumber", "N")
    if _held(item, "subSequenceOf", "S") not in {None, number}:
        sub = None
    return ImportedShard(
        shard_id, _position(number, sub, shard_id), start_at=start_at, ended=ended, parents=parents
    )


def _from_redpanda(item: Item, reading: _Reading) -> ImportedShard:
    stream, shard_id = _key(item, "StreamID"), _key(item, "ShardID")
    if stream != reading.stream:
        raise _SkippedError(f"rows of stream {stream}")
    number = _held(item, "SequenceNumber", "S")
    if not number:
        return ImportedShard(shard_id, note="not begun")
    return ImportedShard(shard_id, _position(number, None, shard_id))


def _held(item: Item, name: str, kind: str) -> Any:
    """What an attribute holds; None: there is none.

    :raises InvalidSettingError: it is of another kind; taken for missing, it would mean another position
    """
    value = item.get(name)
    if value is None:
        return None
    if kind not in value:
        raise InvalidSettingError(
            f"correct the source: attribute {name} of an item holds {value!s:.80}, which no consumer writes"
        )
    return value[kind]


def _key(item: Item, name: str) -> str:
    """A part of the key, as text whatever it is, so that items of others are told apart from those meant."""
    return text_of(item, name) or f"{item.get(name)!s:.80}"


def _start_at(text: str, where: str) -> str:
    try:
        return str(StartAt.parse(text))
    except ValueError as error:
        raise InvalidSettingError(
            f"correct the source: the start of {where} can't be read: {error}"
        ) from error


def _position(number: str, sub: str | None, where: str) -> Position:
    try:
        return Position(number, None if sub is None else int(sub))
    except ValueError as error:
        raise InvalidSettingError(f"{where} can't be read: {error}") from error


# --- planning and writing ----------------------------------------------------------------------------------


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
    """Read the source, and see that it can be taken over. Changes nothing.

    :param source: name of the table with the checkpoints
    :param store: of the application that takes over; may not have rows of the stream, unless it is the source
    :param watch_seconds: how long to watch for a live consumer, where leases carry no time
    :param force: take over from a live consumer; what it processes from now on is loaded too
    :raises MaintenanceRefusedError: there is no such table, it is of another kind, or its consumer is alive
    """
    details = tables.describe(source)
    kind = None if details is None else source_of(details.keys)
    if details is None or kind is None:
        what = "doesn't exist" if details is None else "has the key of no consumer that is known"
        raise MaintenanceRefusedError(f"Table {source} {what}; nothing was imported.")
    items = tables.items(source)
    if not force:
        _check_consumer_is_gone(tables, source, kind, items, watch_seconds=watch_seconds, now=now)
    facts = kinesis.describe()
    created = millis(facts.created)
    shards, skipped = read_items(
        items,
        kind=kind,
        stream=kinesis.stream_name,
        stream_created=created,
        stream_arn=facts.arn,
        now=now,
        timestamp=timestamp,
    )
    if not shards:
        raise MaintenanceRefusedError(
            f"Table {source} has no checkpoint of stream {kinesis.stream_name}; nothing was imported."
        )
    if source != store.application_name and store.exists():
        _check_target(store, source, kinesis.stream_name)
    _check_own(shards, kinesis.list_shards(), now=now)
    return ImportPlan(
        source=source,
        kind=kind,
        application=store.application_name,
        stream=kinesis.stream_name,
        stream_created=created,
        stream_arn=facts.arn,
        shards=shards,
        skipped=skipped,
    )


def carry_out_import(
    plan: ImportPlan, *, store: CheckpointStoreHook, clock: Callable[[], int]
) -> dict[str, int]:
    """Write the rows. Rows that an earlier try has made stay as they are, so it can be repeated.

    Every row is made together with a lease, so that no worker reads before all of them are there. A source
    that is the application's own table, as Openflow left it, needs no writing: the next drain goes on from
    it.

    :param clock: gives milliseconds since the epoch
    :return: how many rows were ``created``, and how many were ``there``
    :raises MaintenanceRefusedError: the application has rows of its own, or a worker made some meanwhile
    """
    if plan.source == plan.application:
        return {"created": 0, "there": len(plan.shards)}
    store.create_table()
    table_created = _check_target(store, plan.source, plan.stream)
    owner = f"import#{plan.source}"
    left = {row.shard_id: row for row in store.read_state(plan.stream).shards.values()}
    # Rows that a try left leased when it died are freed with the others.
    mine = [(plan.stream, row.shard_id) for row in left.values() if row.lease_owner == owner]
    rows = [_row(plan, shard, table_created) for shard in plan.shards]
    with holding(store, mine, owner=owner, clock=clock, force=False) as holds:
        created = [
            row for row in rows if holds.make((plan.stream, row.shard_id), _maker(store, plan, row, owner))
        ]
        _check_written(plan, rows, created, store)
    return {"created": len(created), "there": len(rows) - len(created)}


def _row(plan: ImportPlan, shard: ImportedShard, table_created: int) -> ShardState:
    return ShardState(
        shard_id=shard.shard_id,
        checkpoint=shard.checkpoint,
        start_at=StartAt.parse(shard.start_at),
        parents=shard.parents,
        ended=shard.ended,
        incarnation=_incarnation(plan.source, plan.stream, shard.shard_id, table_created),
        stream_created=plan.stream_created,
        stream_arn=plan.stream_arn,
    )


def _maker(
    store: CheckpointStoreHook, plan: ImportPlan, row: ShardState, owner: str
) -> Callable[[int, int], bool]:
    return lambda now, until: store.reset_shard(plan.stream, row, owner=owner, now=now, made_until=until)


def _check_written(
    plan: ImportPlan, rows: Iterable[ShardState], created: Collection[ShardState], store: CheckpointStoreHook
) -> None:
    """See that each row is the import's own, as it was written if it is new, and that there are no others.

    :raises MaintenanceRefusedError: a worker came between
    """
    found = dict(store.read_state(plan.stream).shards)
    for row in rows:
        there = found.pop(row.shard_id, None)
        if (
            there is None
            or there.incarnation != row.incarnation
            or (row in created and not _same(there, row))
        ):
            raise _came_between(plan, row.shard_id)
    for shard_id in found:
        raise _came_between(plan, shard_id)


def _same(found: ShardState, written: ShardState) -> bool:
    return (found.checkpoint, found.start_at, found.ended, frozenset(found.parents)) == (
        written.checkpoint,
        written.start_at,
        written.ended,
        frozenset(written.parents),
    )


def _came_between(plan: ImportPlan, shard_id: str) -> MaintenanceRefusedError:
    return MaintenanceRefusedError(
        f"Stop the drains of application {plan.application}, delete its state (DAG kinesis_state_reset, "
        f"method delete_table) and import again: a worker made the row of shard {shard_id} of stream "
        f"{plan.stream} meanwhile, which doesn't go on where the source stands. What the worker loads until "
        "then is loaded twice."
    )


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
        f"Application **{plan.application}** goes on on stream **{plan.stream}** where table "
        f"**{plan.source}** ({plan.kind}) stands; that table isn't changed.",
        Table.of(("shard", "goes on after", ""), rows),
    ]
    parts += [f"{count} {what} were left out." for what, count in sorted(plan.skipped.items())]
    return parts


def _check_consumer_is_gone(
    tables: DynamoDBTablesHook,
    source: str,
    kind: Source,
    items: Iterable[Item],
    *,
    watch_seconds: float,
    now: int,
) -> None:
    alive = has_live_lease(items, now=now)
    if kind is not Source.OPENFLOW:
        before = _signs_of_life(items)
        if before:
            time.sleep(watch_seconds)
            alive = _signs_of_life(tables.items(source)) != before
    if alive:
        raise MaintenanceRefusedError(
            f"The consumer of table {source} is alive: stop it first, or what it processes from now on is "
            "loaded twice. Nothing was imported."
        )


def _signs_of_life(items: Iterable[Item]) -> dict[str, str]:
    """What a live worker keeps changing: lease counters, or the time until which it holds a lease."""
    signs = {}
    for item in items:
        key = text_of(item, "leaseKey") or text_of(item, "ShardID") or ""
        if "leaseOwner" in item and "leaseCounter" in item:
            signs[key] = str(item["leaseCounter"])
        elif "ClientID" in item and "LeaseTimeout" in item:
            signs[key] = str(item["LeaseTimeout"])
    return signs


def _incarnation(source: str, stream: str, shard_id: str, table_created: int) -> str:
    """The same for each try of an import, so that a later try knows the rows of an earlier one."""
    return uuid.uuid5(_NAMESPACE, f"{source}/{stream}/{shard_id}/{table_created}").hex


def _check_target(store: CheckpointStoreHook, source: str, stream: str) -> int:
    """See that the application has no rows but those of an earlier try; return when its table was made."""
    created = store.describe_table().created
    if created is None:
        raise MaintenanceRefusedError(f"The table {store.application_name} was deleted meanwhile; try again.")
    for row in store.read_state(stream).shards.values():
        if row.incarnation != _incarnation(source, stream, row.shard_id, millis(created)):
            raise MaintenanceRefusedError(
                f"Application {store.application_name} has checkpoints on stream {stream} already; nothing "
                "was imported. Choose another name, or delete its table first."
            )
    return millis(created)


def _check_own(shards: Iterable[ImportedShard], listed: Iterable[Shard], *, now: int) -> None:
    by_id = {shard.shard_id: shard for shard in listed}
    for shard in shards:
        if shard.checkpoint is None or shard.shard_id not in by_id:
            continue
        foreign = why_foreign(shard.checkpoint, by_id[shard.shard_id], now=moment(now))
        if foreign:
            raise MaintenanceRefusedError(
                f"The checkpoint of shard {shard.shard_id} {foreign}; nothing was imported."
            )
