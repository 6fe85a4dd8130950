"""Numbers of a drain for Airflow's metrics; ``docs/metrics.md`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.operators.compat import Stats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_snowflake.engine.report import DrainReport

PREFIX = "kinesis_snowflake"


def counters(report: DrainReport) -> dict[str, int]:
    """What one drain adds to the counters."""
    return {
        "records": report.records,
        "bytes": report.bytes,
        "batches": report.batches,
        "dead_letters": report.dead_letters,
        "lease_losses": report.lost_leases,
        "fenced_commits": report.fenced,
    }


def send_metrics(report: DrainReport, *, tags: Mapping[str, str]) -> None:
    """Send the numbers of a drain that has ended, well or not.

    Plain StatsD has no tags, so each number goes out twice: under a name with the application and the stream,
    and with them as tags. Lag is sent only when a shard was read: without one it isn't known.

    :param tags: of the task
    """
    all_tags = {**tags, "application": report.application_name, "stream": report.stream_name}
    named = f"{PREFIX}.{report.application_name}.{report.stream_name}"
    for name, value in counters(report).items():
        if value:
            Stats.incr(f"{named}.{name}", value)
            Stats.incr(f"{PREFIX}.{name}", value, tags=all_tags)
    if any(shard.millis_behind_latest is not None for shard in report.shards.values()):
        Stats.gauge(f"{named}.millis_behind_latest", report.millis_behind_latest)
        Stats.gauge(f"{PREFIX}.millis_behind_latest", report.millis_behind_latest, tags=all_tags)
