"""What drains left behind in Airflow, summed up per run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.monitoring.owners import holder_of
from airflow_kinesis_snowflake.stream.refs import StreamRef
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOUR = 3_600_000
MINUTE = 60_000

# When several workers of a run report a shard, the lag is that of the last one to have it.
_LEFT_BEFORE_THE_END = frozenset({"handed_over", "lost"})
_FAILED = frozenset({"failed", "upstream_failed"})
_UNDER_WAY = frozenset({"running", "restarting"})
_TO_COME = frozenset({"scheduled", "queued", "deferred", "up_for_reschedule", "none"})


class ShardSummary(msgspec.Struct, frozen=True):
    """A shard's part of a report; see :class:`~airflow_kinesis_snowflake.engine.report.ShardReport`."""

    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    checkpoint: str | None = None
    millis_behind_latest: int | None = None
    outcome: str = ""


class Summary(msgspec.Struct, frozen=True):
    """The totals of a report; fields unknown to a version are left out."""

    application_name: str
    stream_name: str
    stream_arn: str | None = None
    table: str = ""
    worker: str = ""
    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    millis_behind_latest: int | None = None
    seconds: float = 0.0
    gaps: tuple[dict[str, Any], ...] = ()
    reasons: dict[str, int] = {}
    rejected_rows: int = 0
    held_by_others: dict[str, int] = {}


class TaskReport(Summary, frozen=True):
    """What a finished drain task returned."""

    shards: dict[str, ShardSummary] = {}


class TaskProgress(msgspec.Struct, frozen=True):
    """What a running drain task reports every few seconds.

    :param at: when it was reported: ISO-8601 with a time zone
    :param seconds_to_catch_up: None: not known
    :param following_until: it keeps running until then, ISO-8601 with a time zone; None: it ends once it has
        caught up
    """

    application_name: str
    stream_name: str
    at: str
    records: int = 0
    bytes: int = 0
    records_per_second: float | None = None
    millis_behind_latest: int | None = None
    seconds_to_catch_up: float | None = None
    following_until: str | None = None


class Failure(msgspec.Struct, frozen=True):
    """Why a drain task failed, as reported by its operator."""

    reason: str


class Settings(msgspec.Struct, frozen=True):
    """Template fields of a drain task, as Airflow stored them when it started.

    :param stream_name: a name or an ARN
    """

    application_name: str
    stream_name: str
    table: str = ""
    aws_conn_id: str | None = "aws_default"
    dynamodb_conn_id: str | None = None
    region_name: str | None = None
    snowflake_conn_id: str | None = "snowflake_default"
    mapping: Any = None
    columns: Any = None
    rename: Any = None
    include: Any = None
    exclude: Any = None
    schema_evolution: Any = None
    unknown_keys: Any = None
    infer_timestamps: Any = None
    metadata_columns: Any = None
    payload_format: Any = None
    compression: Any = None
    json_documents: Any = None
    avro_schema: Any = None
    registry_conn_id: Any = None
    create_table: Any = None


@dataclass(frozen=True, order=True)
class Application:
    """An application on a stream, which has a state, a lag and a line on the page.

    :param stream: its name
    :param arn: empty: not known
    """

    name: str
    stream: str
    arn: str = ""


@dataclass(frozen=True, kw_only=True)
class DrainTaskInstance:
    """One task instance of the drain's operator. Times are milliseconds since the epoch.

    :param run_number: orders the runs of a DAG
    :param state: Airflow's, ``none`` before it is scheduled
    :param report: what it returned, when it succeeded
    :param progress: its last report, while it runs
    :param failure: why it failed; None: it didn't, or couldn't report it
    :param settings: None: Airflow no longer has them, or the task hasn't started
    :param links: AWS and Snowflake pages about its resources, by name
    :param named: the application it drains for, if its task drains several streams; None: unknown
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    run_number: int = 0
    state: str = "none"
    started: int | None = None
    ended: int | None = None
    report: TaskReport | None = None
    progress: TaskProgress | None = None
    failure: Failure | None = None
    settings: Settings | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    named: Application | None = None

    @property
    def application(self) -> Application | None:
        """The application it drains for; None: unknown."""
        for source in (self.report, self.progress, self.settings):
            if source is not None:
                name, arn = name_and_arn(source.stream_name)
                if isinstance(source, TaskReport):
                    arn = source.stream_arn or arn
                return Application(source.application_name, name, arn)
        return self.named


@dataclass(frozen=True, kw_only=True)
class Run:
    """All drains of one application in one run of a DAG. Times are milliseconds since the epoch.

    :param state: ``running``, ``retrying``, ``failed``, ``waiting`` (no worker has started, or all wait for
        data) or ``success``
    :param started: None: no worker has started
    :param ended: None: a worker is still running
    :param records: committed, dead letters included; while it runs, read so far
    :param lag: lag of the shard furthest behind, in milliseconds; None: not known
    :param rate: records per second while it runs; None: not known
    :param seconds_to_catch_up: while it runs; None: not known
    :param spoke: when a running worker last reported
    :param following_until: when the last following worker ends; None: no worker follows
    :param trouble: the task instance that failed, for a link to its log: task id and map index; of several,
        one that reported why
    :param reason: why it failed; empty: it didn't, or couldn't report it
    :param reasons: reasons of its dead letters, with their counts
    :param rejected_rows: rows that were streamed but that Snowflake rejected
    :param held_by_others: how many shards each owner outside the run had leased when a drain last checked
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
    following_until: int | None = None
    trouble: tuple[str, int] | None = None
    reason: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)
    rejected_rows: int = 0
    held_by_others: Mapping[str, int] = field(default_factory=dict)
    gaps: tuple[Mapping[str, Any], ...] = ()
    shards: Mapping[str, ShardSummary] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it has ended, successfully or not."""
        return self.state in {"success", "failed"}

    @property
    def millis(self) -> int | None:
        """How long it took."""
        return None if self.started is None or self.ended is None else max(0, self.ended - self.started)


def read_as(kind: type[Any], value: Any) -> Any:
    """A value from Airflow's database as ``kind``; None if it isn't one.

    XComs can be overwritten by users, and other versions wrote other fields.
    """
    try:
        return msgspec.convert(plain(value), kind)
    except msgspec.ValidationError:
        return None


def summary_of(text: str | bytes) -> TaskReport | None:
    """A report without its shards, from its JSON; None if it isn't one."""
    summary = decoded(text, Summary)
    return None if summary is None else TaskReport(*msgspec.structs.astuple(summary))


def decoded(text: str | bytes, kind: type[Any]) -> Any:
    """The JSON of an XCom as ``kind``, which Airflow 3.1 stores as JSON within text; None if it isn't one."""
    try:
        value = msgspec.json.decode(text, type=kind | str)
        while isinstance(value, str):
            value = msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError:
        return None
    return value


def plain(value: Any) -> Any:
    """The value of an XCom, which Airflow 3.1 stores as JSON within text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def by_application(drains: Iterable[DrainTaskInstance]) -> dict[Application, tuple[DrainTaskInstance, ...]]:
    """The drains of each application, newest run first.

    A drain that knows its stream only by name is assigned to the one that other drains of its task have seen,
    or otherwise to the only one of that name. A drain that failed before it had settings is assigned to the
    application that its task always drains; others that can't be assigned are left out.
    """
    drains = tuple(drains)
    named = [(drain, drain.application) for drain in drains if drain.application is not None]
    met: dict[tuple[str, ...], set[Application]] = {}
    for drain, application in named:
        if application.arn:
            for key in _keys(drain, application):
                met.setdefault(key, set()).add(application)
    found: dict[Application, list[DrainTaskInstance]] = {}
    of_task: dict[tuple[str, str], set[Application]] = {}
    for drain, application in named:
        candidates = next((met[key] for key in _keys(drain, application) if key in met), set())
        whose = application if application.arn or len(candidates) != 1 else next(iter(candidates))
        found.setdefault(whose, []).append(drain)
        of_task.setdefault((drain.dag_id, drain.task_id), set()).add(whose)
    for drain in drains:
        only = of_task.get((drain.dag_id, drain.task_id), set())
        if drain.application is None and len(only) == 1 and drain.state in _FAILED:
            found[next(iter(only))].append(drain)
    return {
        application: tuple(sorted(found[application], key=_newest_first)) for application in sorted(found)
    }


def _keys(drain: DrainTaskInstance, application: Application) -> tuple[tuple[str, ...], ...]:
    """What drains of one application have in common, the closest first."""
    names = (application.name, application.stream)
    return (*names, drain.dag_id, drain.task_id), names


def places(applications: Iterable[Application]) -> dict[Application, str]:
    """Region and account of streams that share a name; others have no entry."""
    by_name = attrgetter("name", "stream")
    groups = [tuple(group) for _, group in groupby(sorted(applications), by_name)]
    return {each: _place(each.arn) for group in groups if len(group) > 1 for each in group}


def _place(arn: str) -> str:
    if not arn:
        return "location not known yet"
    ref = StreamRef.parse(arn)
    return f"{ref.region}, account {ref.account}"


def name_and_arn(stream: str) -> tuple[str, str]:
    """Name and ARN of the stream in a setting; an empty ARN: the setting has only the name."""
    try:
        ref = StreamRef.parse(stream)
    except InvalidSettingError:
        return stream, ""  # Whatever it is, it shows.
    return ref.name, ref.arn or ""


def _newest_first(drain: DrainTaskInstance) -> tuple[Any, ...]:
    begun = drain.started is not None
    return (begun, -(drain.started or 0), drain.dag_id, -drain.run_number, drain.map_index)


def runs_of(drains: Iterable[DrainTaskInstance]) -> tuple[Run, ...]:
    """Drains of one application as runs, the newest first."""
    key = attrgetter("dag_id", "run_id")
    runs = [_run(tuple(of_run)) for _, of_run in groupby(sorted(drains, key=key), key)]
    return tuple(sorted(runs, key=lambda run: (run.started is not None, -(run.started or 0), run.run_id)))


def _run(drains: tuple[DrainTaskInstance, ...]) -> Run:
    reports = [drain.report for drain in drains if drain.report is not None]
    state = _state({drain.state for drain in drains})
    speaking = [drain.progress for drain in drains if drain.report is None and drain.progress is not None]
    told: list[TaskReport | TaskProgress] = [*reports, *(speaking if state == "running" else [])]
    lags = [each.millis_behind_latest for each in told if each.millis_behind_latest is not None]
    ends = [drain.ended for drain in drains]
    waits = [each.seconds_to_catch_up for each in speaking]
    failed = [drain for drain in drains if drain.state in {"failed", "up_for_retry"}]
    trouble = next((drain for drain in failed if drain.failure is not None), failed[0] if failed else None)
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
        spoke=_latest(each.at for each in speaking),
        following_until=_latest(each.following_until for each in speaking if each.following_until),
        trouble=None if trouble is None else (trouble.task_id, trouble.map_index),
        reason=trouble.failure.reason if trouble is not None and trouble.failure is not None else "",
        reasons=dict(sum((Counter(report.reasons) for report in reports), Counter())),
        rejected_rows=sum(report.rejected_rows for report in reports),
        held_by_others=_held(reports, drains[0].run_id),
        gaps=tuple(gap for report in reports for gap in report.gaps),
        shards=_shards(reports),
    )


def _held(reports: Sequence[TaskReport], run_id: str) -> dict[str, int]:
    """Shards held by others, by owner; workers of the same run don't count as others."""
    held: dict[str, int] = {}
    for report in reports:
        for owner, count in report.held_by_others.items():
            holder = holder_of(owner)
            if holder is None or holder.run_id != run_id:
                held[owner] = max(count, held.get(owner, 0))
    return held


def _state(states: set[str]) -> str:
    if states & _UNDER_WAY:
        return "running"
    if "up_for_retry" in states:
        return "retrying"
    if states & _FAILED:
        return "failed"
    return "waiting" if states & _TO_COME else "success"


def _total(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _latest(moments: Iterable[str]) -> int | None:
    known = [_millis(moment) for moment in moments]
    return max((each for each in known if each is not None), default=None)


def _millis(moment: str) -> int | None:
    try:
        return millis(datetime.fromisoformat(moment))
    except ValueError:
        return None


def _shards(reports: Sequence[TaskReport]) -> dict[str, ShardSummary]:
    merged: dict[str, ShardSummary] = {}
    for report in reports:
        for shard_id, done in report.shards.items():
            merged[shard_id] = _both(merged[shard_id], done) if shard_id in merged else done
    return merged


def _both(one: ShardSummary, other: ShardSummary) -> ShardSummary:
    last = one if other.outcome in _LEFT_BEFORE_THE_END else other
    return msgspec.structs.replace(
        last,
        records=one.records + other.records,
        bytes=one.bytes + other.bytes,
        dead_letters=one.dead_letters + other.dead_letters,
    )


@dataclass(frozen=True)
class Flow:
    """Averages over the last hour, or since the first known run if that is more recent.

    :param dead_letters: in all known runs
    """

    records_per_minute: float
    bytes_per_minute: float
    dead_letters: int


def flow_of(runs: Sequence[Run], *, now: int) -> Flow:
    """The throughput of recent runs.

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
    """The trend of the lag: ``growing``, ``shrinking``, ``steady``, or empty if there is nothing to compare.

    The newest known lag is compared with that of the run before it; less than a tenth, or half a minute,
    counts as no change.

    :param runs: newest first
    """
    lags = [run.lag for run in runs if run.lag is not None]
    if len(lags) < 2:
        return ""
    change = lags[0] - lags[1]
    if abs(change) <= max(lags[1] / 10, MINUTE / 2):
        return "steady"
    return "growing" if change > 0 else "shrinking"


@dataclass(frozen=True, kw_only=True)
class ChartColumn:
    """One column of the chart: a run, or all runs that started in a span of time.

    :param run: DAG and run id; None: it represents ``runs`` of them
    :param started: when the run or the span started; milliseconds since the epoch
    :param state: the run's; of several, ``failed`` if one of them failed
    :param lag: the largest, milliseconds
    :param per_minute: records per minute while draining
    """

    run: tuple[str, str] | None
    started: int
    ended: int | None
    state: str
    runs: int
    failed: int
    records: int
    bytes: int
    dead_letters: int
    lag: int | None
    per_minute: float | None


MAX_COLUMNS = 96


def columns_of(runs: Sequence[Run]) -> tuple[ChartColumn, ...]:
    """The columns of the chart, oldest first: a run each, or 96 spans of equal length if there are more runs.

    :param runs: newest first
    """
    begun = [(run.started, run) for run in reversed(runs) if run.started is not None]
    if len(begun) <= MAX_COLUMNS:
        return tuple(_column([run], (run.dag_id, run.run_id), started) for started, run in begun)
    first, last = begun[0][0], begun[-1][0]
    width = (last - first) // MAX_COLUMNS + 1
    spans = [list(span) for _, span in groupby(begun, lambda each: (each[0] - first) // width)]
    return tuple(_column([run for _, run in span], None, _floor(span[0][0], first, width)) for span in spans)


def _floor(moment: int, first: int, width: int) -> int:
    return first + (moment - first) // width * width


def _column(runs: Sequence[Run], run: tuple[str, str] | None, started: int) -> ChartColumn:
    lags = [each.lag for each in runs if each.lag is not None]
    failed = sum(each.state == "failed" for each in runs)
    over = [each for each in runs if each.millis is not None]
    minutes = sum(each.millis or 0 for each in over) / MINUTE
    return ChartColumn(
        run=run,
        started=started,
        ended=max((each.ended for each in runs if each.ended is not None), default=None),
        state=runs[0].state if run else ("failed" if failed else "success"),
        runs=len(runs),
        failed=failed,
        records=sum(each.records for each in runs),
        bytes=sum(each.bytes for each in runs),
        dead_letters=sum(each.dead_letters for each in runs),
        lag=max(lags, default=None),
        per_minute=sum(each.records for each in over) / max(minutes, len(over) / 60) if over else None,
    )
