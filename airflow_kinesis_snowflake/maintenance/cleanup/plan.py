"""The plan of a cleanup: what can go, and why everything else stays. Making it changes nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ServiceRefusedError,
    SnowflakeObjectNotFoundError,
)
from airflow_kinesis_snowflake.maintenance.cleanup.rules import (
    DAY_MILLIS,
    MAX_OFFSETS,
    ConsumerView,
    StaleChannel,
    StaleOffset,
    TableDecision,
    TableKind,
    TableView,
    decide,
    decide_consumers,
    stale_channels,
    stale_offsets,
)
from airflow_kinesis_snowflake.maintenance.cleanup.tables import (
    WATCH_SECONDS,
    ApplicationTable,
    has_live_lease,
    last_touched,
    lease_counters,
    look_into,
    named_incarnations,
    stream_of,
    unseen_text,
)
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown
from airflow_kinesis_snowflake.maintenance.serialization import as_json, from_json
from airflow_kinesis_snowflake.sinks.snowflake.channel_state import MAX_CHANNELS as MAX_OF_PIPE
from airflow_kinesis_snowflake.sinks.snowflake.streaming import channel_name
from airflow_kinesis_snowflake.stream.times import millis
from airflow_kinesis_snowflake.words import ago

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
    from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

log = logging.getLogger(__name__)

OUR_TAG = ("created-by", "airflow-kinesis-snowflake")
MAX_CHANNELS = 500
"""Channels dropped in one run; each takes a request."""


@dataclass(frozen=True, kw_only=True)
class CleanupPlan:
    """Tables and consumers with the reason to keep or delete each; the same as JSON and back.

    :param offsets: rows of the offsets table that nobody needs any more
    :param channels: channels that nobody needs any more
    :param fullest: how many channels the fuller of the two pipes has
    :param unseen: tables that the role may not look into, so nothing is known about them, and they stay
    """

    made_at: int
    decisions: tuple[TableDecision, ...]
    consumers: tuple[ConsumerView, ...] = ()
    offsets: tuple[StaleOffset, ...] = ()
    channels: tuple[StaleChannel, ...] = ()
    fullest: int = 0
    unseen: tuple[str, ...] = ()

    @property
    def to_delete(self) -> tuple[TableDecision, ...]:
        """Tables to delete."""
        return tuple(decision for decision in self.decisions if decision.delete)

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to clean up."""
        to_delete = self.to_delete or self.offsets or self.channels
        return not (to_delete or any(view.deregister for view in self.consumers))

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return as_json(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CleanupPlan:
        """Read what :meth:`as_dict` made.

        :raises InvalidSettingError: it isn't a plan
        """
        return from_json(cls, plain, what="plan of a cleanup")


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

    :param snowflake: where to look for offsets and channels that nobody needs any more; None: they aren't
        looked for
    :param streams: whose consumers to look at, besides those of the streams that the tables have rows of
    :param watch_seconds: how long to watch the leases of the Kinesis Client Library, which carry no time
    :param clock: gives milliseconds since the epoch
    """
    names = list(tables.names())
    looks = [look_into(tables, name) for name in names]
    unseen = [look for look in looks if isinstance(look, str)]
    seen = [look for look in looks if isinstance(look, ApplicationTable)]
    counters = {each.details.name: lease_counters(each.items) for each in seen if _is_kcl(each.kind)}
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
        else _stale_offsets(snowflake, seen, decisions, before=_before(rules, clock())),
        channels=_stale_channels(channels, seen, decisions, before=_before(rules, clock())),
        fullest=max(Counter(channel.dead_letters for channel in channels).values(), default=0),
        unseen=tuple(sorted(unseen)),
    )


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
        live=(kcl and lease_counters(items) != counters.get(details.name)) or has_live_lease(items, now=now),
        streams=tuple(sorted({stream for item in items if (stream := stream_of(item))})),
    )


def _is_kcl(kind: TableKind) -> bool:
    return kind is TableKind.KCL_LEASES


def _consumers(hook: StreamConsumersHook, stream: str) -> Iterable[Any]:
    try:
        return hook.list(stream)
    except (AccessDeniedError, ServiceRefusedError) as error:
        log.warning("The consumers of stream %s can't be listed: %s", stream, error)
        return ()


# --- offsets and channels ----------------------------------------------------------------------------------


def _before(rules: CleanupRules, now: int) -> int:
    return now - round(rules.days * DAY_MILLIS)


def _stale_offsets(
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
    return tuple(rows[:MAX_OFFSETS])


def _offsets_of(snowflake: SnowflakeState, application: str) -> list[StaleOffset]:
    try:
        rows = snowflake.session.list_offsets(snowflake.target.offsets, application=application)
    except SnowflakeObjectNotFoundError as error:
        log.info("Offsets aren't looked at: %s", error)
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
            stale += stale_channels_of(channels, each.application, each.items, before=before)
    return tuple(sorted(stale, key=lambda channel: channel.created)[:MAX_CHANNELS])


def stale_channels_of(
    channels: Iterable[StaleChannel], application: str, items: Iterable[Mapping[str, Any]], *, before: int
) -> list[StaleChannel]:
    named = named_incarnations(items)
    needed = {channel_name(application, stream, OffsetKey(*key)) for stream, *key in named}
    streams = {stream for stream, _, _ in named}
    return stale_channels(channels, needed, application=application, streams=streams, before=before)


# --- for people --------------------------------------------------------------------------------------------


def cleanup_text(plan: CleanupPlan) -> str:
    """The plan for people to read, as Markdown."""
    return markdown(cleanup_parts(plan))


def cleanup_parts(plan: CleanupPlan) -> list[Part]:
    """The plan for people to read."""
    heads = ("", "table", "what it is", "created", "last used", "reason")
    lines = [
        (
            "DELETE" if decision.delete else "keep",
            decision.table.name,
            decision.table.kind,
            ago(decision.table.created, plan.made_at),
            ago(decision.table.touched, plan.made_at) or "unknown",
            decision.reason,
        )
        for decision in plan.decisions
    ]
    parts: list[Part] = [
        f"{len(plan.to_delete)} of {len(plan.decisions)} tables of applications can be deleted."
    ]
    if lines:
        parts.append(Table.of(heads, lines))
    if plan.offsets:
        of_each = _counted(row.application for row in plan.offsets)
        parts.append(
            f"{len(plan.offsets)} offsets in Snowflake can be deleted, because no state row names them any "
            f"more: {of_each}."
        )
    if plan.channels:
        of_each = _counted(channel.application for channel in plan.channels)
        parts.append(
            f"{len(plan.channels)} channels can be dropped, because no state row needs them any more: "
            f"{of_each}. The fuller pipe has {plan.fullest} of its {MAX_OF_PIPE} channels."
        )
    parts.append(unseen_text(plan.unseen))
    if plan.consumers:
        rows = [
            ("DEREGISTER" if view.deregister else "keep", view.name, view.stream, view.reason)
            for view in plan.consumers
        ]
        parts.append(Table.of(("", "consumer", "stream", "reason"), rows))
    return parts


def _counted(applications: Iterable[str]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in sorted(Counter(applications).items()))
