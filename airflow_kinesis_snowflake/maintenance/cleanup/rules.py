"""Which tables, consumers, offsets and channels nobody needs any more. Decisions only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.state.attributes import KEYS
from airflow_kinesis_snowflake.words import ago

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

DAY_MILLIS = 86_400_000
MAX_OFFSETS = 1_000
"""Offsets deleted in one run."""
_COORDINATOR, _METRICS, _MIGRATION = "-CoordinatorState", "-WorkerMetricStats", "_migration"


class TableKind(StrEnum):
    """Whose table it is, according to its key."""

    CHECKPOINTS = "checkpoints"
    KCL_LEASES = "KCL leases"
    KCL_COORDINATOR = "KCL coordinator state"
    KCL_METRICS = "KCL worker metrics"
    OPENFLOW_MIGRATION = "Openflow migration"
    REDPANDA = "Redpanda checkpoints"


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table of an application as it was found. Times are milliseconds since the epoch.

    :param application: that it belongs to
    :param ours: whether it carries the tag of this package
    :param touched: when it was last written, according to its rows; None: no row says
    :param live: whether a worker holds a lease, or gave a sign of life
    :param streams: that it has rows of
    """

    name: str
    kind: TableKind
    application: str
    created: int
    protected: bool
    ours: bool
    touched: int | None = None
    live: bool = False
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableDecision:
    """What to do with a table, and why."""

    table: TableView
    delete: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class ConsumerView:
    """A consumer registered with a stream, and whether to deregister it."""

    stream: str
    name: str
    arn: str
    deregister: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class StaleOffset:
    """A row of the offsets table that no state row names: of an old incarnation, or a forgotten shard.

    :param updated: milliseconds since the epoch
    """

    application: str
    stream: str
    shard_id: str
    incarnation: str
    updated: int


@dataclass(frozen=True, kw_only=True)
class StaleChannel:
    """A channel of an incarnation that no state row names, or of an application that is deleted.

    :param dead_letters: it leads into the dead-letter table, not the landing table
    :param created: milliseconds since the epoch; 0: not known
    """

    application: str
    name: str
    dead_letters: bool
    created: int


@dataclass(frozen=True, kw_only=True)
class CleanupRules:
    """When a table may go.

    :param days: for how long nothing must have written to it
    :param used: applications that somebody uses
    :param named: applications whose tables may be deleted although this package didn't create them, or
        although no row says when they were last used
    :param most: how many tables may be deleted in one run
    """

    days: float
    used: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    most: int = 10

    def __post_init__(self) -> None:
        if not self.days > 0:
            raise InvalidSettingError(f"give more than 0 days as the age of stale tables, not {self.days}")
        if self.most < 1:
            raise InvalidSettingError(f"let a run delete at least 1 table, not {self.most}")
        both = self.used & self.named
        if both:
            raise InvalidSettingError(
                f"choose one for {', '.join(sorted(both))}: it is both in use and named for deletion"
            )


def kind_of(name: str, keys: Mapping[str, str]) -> tuple[TableKind, str] | None:
    """Whose table it is, and of which application; None: it isn't a table of an application."""
    if keys == KEYS:
        if name.endswith(_MIGRATION):
            return TableKind.OPENFLOW_MIGRATION, name.removesuffix(_MIGRATION)
        return TableKind.CHECKPOINTS, name
    if keys == {"HASH": "leaseKey"}:
        return TableKind.KCL_LEASES, name
    if keys == {"HASH": "key"} and name.endswith(_COORDINATOR):
        return TableKind.KCL_COORDINATOR, name.removesuffix(_COORDINATOR)
    if keys == {"HASH": "wid"} and name.endswith(_METRICS):
        return TableKind.KCL_METRICS, name.removesuffix(_METRICS)
    if keys == {"HASH": "StreamID", "RANGE": "ShardID"}:
        return TableKind.REDPANDA, name
    return None


def decide(tables: Iterable[TableView], rules: CleanupRules, *, now: int) -> tuple[TableDecision, ...]:
    """Decide about each table.

    Tables of one application go together or stay together.

    :param now: milliseconds since the epoch
    """
    found = sorted(tables, key=lambda view: view.name)
    reasons = {view.name: _reason_to_keep(view, rules, now=now) for view in found}
    decisions, to_delete = [], 0
    for view in found:
        reason = reasons[view.name]
        sibling = next(
            (other.name for other in found if other.application == view.application and reasons[other.name]),
            None,
        )
        if reason is None and sibling is not None:
            reason = f"it belongs to {sibling}, which stays"
        if reason is None and to_delete >= rules.most:
            reason = f"a run deletes {rules.most} tables at most"
        to_delete += reason is None
        decisions.append(
            TableDecision(
                table=view, delete=reason is None, reason=reason or _reason_to_delete(view, rules, now=now)
            )
        )
    return tuple(decisions)


def _reason_to_keep(view: TableView, rules: CleanupRules, *, now: int) -> str | None:
    named = view.application in rules.named
    reasons = {
        "it is in use": view.application in rules.used,
        "a worker is alive": view.live,
        "it is protected against deletion": view.protected,
        "this package didn't create it; name it to delete it": not (view.ours or named),
        "no row says when it was last used; name it to delete it": view.touched is None and not named,
        f"it is younger than {rules.days:g} days": now - view.created < rules.days * DAY_MILLIS and not named,
        f"it was used {ago(view.touched, now)}": view.touched is not None
        and now - view.touched < rules.days * DAY_MILLIS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _reason_to_delete(view: TableView, rules: CleanupRules, *, now: int) -> str:
    named = ", and it is named" if view.application in rules.named else ""
    if view.touched is None:
        return f"no row says when it was used{named}"
    return f"nothing has written to it for {rules.days:g} days: last {ago(view.touched, now)}{named}"


def decide_consumers(
    consumers: Iterable[tuple[str, str, str]],
    *,
    gone: Collection[str],
    tables: Collection[str],
    named: Collection[str],
) -> tuple[ConsumerView, ...]:
    """Decide about consumers.

    :param consumers: stream, name and ARN
    :param gone: applications whose tables are deleted now
    :param tables: names of all tables that exist
    :param named: applications whose consumers may go if they have no table any more
    """
    views = []
    for stream, name, arn in consumers:
        if name in gone:
            deregister, reason = True, "its application is deleted"
        elif name in tables:
            deregister, reason = False, "its application exists"
        elif name in named:
            deregister, reason = True, "its application is gone, and it is named"
        else:
            deregister, reason = False, "there is no application of its name; name it to deregister it"
        views.append(ConsumerView(stream=stream, name=name, arn=arn, deregister=deregister, reason=reason))
    return tuple(views)


def stale_offsets(
    rows: Iterable[StaleOffset], named: Collection[tuple[str, str, str]], *, before: int
) -> tuple[StaleOffset, ...]:
    """Rows of the offsets table that can go.

    A state row names its incarnation as long as its shard may be read, or a commit under it may be in doubt.
    An incarnation that no state row names dates from before a reset, or belongs to a shard that was read to
    its end and has left the stream. A worker that still believes in it can't create its row again, because a
    load checks the lease first. Where a stream has no state rows at all, offsets are what the state would
    be recovered from, and stay.

    :param named: stream, shard id and incarnation of all state rows of the application
    :param before: they haven't changed since then (ms)
    """
    streams = {stream for stream, _, _ in named}
    stale = [
        row
        for row in rows
        if row.stream in streams
        and (row.stream, row.shard_id, row.incarnation) not in named
        and row.updated < before
    ]
    return tuple(sorted(stale, key=lambda row: row.updated)[:MAX_OFFSETS])


def stale_channels(
    channels: Iterable[StaleChannel],
    needed: Collection[str],
    *,
    application: str,
    streams: Iterable[str],
    before: int,
) -> list[StaleChannel]:
    """Channels that can go of an application that stays.

    As with offsets: a worker that still believes in an old incarnation opens its channel again, but confirms
    its lease before it sends a row; and a stream without state rows would be recovered from its channels.

    :param needed: names of the channels of all state rows
    :param streams: of which the application has state rows
    :param before: they were created before then (ms); a channel doesn't say when it was last used
    """
    beginnings = tuple(f"{application}:{stream}:" for stream in streams)
    return [
        channel
        for channel in channels
        if channel.name.startswith(beginnings) and channel.name not in needed and 0 < channel.created < before
    ]
