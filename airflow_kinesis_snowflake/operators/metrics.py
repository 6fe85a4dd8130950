"""Figures of a drain and of an application's state for Airflow's metrics; ``docs/metrics.md`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import DataLossError
from airflow_kinesis_snowflake.operators.compat import Stats
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_snowflake.alerts.rules import Gauges
    from airflow_kinesis_snowflake.engine.report import DrainReport

PREFIX = "kinesis_snowflake"
# Figures of an application's state, from :class:`~airflow_kinesis_snowflake.alerts.rules.Gauges`.
GAUGES = ("behind_millis", "retention_percent", "stale_leases", "unread_millis")


def counters(report: DrainReport, error: BaseException | None = None) -> dict[str, int]:
    """What one drain adds to the counters.

    :param error: with which it ended; None: it succeeded
    """
    return {
        "records": report.records,
        "bytes": report.bytes,
        "batches": report.batches,
        "dead_letters": report.dead_letters,
        "lease_losses": report.lost_leases,
        "fenced_commits": report.fenced,
        "rejected_rows": report.rejected_rows,
        "data_losses": len(report.gaps) + isinstance(error, DataLossError),
        "failures": int(error is not None),
    }


def send_metrics(report: DrainReport, *, tags: Mapping[str, str], error: BaseException | None = None) -> None:
    """Send the figures of a drain that has ended, successfully or not.

    Plain StatsD has no tags, so each figure is sent twice: under a name with the application and the stream,
    and with them as tags, together with the stream's ``account`` and ``region``, which its name doesn't
    contain. Lag is sent only if a shard was read: otherwise it isn't known.

    :param tags: of the task
    :param error: with which the drain ended; None: it succeeded
    """
    source, tags = (report.application_name, report.stream_name), {**tags, **tags_of_place(report.stream_arn)}
    for name, value in counters(report, error).items():
        if value:
            Stats.incr(_named(*source, name), value)
            Stats.incr(f"{PREFIX}.{name}", value, tags=_tags(*source, tags))
    if any(shard.millis_behind_latest is not None for shard in report.shards.values()):
        _send_gauge("millis_behind_latest", report.millis_behind_latest, source, tags)


def send_gauges(gauges: Gauges, *, application: str, stream: str, tags: Mapping[str, str]) -> None:
    """Send the known figures of an application's state.

    :param tags: of the task
    """
    for name in GAUGES:
        value = getattr(gauges, name)
        if value is not None:
            _send_gauge(name, value, (application, stream), tags)


def _send_gauge(name: str, value: float, source: tuple[str, str], tags: Mapping[str, str]) -> None:
    Stats.gauge(_named(*source, name), value)
    Stats.gauge(f"{PREFIX}.{name}", value, tags=_tags(*source, tags))


def _named(application: str, stream: str, name: str) -> str:
    return f"{PREFIX}.{application}.{stream}.{name}"


def _tags(application: str, stream: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {**tags, "application": application, "stream": stream}


def tags_of_place(arn: str | None) -> dict[str, str]:
    """What the name of a stream doesn't contain, as tags.

    :param arn: of the stream; ``None``: not known, as for a drain that failed at its start
    """
    stream = StreamRef.parse(arn) if arn else None
    return {} if stream is None else {"account": str(stream.account), "region": str(stream.region)}
