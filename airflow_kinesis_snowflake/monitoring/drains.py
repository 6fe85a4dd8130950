"""What drains left behind in Airflow, and what it adds up to per run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOUR = 3_600_000
MINUTE = 60_000

# When several workers of a run report a shard, the one that had it last tells its lag.
_LEFT_BEFORE_THE_END = frozenset({"handed_over", "lost"})
_UNDER_WAY = frozenset({"running", "restarting"})
_TO_COME = frozenset({"scheduled", "queued", "deferred", "up_for_reschedule", "none"})


class ShardDone(msgspec.Struct, frozen=True):
    """A shard's part of a report; see :class:`~airflow_kinesis_snowflake.engine.report.ShardReport`."""

    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    checkpoint: str | None = None
    millis_behind_latest: int | None = None
    outcome: str = ""


class Report(msgspec.Struct, frozen=True):
    """What a finished drain task returned; fields that a version doesn't know are left out."""

    application_name: str
    stream_name: str
    table: str = ""
    worker: str = ""
    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    millis_behind_latest: int | None = None
    seconds: float = 0.0
    gaps: tuple[dict[str, Any], ...] = ()
    shards: dict[str, ShardDone] = {}


class Progress(msgspec.Struct, frozen=True):
    """What a running drain task says of itself every few seconds.

    :param at: when it said so: ISO-8601 with a time zone
    :param seconds_to_catch_up: None: not known
    """

    application_name: str
    stream_name: str
    at: str
    records: int = 0
    bytes: int = 0
    records_per_second: float | None = None
    millis_behind_latest: int | None = None
    seconds_to_catch_up: float | None = None


class Settings(msgspec.Struct, frozen=True):
    """Template fields of a drain task as Airflow stored them when it began."""

    application_name: str
    stream_name: str
    table: str = ""
    aws_conn_id: str | None = "aws_default"
    region_name: str | None = None
    snowflake_conn_id: str | None = "snowflake_default"


@dataclass(frozen=True, order=True)
class Application:
    """An application on a stream: what has a state, a lag and a line on the page."""

    name: str
    stream: str


@dataclass(frozen=True, kw_only=True)
class Drain:
    """One task instance of the drain's operator. Times are milliseconds since the epoch.

    :param run_number: orders the runs of a DAG
    :param state: Airflow's, ``none`` before it is scheduled
    :param report: what it returned, when it succeeded
    :param progress: what it said last, while it runs
    :param settings: None: Airflow has forgotten them, or it hasn't begun
    :param links: pages of AWS and Snowflake about what it works with, by name
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    run_number: int = 0
    state: str = "none"
    started: int | None = None
    ended: int | None = None
    report: Report | None = None
    progress: Progress | None = None
    settings: Settings | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def application(self) -> Application | None:
        """Whose drain it is; None: nothing says so."""
        for source in (self.report, self.progress, self.settings):
            if source is not None:
                return Application(source.application_name, source.stream_name)
        return None


@dataclass(frozen=True, kw_only=True)
class Run:
    """All drains of one application in one run of a DAG. Times are milliseconds since the epoch.

    :param state: ``running``, ``retrying``, ``failed``, ``waiting`` (no worker has begun, or all wait for
        data) or ``success``
    :param started: None: no worker has begun
    :param ended: None: a worker is still at it
    :param records: committed, dead letters included; while it runs, read so far
    :param lag: milliseconds behind the tip of the shard furthest behind; None: not known
    :param rate: records a second while it runs; None: not known
    :param seconds_to_catch_up: while it runs; None: not known
    :param spoke: when a running worker last said something
    :param trouble: the first task instance that failed, for a link to its log: task id and map index
    :param shards: what was done to each
    """

    dag_id: str
    run_id: str
    state: str
    started: int | None = None
    ended: int | None = None
    workers: int = 0
    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    lag: int | None = None
    rate: float | None = None
    seconds_to_catch_up: float | None = None
    spoke: int | None = None
    trouble: tuple[str, int] | None = None
    gaps: tuple[Mapping[str, Any], ...] = ()
    shards: Mapping[str, ShardDone] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it ended, well or not."""
        return self.state in {"success", "failed"}

    @property
    def millis(self) -> int | None:
        """How long it took."""
        return None if self.started is None or self.ended is None else max(0, self.ended - self.started)


def read_as(kind: type[Any], value: Any) -> Any:
    """A value out of Airflow's database as ``kind``; None if it isn't one.

    XComs can be overwritten by people, and other versions wrote other fields.
    """
    try:
        return msgspec.convert(plain(value), kind)
    except msgspec.ValidationError:
        return None


def plain(value: Any) -> Any:
    """The value of an XCom, which Airflow 3.1 stores as JSON in a text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def by_application(drains: Iterable[Drain]) -> dict[Application, tuple[Drain, ...]]:
    """The drains of each application, newest run first; those that nothing tells are left out."""
    found: dict[Application, list[Drain]] = {}
    for drain in drains:
        if drain.application is not None:
            found.setdefault(drain.application, []).append(drain)
    return {
        application: tuple(sorted(found[application], key=_newest_first)) for application in sorted(found)
    }


def _newest_first(drain: Drain) -> tuple[Any, ...]:
    begun = drain.started is not None
    return (begun, -(drain.started or 0), drain.dag_id, -drain.run_number, drain.map_index)


def runs_of(drains: Iterable[Drain]) -> tuple[Run, ...]:
    """Drains of one application as runs, the newest first."""
    key = attrgetter("dag_id", "run_id")
    runs = [_run(tuple(of_run)) for _, of_run in groupby(sorted(drains, key=key), key)]
    return tuple(sorted(runs, key=lambda run: (run.started is not None, -(run.started or 0), run.run_id)))


def _run(drains: tuple[Drain, ...]) -> Run:
    reports = [drain.report for drain in drains if drain.report is not None]
    state = _state({drain.state for drain in drains})
    speaking = [drain.progress for drain in drains if drain.report is None and drain.progress is not None]
    told: list[Report | Progress] = [*reports, *(speaking if state == "running" else [])]
    lags = [each.millis_behind_latest for each in told if each.millis_behind_latest is not None]
    ends = [drain.ended for drain in drains]
    waits = [each.seconds_to_catch_up for each in speaking]
    failed = [drain for drain in drains if drain.state in {"failed", "up_for_retry"}]
    return Run(
        dag_id=drains[0].dag_id,
        run_id=drains[0].run_id,
        state=state,
        started=min((drain.started for drain in drains if drain.started is not None), default=None),
        ended=None if None in ends else max(filter(None, ends), default=None),
        workers=len(drains),
        records=sum(each.records for each in told),
        bytes=sum(each.bytes for each in told),
        dead_letters=sum(report.dead_letters for report in reports),
        lag=max(lags, default=None),
        rate=_total([each.records_per_second for each in speaking]),
        seconds_to_catch_up=None if None in waits else max(filter(None, waits), default=None),
        spoke=max((moment for each in speaking if (moment := _millis(each.at)) is not None), default=None),
        trouble=(failed[0].task_id, failed[0].map_index) if failed else None,
        gaps=tuple(gap for report in reports for gap in report.gaps),
        shards=_shards(reports),
    )


def _state(states: set[str]) -> str:
    if states & _UNDER_WAY:
        return "running"
    if "up_for_retry" in states:
        return "retrying"
    if states & {"failed", "upstream_failed"}:
        return "failed"
    return "waiting" if states & _TO_COME else "success"


def _total(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _millis(moment: str) -> int | None:
    try:
        return millis(datetime.fromisoformat(moment))
    except ValueError:
        return None


def _shards(reports: Sequence[Report]) -> dict[str, ShardDone]:
    merged: dict[str, ShardDone] = {}
    for report in reports:
        for shard_id, done in report.shards.items():
            merged[shard_id] = _both(merged[shard_id], done) if shard_id in merged else done
    return merged


def _both(one: ShardDone, other: ShardDone) -> ShardDone:
    last = one if other.outcome in _LEFT_BEFORE_THE_END else other
    return msgspec.structs.replace(
        last,
        records=one.records + other.records,
        bytes=one.bytes + other.bytes,
        dead_letters=one.dead_letters + other.dead_letters,
    )


@dataclass(frozen=True)
class Flow:
    """Averages over the last hour, or since the first run that is remembered if that is shorter ago.

    :param dead_letters: in all runs that are remembered
    """

    records_per_minute: float
    bytes_per_minute: float
    dead_letters: int


def flow_of(runs: Sequence[Run], *, now: int) -> Flow:
    """How much flows.

    :param runs: newest first
    :param now: milliseconds since the epoch
    """
    recent = [run for run in runs if run.started is not None and (run.ended or now) > now - HOUR]
    first = min((run.started for run in recent if run.started is not None), default=now)
    minutes = max(1.0, min(HOUR, now - first) / MINUTE)
    return Flow(
        records_per_minute=sum(run.records for run in recent) / minutes,
        bytes_per_minute=sum(run.bytes for run in recent) / minutes,
        dead_letters=sum(run.dead_letters for run in runs),
    )


def trend_of(runs: Sequence[Run]) -> str:
    """Where the lag goes: ``growing``, ``shrinking``, ``steady``, or empty if there is nothing to compare.

    The newest known lag is compared with that of the run before it; less than a tenth, or half a minute, is
    no change.

    :param runs: newest first
    """
    lags = [run.lag for run in runs if run.lag is not None]
    if len(lags) < 2:
        return ""
    change = lags[0] - lags[1]
    if abs(change) <= max(lags[1] / 10, MINUTE / 2):
        return "steady"
    return "growing" if change > 0 else "shrinking"
