"""What a drain reports: the final report and the log lines in between."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.engine.batch import Batch, Span
    from airflow_kinesis_snowflake.engine.intake import Acquisition
    from airflow_kinesis_snowflake.engine.settings import DrainSettings

REASONS_IN_LINE = 5
SHARDS_IN_LINE = 8
SUMMED = (
    "records",
    "bytes",
    "batches",
    "dead_letters",
    "takeovers",
    "fenced",
    "lost_leases",
    "rejected_rows",
    "snowflake_connections",
)

MAX_REASONS = 20
OTHER_REASONS = "other reasons"


@dataclass
class ShardReport:
    """What one drain did to one shard.

    :param records: user records committed, dead letters included
    :param bytes: their payload bytes
    :param checkpoint: last sequence number that is committed, if any
    :param millis_behind_latest: lag at the last page, ``None`` when no page was read
    :param outcome: ``caught_up``, ``ended``, ``limit``, ``handed_over``, ``lost`` or ``failed``
    """

    records: int = 0
    bytes: int = 0
    dead_letters: int = 0
    checkpoint: str | None = None
    millis_behind_latest: int | None = None
    outcome: str = "limit"


@dataclass
class DrainReport:
    """What one drain did; :meth:`as_dict` is the operator's XCom.

    ``records`` counts everything committed: rows in the landing table and dead letters. ``dropped`` counts
    records that by the rules of their format hold no data, by what they were: control messages, heartbeats,
    tombstones; they are in ``bytes``, not in ``records``. ``gaps`` lists records that may have aged out
    unread. ``reasons`` counts dead letters by reason; beyond 20, the others are counted as one.
    ``held_by_others`` tells how many unread shards each other owner had leased when this worker last looked.
    ``rejected_rows`` counts streamed rows that Snowflake rejected. ``stream_arn`` is known once the stream
    has answered.
    """

    stream_name: str
    application_name: str
    table: str
    worker: str
    stream_arn: str | None = None
    records: int = 0
    bytes: int = 0
    batches: int = 0
    dead_letters: int = 0
    takeovers: int = 0
    fenced: int = 0
    lost_leases: int = 0
    rejected_rows: int = 0
    snowflake_connections: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    gaps: list[dict[str, str | None]] = field(default_factory=list)
    held_by_others: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    shards: dict[str, ShardReport] = field(default_factory=dict)

    def count(self, span: Span) -> None:
        """Add what a committed batch holds of one shard."""
        shard = self.shards[span.shard_id]
        for total in (self, shard):
            total.records += span.records
            total.bytes += span.bytes
            total.dead_letters += span.dead_letters
        for reason, count in span.reasons.items():
            told = reason if reason in self.reasons or len(self.reasons) < MAX_REASONS else OTHER_REASONS
            self.reasons[told] = self.reasons.get(told, 0) + count
        for what, count in span.dropped.items():
            self.dropped[what] = self.dropped.get(what, 0) + count
        shard.checkpoint = span.reached.sequence_number

    @property
    def millis_behind_latest(self) -> int:
        """The largest lag of all shards that were read, in milliseconds; 0 when none was."""
        return max((shard.millis_behind_latest or 0 for shard in self.shards.values()), default=0)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        return {**asdict(self), "millis_behind_latest": self.millis_behind_latest}


def totals(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reports of several workers, added up; the lag is that of the shard furthest behind."""
    summed: dict[str, Any] = {name: sum(report[name] for report in reports) for name in SUMMED}
    dropped: Counter[str] = sum((Counter(report["dropped"]) for report in reports), Counter())
    return summed | {
        "dropped": dict(dropped),
        "millis_behind_latest": max((report["millis_behind_latest"] for report in reports), default=0),
        "shards": len({shard_id for report in reports for shard_id in report["shards"]}),
        "workers": sum(report["records"] > 0 for report in reports),
    }


def beginning(
    settings: DrainSettings, report: DrainReport, acquisition: Acquisition, *, is_new: bool, sink: str
) -> str:
    """One line for the start of a drain: from where, until when, which shards, and into what.

    :param acquisition: the result of the first look at the state
    :param is_new: this drain has created the application's table
    :param sink: how rows get there
    """
    start = f"new, from {settings.initial_position}" if is_new else "known, from its checkpoints"
    return (
        f"Draining {report.stream_arn} into {report.table} by {sink}, until "
        f"{settings.stop_at:%Y-%m-%d %H:%M:%S %Z}. Application {settings.application_name} is {start} on. "
        f"{acquisition.listed} shards are listed, "
        f"{sum(acquisition.held_by_others.values())} leased by others, "
        f"{len(acquisition.taken)} by this worker{_named(acquisition)}"
    )


def _named(acquisition: Acquisition) -> str:
    ids = [short(shard_id) for shard_id in acquisition.taken]
    if not ids:
        return ""
    more = len(ids) - SHARDS_IN_LINE
    return f": {', '.join(ids[:SHARDS_IN_LINE])}{f' and {more} more' if more > 0 else ''}"


def dead_letters(batch: Batch, *, stream_name: str) -> str:
    """One line for the records of a batch that couldn't be loaded: how many, and why, most frequent first."""
    shown = batch.reasons.most_common(REASONS_IN_LINE)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in shown)
    more = batch.refused - sum(count for _, count in shown)
    return (
        f"{batch.refused} records of stream {stream_name} became dead letters, in batch {batch.id}: {reasons}"
        f"{f' and {more} for other reasons' if more else ''}"
    )


def summary(report: DrainReport) -> str:
    """One line for the end of a drain."""
    left = sum(report.held_by_others.values())
    if left:
        owners = ", ".join(f"{owner} ({count})" for owner, count in report.held_by_others.items())
        return f"{_summary_of_own(report)}; {left} shards were left to others that have leased them: {owners}"
    return _summary_of_own(report)


def _summary_of_own(report: DrainReport) -> str:
    if report.records == 0:
        opened = (
            "no Snowflake connection was opened" if report.snowflake_connections == 0 else "nothing loaded"
        )
        nothing_new = " in the free shards" if report.held_by_others else ""
        return (
            f"Stream {report.stream_name} has nothing new{nothing_new} for {report.application_name}: "
            f"{len(report.shards)} shards checked in {report.seconds:.1f} s, {opened}{_dropped(report)}"
        )
    return (
        f"Loaded {report.records - report.dead_letters} records and {report.dead_letters} dead letters "
        f"({megabytes(report.bytes)}) of stream {report.stream_name} into {report.table} in {report.batches} "
        f"batches and {report.seconds:.1f} s; {len(report.shards)} shards, "
        f"{report.millis_behind_latest / 1000:.1f} s behind{_dropped(report)}"
    )


def _dropped(report: DrainReport) -> str:
    if not report.dropped:
        return ""
    counts = ", ".join(f"{what} ({count})" for what, count in sorted(report.dropped.items()))
    return f"; dropped, because they hold no data: {counts}"


def short(shard_id: str) -> str:
    """A shard id without the common prefix."""
    return shard_id.removeprefix("shardId-").lstrip("0") or "0"


def megabytes(count: float) -> str:
    """Bytes in human-readable form."""
    return f"{count / 1_000_000:.1f} MB"
