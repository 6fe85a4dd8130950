"""Which tables of applications nobody needs any more. Decisions only, no I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.plain import as_json, from_json
from airflow_kinesis_snowflake.maintenance.text import Part, Table, markdown
from airflow_kinesis_snowflake.sinks.snowflake.channel_state import MAX_CHANNELS as MOST_OF_PIPE
from airflow_kinesis_snowflake.state.attributes import KEYS
from airflow_kinesis_snowflake.words import ago

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

OUR_TAG = ("created-by", "airflow-kinesis-snowflake")
DAY_MILLIS = 86_400_000
_MOST_SHOWN = 20
MOST_OFFSETS = 1_000
"""Offsets deleted in one run."""
MOST_CHANNELS = 500
"""Channels dropped in one run; each takes a request."""
_COORDINATOR, _METRICS, _MIGRATION = "-CoordinatorState", "-WorkerMetricStats", "_migration"


class Kind(StrEnum):
    """Whose table it is, by its key."""

    CHECKPOINTS = "checkpoints"
    KCL_LEASES = "KCL leases"
    KCL_COORDINATOR = "KCL coordinator state"
    KCL_METRICS = "KCL worker metrics"
    OPENFLOW_MIGRATION = "Openflow migration"
    REDPANDA = "Redpanda checkpoints"


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table of an application as it was found. Times are milliseconds since the epoch.

    :param application: to whom it belongs
    :param ours: it carries the tag of this package
    :param touched: when a row says it was written last; None: no row says
    :param live: a worker holds a lease, or gave a sign of life
    :param streams: of which it has rows
    """

    name: str
    kind: Kind
    application: str
    created: int
    protected: bool
    ours: bool
    touched: int | None = None
    live: bool = False
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
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
class CleanupPlan:
    """Tables and consumers with the reason to keep or delete each; the same as JSON and back.

    :param offsets: rows of the offsets table that nobody needs any more
    :param channels: channels that nobody needs any more
    :param fullest: how many channels the one of the two pipes has that has more
    :param unseen: tables that the role may not look into, so that nothing is known of them; they stay
    """

    made_at: int
    verdicts: tuple[Verdict, ...]
    consumers: tuple[ConsumerView, ...] = ()
    offsets: tuple[StaleOffset, ...] = ()
    channels: tuple[StaleChannel, ...] = ()
    fullest: int = 0
    unseen: tuple[str, ...] = ()

    @property
    def doomed(self) -> tuple[Verdict, ...]:
        """Tables to delete."""
        return tuple(verdict for verdict in self.verdicts if verdict.delete)

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to clean up."""
        doomed = self.doomed or self.offsets or self.channels
        return not (doomed or any(view.deregister for view in self.consumers))

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return as_json(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CleanupPlan:
        """Read what :meth:`as_dict` made.

        :raises InvalidSettingError: it isn't a plan
        """
        return from_json(cls, plain, what="plan of a cleanup")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a table may go.

    :param days: nothing touched it for so long
    :param used: applications that somebody uses
    :param named: applications whose tables may be deleted although this package didn't make them, or although
        no row says when they were used last
    :param most: at most so many tables in one run
    """

    days: float
    used: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    most: int = 10

    def __post_init__(self) -> None:
        if not self.days > 0:
            raise InvalidSettingError(f"the age of stale tables must be more than 0 days, not {self.days}")
        if self.most < 1:
            raise InvalidSettingError(f"the most tables of a run must be at least 1, not {self.most}")
        both = self.used & self.named
        if both:
            raise InvalidSettingError(f"{', '.join(sorted(both))} is both in use and named for deletion")


def kind_of(name: str, keys: Mapping[str, str]) -> tuple[Kind, str] | None:
    """Whose table it is, and of which application; None: no table of an application."""
    if keys == KEYS:
        if name.endswith(_MIGRATION):
            return Kind.OPENFLOW_MIGRATION, name.removesuffix(_MIGRATION)
        return Kind.CHECKPOINTS, name
    if keys == {"HASH": "leaseKey"}:
        return Kind.KCL_LEASES, name
    if keys == {"HASH": "key"} and name.endswith(_COORDINATOR):
        return Kind.KCL_COORDINATOR, name.removesuffix(_COORDINATOR)
    if keys == {"HASH": "wid"} and name.endswith(_METRICS):
        return Kind.KCL_METRICS, name.removesuffix(_METRICS)
    if keys == {"HASH": "StreamID", "RANGE": "ShardID"}:
        return Kind.REDPANDA, name
    return None


def judge(tables: Iterable[TableView], rules: Rules, *, now: int) -> tuple[Verdict, ...]:
    """Decide about each table.

    Tables of one application go together or stay together.

    :param now: milliseconds since the epoch
    """
    found = sorted(tables, key=lambda view: view.name)
    reasons = {view.name: _reason_to_keep(view, rules, now=now) for view in found}
    verdicts, doomed = [], 0
    for view in found:
        reason = reasons[view.name]
        sibling = next(
            (other.name for other in found if other.application == view.application and reasons[other.name]),
            None,
        )
        if reason is None and sibling is not None:
            reason = f"it belongs to {sibling}, which stays"
        if reason is None and doomed >= rules.most:
            reason = f"{rules.most} tables are enough for one run"
        doomed += reason is None
        verdicts.append(
            Verdict(
                table=view, delete=reason is None, reason=reason or _reason_to_delete(view, rules, now=now)
            )
        )
    return tuple(verdicts)


def _reason_to_keep(view: TableView, rules: Rules, *, now: int) -> str | None:
    named = view.application in rules.named
    reasons = {
        "it is in use": view.application in rules.used,
        "a worker is alive": view.live,
        "it is protected against deletion": view.protected,
        "this package didn't make it; name it to delete it": not (view.ours or named),
        "no row says when it was used last; name it to delete it": view.touched is None and not named,
        f"it is younger than {rules.days:g} days": now - view.created < rules.days * DAY_MILLIS and not named,
        f"it was used {ago(view.touched, now)}": view.touched is not None
        and now - view.touched < rules.days * DAY_MILLIS,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _reason_to_delete(view: TableView, rules: Rules, *, now: int) -> str:
    named = ", and it is named" if view.application in rules.named else ""
    if view.touched is None:
        return f"no row says when it was used{named}"
    return f"nothing touched it for {rules.days:g} days: last {ago(view.touched, now)}{named}"


def judge_consumers(
    consumers: Iterable[tuple[str, str, str]],
    *,
    gone: Collection[str],
    tables: Collection[str],
    named: Collection[str],
) -> tuple[ConsumerView, ...]:
    """Decide about consumers.

    :param consumers: stream, name and ARN
    :param gone: applications whose tables are deleted now
    :param tables: names of all tables there are
    :param named: applications whose consumers may go if they have no table any more
    """
    views = []
    for stream, name, arn in consumers:
        if name in gone:
            deregister, reason = True, "its application is deleted"
        elif name in tables:
            deregister, reason = False, "its application is there"
        elif name in named:
            deregister, reason = True, "its application is gone, and it is named"
        else:
            deregister, reason = False, "no application of its name is there; name it to deregister it"
        views.append(ConsumerView(stream=stream, name=name, arn=arn, deregister=deregister, reason=reason))
    return tuple(views)


def stale_offsets(
    rows: Iterable[StaleOffset], named: Collection[tuple[str, str, str]], *, before: int
) -> tuple[StaleOffset, ...]:
    """Rows of the offsets table that can go.

    A state row names its incarnation as long as its shard may be read, or a commit under it may be in doubt.
    An incarnation that no state row names is that of the time before a reset, or of a shard that was read to
    its end and has left the stream. A worker that still believes in it can't make its row again, because a
    load asks for the lease first. Where a stream has no state rows at all, offsets are what the state would
    be recovered from, and stay.

    :param named: stream, shard id and incarnation of all state rows of the application
    :param before: not changed since (ms)
    """
    streams = {stream for stream, _, _ in named}
    stale = [
        row
        for row in rows
        if row.stream in streams
        and (row.stream, row.shard_id, row.incarnation) not in named
        and row.updated < before
    ]
    return tuple(sorted(stale, key=lambda row: row.updated)[:MOST_OFFSETS])


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
    :param before: made before (ms); a channel doesn't say when it was used last
    """
    beginnings = tuple(f"{application}:{stream}:" for stream in streams)
    return [
        channel
        for channel in channels
        if channel.name.startswith(beginnings) and channel.name not in needed and 0 < channel.created < before
    ]


def cleanup_text(plan: CleanupPlan) -> str:
    """The plan for people to read, as Markdown."""
    return markdown(cleanup_parts(plan))


def cleanup_parts(plan: CleanupPlan) -> list[Part]:
    """The plan for people to read."""
    heads = ("", "table", "what it is", "created", "last used", "reason")
    lines = [
        (
            "DELETE" if verdict.delete else "keep",
            verdict.table.name,
            verdict.table.kind,
            ago(verdict.table.created, plan.made_at),
            ago(verdict.table.touched, plan.made_at) or "unknown",
            verdict.reason,
        )
        for verdict in plan.verdicts
    ]
    parts: list[Part] = [f"{len(plan.doomed)} of {len(plan.verdicts)} tables of applications can be deleted."]
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
            f"{of_each}. The fuller pipe has {plan.fullest} of the {MOST_OF_PIPE} that it may have."
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


def unseen_text(unseen: Sequence[str]) -> str:
    """What to say of tables that the role may not look into; nothing if there are none."""
    if not unseen:
        return ""
    shown = ", ".join(unseen[:_MOST_SHOWN])
    more = len(unseen) - _MOST_SHOWN
    return (
        f"The role may not look into {len(unseen)} tables (dynamodb:DescribeTable, ListTagsOfResource and "
        f"Scan), so nothing is known of them, and they stay: {shown}"
        f"{f' and {more} more' if more > 0 else ''}."
    )
