"""Saving the rows of an application to a file, and putting them back."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    InvalidSettingError,
    MaintenanceRefusedError,
    SnowflakeObjectNotFoundError,
)
from airflow_kinesis_snowflake.hooks.backups import backup_name
from airflow_kinesis_snowflake.maintenance.holding import holding
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.sinks.snowflake.streaming import MEMORY_MILLIS, channel_name
from airflow_kinesis_snowflake.state.attributes import (
    asking,
    incarnation_of,
    is_ended,
    is_restored,
    key_of,
    offset_attribute,
    shard_rows,
    sinks_of,
)
from airflow_kinesis_snowflake.state.items import number_of
from airflow_kinesis_snowflake.stream.times import utc
from airflow_kinesis_snowflake.words import ago

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

log = logging.getLogger(__name__)

FORMAT = 1

Item = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Backup:
    """The rows of one application, as DynamoDB stores them.

    :param saved_at: milliseconds since the epoch
    """

    application: str
    saved_at: int
    items: tuple[Item, ...]

    def encode(self) -> bytes:
        """The backup as JSON, to be read by :meth:`decode`, or row by row by ``aws dynamodb put-item``."""
        document = {
            "format": FORMAT,
            "application": self.application,
            "saved_at": self.saved_at,
            "items": self.items,
        }
        return json.dumps(document, indent=1, default=_plain).encode()

    @classmethod
    def decode(cls, content: bytes) -> Backup:
        """Read what :meth:`encode` wrote.

        :raises InvalidSettingError: it isn't a backup
        """
        try:
            document = json.loads(content)
            if document["format"] != FORMAT:
                raise InvalidSettingError(
                    f"use the version that saved it: format {document['format']}, not {FORMAT}"
                )
            items = tuple(
                {name: _attribute(value) for name, value in item.items()} for item in document["items"]
            )
            for item in items:
                key_of(item)
            return cls(str(document["application"]), int(document["saved_at"]), items)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidSettingError):
                raise
            raise InvalidSettingError(f"name a file of a backup: this one isn't one, {error!r}") from error


def back_up(store: CheckpointStoreHook, files: BackupFilesHook, *, folder: str, now: int) -> dict[str, Any]:
    """Save all rows of an application to a file, and create an on-demand backup where DynamoDB offers it.

    :param folder: absolute path or ``s3://bucket/prefix``
    :param now: milliseconds since the epoch
    :return: ``file``, ``dynamodb`` (ARN or None) and ``rows``; ``file`` is None if there is no table
    """
    if not store.exists():
        log.info("Application %s has no table, so there is nothing to save", store.application_name)
        return {"file": None, "dynamodb": None, "rows": 0}
    backup = Backup(store.application_name, now, tuple(store.read_items()))
    name = backup_name(store.application_name, now=now)
    file = files.write(folder, f"{name}.json", backup.encode())
    arn = store.back_up(name)
    log.info("%d rows of application %s saved to %s", len(backup.items), store.application_name, file)
    if arn is None:
        log.info("DynamoDB offers no backups here, so the file is the only one")
    return {"file": file, "dynamodb": arn, "rows": len(backup.items)}


def try_out(store: CheckpointStoreHook, files: BackupFilesHook, *, folder: str) -> None:
    """Check that a backup can be written, if there is something to save.

    :raises KinesisSnowflakeError: it can't
    """
    if store.exists():
        files.try_out(folder)


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore will do. Rows are named by their streams and shard ids.

    :param saved_at: when the backup was created, in milliseconds since the epoch
    :param restored: rows that are put back
    :param removed: rows that are there now and not in the backup
    """

    application: str
    saved_at: int
    restored: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return as_json(self)


def plan_restore(backup: Backup, *, store: CheckpointStoreHook) -> RestorePlan:
    """Say what :func:`restore` will do. Changes nothing.

    :raises InvalidSettingError: the backup is of another application
    """
    _check_application(backup, store)
    present = shard_rows(store.read_items()).keys() if store.exists() else set()
    saved = shard_rows(backup.items).keys()
    return RestorePlan(
        application=backup.application,
        saved_at=backup.saved_at,
        restored=tuple(sorted(saved)),
        removed=tuple(sorted(present - saved)),
    )


def restore_parts(plan: RestorePlan, *, now: int, with_table: bool) -> list[Part]:
    """The plan for people to read.

    :param now: milliseconds since the epoch
    :param with_table: the landing table is named
    """
    counts = Counter(stream for stream, _ in plan.restored)
    removed = [
        f"Row of shard {shard} of stream {stream} is removed. While Kinesis lists the shard, the next drain "
        "reads it from its start, and loads again what was loaded of it."
        for stream, shard in plan.removed
    ]
    closed = (
        "Name the landing table: without it, what a reset has closed in Snowflake stays closed, and drains "
        "refuse such shards."
    )
    return [
        f"Rows of application **{plan.application}** go back to what they were {ago(plan.saved_at, now)}, "
        f"at {utc(plan.saved_at)}. What was loaded since then stays in Snowflake.",
        Table.of(("stream", "rows put back"), [(name, str(rows)) for name, rows in counts.items()]),
        "\n".join(removed),
        "" if with_table else closed,
    ]


def restore(
    backup: Backup,
    *,
    store: CheckpointStoreHook,
    snowflake: SnowflakeState | None,
    owner: str,
    clock: Callable[[], int],
    force: bool = False,
) -> dict[str, int]:
    """Put back the rows of a backup, except leases and workers; rows that aren't in it are removed.

    Incarnations that a reset has closed since are reopened, and those of today are closed. Every row is
    leased in the meantime, even one that has to be created, so that no worker reads before all are back. More
    may have been committed under their incarnations since the backup, or by workers that were loading at that
    moment, so rows are put back in doubt, and the next drain asks the sinks. Can be repeated.

    :param snowflake: where the offsets are; None: closed incarnations stay closed, and a drain refuses them
    :param owner: who holds the leases in the meantime
    :param clock: gives milliseconds since the epoch
    :param force: take leases away from workers that may be reading
    :return: how many rows were ``restored`` and ``removed``
    :raises InvalidSettingError: the backup is of another application
    :raises MaintenanceRefusedError: a worker is reading, or the backup is too old for what Snowflake may have
        forgotten, and nothing was changed; or one got in between, and the state isn't that of the backup
    """
    _check_application(backup, store)
    store.create_table()
    held = shard_rows(store.read_items()).keys()
    with holding(store, held, owner=owner, clock=clock, force=force) as holds:
        # Before they were held, a worker may have gone on, perhaps with another sink.
        present = shard_rows(store.read_items())
        if unheld := present.keys() - held:
            raise _came_between(store, min(unheld))
        saved = _as_restored(
            shard_rows(backup.items), present, store.application_name, snowflake, now=clock()
        )
        removed = sorted(present.keys() - saved.keys())
        for key in sorted(saved.keys() - present.keys()):
            if not holds.make(key, partial(_make, store, saved[key], owner)):
                raise _came_between(store, key)
        if snowflake is not None:
            _switch(snowflake, store.application_name, opened=saved.values(), closed=present.values())
        for key in sorted(saved.keys() & present.keys()):
            if not store.restore_item(saved[key], owner=owner, now=clock()):
                raise _came_between(store, key)
        for key in removed:
            if not store.remove_shard(*key, owner=owner):
                raise _came_between(store, key)
        _compare(store, saved)
    return {"restored": len(saved), "removed": len(removed)}


def _check_application(backup: Backup, store: CheckpointStoreHook) -> None:
    if backup.application != store.application_name:
        raise InvalidSettingError(
            f"name a backup of application {store.application_name}: this one is of {backup.application}"
        )


def _make(store: CheckpointStoreHook, item: Item, owner: str, now: int, until: int) -> bool:
    return store.restore_item(item, owner=owner, now=now, made_until=until)


def _compare(store: CheckpointStoreHook, saved: Mapping[tuple[str, str], Item]) -> None:
    """Check that the rows are those of the backup, and no others.

    :raises MaintenanceRefusedError: they aren't
    """
    found = shard_rows(store.read_items())
    for key in sorted(saved.keys() | found.keys()):
        if key not in saved or key not in found or not is_restored(saved[key], found[key]):
            raise _came_between(store, key)


def _came_between(store: CheckpointStoreHook, key: tuple[str, str]) -> MaintenanceRefusedError:
    stream, shard_id = key
    return MaintenanceRefusedError(
        f"Stop the drains of application {store.application_name} and restore once more: a worker changed "
        f"the row of shard {shard_id} of stream {stream} in the meantime, so the state isn't that of the "
        "backup. What the worker loads until then is loaded twice."
    )


def _committed_by(
    snowflake: SnowflakeState, application: str, *states: Mapping[tuple[str, str], Item]
) -> dict[tuple[str, OffsetKey], set[str]]:
    """The sinks by which something was committed under an incarnation, according to Snowflake.

    A sink may have been in use after the backup that no row names any more.
    """
    found: dict[tuple[str, OffsetKey], set[str]] = {}
    items = [item for state in states for item in state.values()]
    try:
        offsets = snowflake.session.list_offsets(snowflake.target.offsets, application=application)
    except SnowflakeObjectNotFoundError:
        if any(_has_copied(item) for item in items):
            raise
        offsets = []
    for row in offsets:
        if row.position is not None:
            found.setdefault((row.stream, OffsetKey(row.shard_id, row.incarnation)), set()).add(COPY)
    channels = {channel.name for channel in snowflake.channels.list(snowflake.target.table)}
    for stream, keys in _incarnations(items).items():
        for key in keys:
            if channel_name(application, stream, key) in channels:
                found.setdefault((stream, key), set()).add(STREAMING)
    return found


def _as_restored(
    saved: Mapping[tuple[str, str], Item],
    present: Mapping[tuple[str, str], Item],
    application: str,
    snowflake: SnowflakeState | None,
    *,
    now: int,
) -> dict[tuple[str, str], Item]:
    """The rows of a backup, in doubt for all sinks that may have committed under their incarnations.

    :raises MaintenanceRefusedError: Snowflake may have forgotten what was streamed since
    """
    committed_by = {} if snowflake is None else _committed_by(snowflake, application, saved, present)
    rows: dict[tuple[str, str], Item] = {}
    for (stream, shard_id), item in saved.items():
        key = OffsetKey(shard_id, incarnation_of(item) or "")
        today = present.get((stream, shard_id), {})
        sinks = sinks_of(item) | committed_by.get((stream, key), set())
        if key.incarnation and incarnation_of(today) == key.incarnation:
            sinks |= sinks_of(today)
        # Nobody reads a shard that has ended, so nobody would settle it.
        asks = bool(sinks) and not is_ended(item)
        rows[stream, shard_id] = asking(item, sinks) if asks else item
        if asks and STREAMING in sinks - committed_by.get((stream, key), set()) and _is_old(item, now=now):
            raise MaintenanceRefusedError(
                f"Compare the last records of shard {shard_id} of stream {stream} with the landing table, "
                f"and rewind the shard to where they end: the backup of application {application} is so old "
                "that Snowflake may have forgotten what was streamed since. Nothing was changed."
            )
    return rows


def _is_old(item: Item, *, now: int) -> bool:
    """Whether Snowflake may have forgotten what was streamed since a row was written."""
    written = number_of(item, "lastUpdateTimestamp")
    return written is None or now - written > MEMORY_MILLIS


def _switch(
    snowflake: SnowflakeState, application: str, *, opened: Collection[Item], closed: Collection[Item]
) -> None:
    """Let loads go on under the incarnations of the backup, and not under those of today.

    A channel needs no opening: it belongs to whoever opens it next.
    """
    session, target = snowflake.session, snowflake.target
    wanted, unwanted = _incarnations(opened), _incarnations(closed)
    copied = _incarnations(item for item in (*opened, *closed) if _has_copied(item))
    streamed = _incarnations(item for item in closed if STREAMING in sinks_of(item))
    for stream in sorted(wanted.keys() | unwanted.keys()):
        back = wanted.get(stream, set())
        gone = unwanted.get(stream, set()) - back
        opens, closes = (sorted(keys & copied.get(stream, set()), key=str) for keys in (back, gone))
        session.reopen_offsets(target, application=application, stream=stream, keys=opens)
        session.close_offsets(target, application=application, stream=stream, keys=closes)
        fenced = sorted(gone & streamed.get(stream, set()), key=str)
        snowflake.channels.fence(application=application, stream=stream, keys=fenced)


def _has_copied(item: Item) -> bool:
    return COPY in sinks_of(item) or offset_attribute(COPY) in item


def _incarnations(items: Iterable[Item]) -> dict[str, set[OffsetKey]]:
    keys: dict[str, set[OffsetKey]] = {}
    for item in items:
        if incarnation := incarnation_of(item):
            stream, shard_id = key_of(item)
            keys.setdefault(stream, set()).add(OffsetKey(shard_id, incarnation))
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} doesn't belong in a row")


def _attribute(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute with its bytes as bytes again, however deeply they are nested."""
    return {kind: _held(kind, held) for kind, held in value.items()}


def _held(kind: str, held: Any) -> Any:
    """What an attribute of some kind holds; maps and lists hold attributes themselves."""
    match kind:
        case "B":
            return bytes.fromhex(held["bytes"])
        case "BS":
            return [bytes.fromhex(each["bytes"]) for each in held]
        case "L":
            return [_attribute(each) for each in held]
        case "M":
            return {name: _attribute(each) for name, each in held.items()}
    return held
