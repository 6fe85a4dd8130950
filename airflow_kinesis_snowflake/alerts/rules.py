"""The alerts: rules about the state of an application and about what a drain did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import DataLossError
from airflow_kinesis_snowflake.stream.retention import read_until
from airflow_kinesis_snowflake.stream.times import millis, moment
from airflow_kinesis_snowflake.words import counted, duration, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from airflow_kinesis_snowflake.alerts.thresholds import Thresholds
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView

LAG = "lag"
RETENTION = "retention"
DEAD_LETTERS = "dead_letters"
DATA_LOSS = "data_loss"
REJECTED = "rejected_rows"
LEASE = "lease"
UNREAD = "unread"
FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that needs attention.

    :param rule: ``lag``, ``retention``, ``dead_letters``, ``data_loss``, ``rejected_rows``, ``lease``,
        ``unread`` or ``failed``
    :param severity: ``warning`` or ``critical``
    :param what: what is wrong, as a sentence without its full stop
    :param advice: what to do about it
    """

    rule: str
    severity: str
    application: str
    stream: str
    what: str
    advice: str

    @property
    def text(self) -> str:
        """The alert in one line."""
        return f"{self.application} on {self.stream}: {self.what}. {self.advice}"

    def as_dict(self) -> dict[str, str]:
        """The alert as JSON takes it."""
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """Key figures of an application at one moment.

    :param behind_millis: everything older than this is loaded; None: a shard hasn't been started
    :param retention_percent: the same as a share of the stream's retention; None: one of the two isn't known
    :param stale_leases: shards whose lease expired without being released
    :param stale_millis: how long ago the first of these leases expired
    :param unread_millis: since the stream was last read; 0 while a lease is held; None: it never was
    """

    behind_millis: int | None
    retention_percent: float | None
    stale_leases: int
    stale_millis: int
    unread_millis: int | None


def gauges_of(inspection: Inspection) -> Gauges:
    """Key figures of an application.

    :param inspection: including what Kinesis reports about the stream; otherwise no retention is known
    """
    now = inspection.at
    stale = [
        now - shard.lease_expiry
        for shard in inspection.shards
        if shard.lease_expiry is not None and shard.lease_owner is not None and not shard.leased(now)
    ]
    drained = drained_until(inspection)
    behind = None if drained is None else max(0, now - millis(drained))
    retention = inspection.retention_seconds * 1000
    return Gauges(
        behind_millis=behind,
        retention_percent=100 * behind / retention if behind is not None and retention else None,
        stale_leases=len(stale),
        stale_millis=max(stale, default=0),
        unread_millis=_unread(inspection),
    )


def drained_until(inspection: Inspection) -> datetime | None:
    """The moment up to which everything of the most lagging shard is loaded; None if one wasn't started."""
    moments = [_read_until(shard, now=inspection.at) for shard in inspection.shards if not shard.ended]
    known = [each for each in moments if each is not None]
    return min(known, default=None) if len(known) == len(moments) else None


def _read_until(shard: ShardView, *, now: int) -> datetime | None:
    at = shard.caught_up_at
    believable = at is not None and 0 <= at <= now
    return read_until(shard.checkpoint, caught_up_at=moment(at) if believable and at is not None else None)


def _unread(inspection: Inspection) -> int | None:
    if inspection.leased:
        return 0
    looks = [shard.last_update for shard in inspection.shards if shard.last_update is not None]
    return max(0, inspection.at - max(looks)) if looks else None


def alerts_of_state(inspection: Inspection, thresholds: Thresholds) -> tuple[Alert, ...]:
    """The alerts that the state of an application calls for."""
    names = {"application": inspection.application, "stream": inspection.stream}
    gauges = gauges_of(inspection)
    return tuple(
        Alert(rule=rule, severity=severity, what=what, advice=advice, **names)
        for rule, severity, what, advice in (
            *_near_retention(gauges, inspection, thresholds),
            *_lagging(gauges.behind_millis, thresholds),
            *_abandoned(gauges, inspection, thresholds),
            *_unwatched(gauges, thresholds),
        )
    )


_Found = tuple[str, str, str, str]


def _near_retention(gauges: Gauges, inspection: Inspection, thresholds: Thresholds) -> Iterable[_Found]:
    share = gauges.retention_percent
    if share is None or gauges.behind_millis is None or share < thresholds.retention_percent:
        return
    retention = inspection.retention_seconds * 1000
    loaded = f"everything is loaded only up to {duration(gauges.behind_millis)} ago"
    if share >= 100:
        what = f"{loaded}, and the stream keeps records for {duration(retention)}: some may be gone"
    else:
        left = duration(retention - gauges.behind_millis)
        what = f"{loaded}; in {left} the stream starts to drop what arrived then"
    yield (
        RETENTION,
        "critical",
        what,
        "Find out why no drain gets that far, and extend the stream's retention until it has caught up.",
    )


def _lagging(behind: int | None, thresholds: Thresholds) -> Iterable[_Found]:
    if behind is None or behind <= thresholds.lag_seconds * 1000:
        return
    yield (
        LAG,
        "warning",
        f"{duration(behind)} behind, more than {duration(thresholds.lag_seconds * 1000)}",
        "Check whether its drains run and succeed; if they do, add workers.",
    )


def _abandoned(gauges: Gauges, inspection: Inspection, thresholds: Thresholds) -> Iterable[_Found]:
    if not gauges.stale_leases or gauges.stale_millis <= thresholds.lease_seconds * 1000:
        return
    owners = tuple(
        sorted(
            {
                shard.lease_owner
                for shard in inspection.shards
                if shard.lease_owner is not None and not shard.leased(inspection.at)
            }
        )
    )
    yield (
        LEASE,
        "warning",
        f"the lease of {named(owners)} on {counted(gauges.stale_leases, 'shard')} expired "
        f"{duration(gauges.stale_millis)} ago, and nobody has taken over",
        "The worker is gone. Trigger the DAG that drains the stream; it takes over the shards.",
    )


def _unwatched(gauges: Gauges, thresholds: Thresholds) -> Iterable[_Found]:
    if thresholds.unread_seconds is None or gauges.unread_millis is None:
        return
    if gauges.unread_millis <= thresholds.unread_seconds * 1000:
        return
    yield (
        UNREAD,
        "critical",
        f"nobody has read the stream for {duration(gauges.unread_millis)}",
        "Check whether the DAG that drains or follows it is paused, late or failing.",
    )


def alerts_of_drain(report: Mapping[str, Any], thresholds: Thresholds) -> tuple[Alert, ...]:
    """The alerts that a finished drain calls for.

    :param report: what the operator returned
    """
    names = {"application": report["application_name"], "stream": report["stream_name"]}
    found: list[_Found] = list(_lagging(report.get("millis_behind_latest"), thresholds))
    if gaps := len(report.get("gaps") or ()):
        found.insert(0, (DATA_LOSS, "critical", _lost(counted(gaps, "gap")), _KEEP_LONGER))
    if rejected := int(report.get("rejected_rows") or 0):
        found.append((REJECTED, "critical", _rejected(rejected), _SEE_LOG))
    reasons: Mapping[str, int] = report.get("reasons") or {}
    # Dead letters count gaps too; those with a reason are records. Older reports have no reasons.
    letters = sum(reasons.values()) or int(report.get("dead_letters") or 0) - gaps
    if letters > thresholds.dead_letters:
        found.append(
            (
                DEAD_LETTERS,
                "warning",
                f"{counted(letters, 'record')} became dead letters{_most(reasons)}",
                "Fix what is wrong with them, then replay them.",
            )
        )
    return tuple(
        Alert(rule=rule, severity=severity, what=what, advice=advice, **names)
        for rule, severity, what, advice in found
    )


_KEEP_LONGER = "Drain more often, or extend the stream's retention."


_SEE_LOG = "The log of the drain names the shards and gives Snowflake's reasons."


def _rejected(rows: int) -> str:
    return f"Snowflake rejected {counted(rows, 'row')} that {'was' if rows == 1 else 'were'} streamed"


def _lost(how_many: str) -> str:
    return f"records aged out of the stream before they were read ({how_many})"


def _most(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return ""
    reason, count = max(reasons.items(), key=lambda each: each[1])
    return f", {count:,} of them: {reason}"


def alert_of_failure(reason: str, *, application: str, stream: str) -> Alert:
    """The alert that a failed drain calls for.

    :param reason: the exception's message, after the name of its class
    """
    lost = reason.startswith(DataLossError.__name__)
    return Alert(
        rule=DATA_LOSS if lost else FAILED,
        severity="critical" if lost else "warning",
        application=application,
        stream=stream,
        what=f"a drain failed: {reason.rstrip('.')}",
        advice="What was committed stays; the rest is read again.",
    )
