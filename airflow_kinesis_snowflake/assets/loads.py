"""What a drain announces to DAGs that wait for its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from airflow_kinesis_snowflake.assets.kinesis_stream import uri_of_arn
from airflow_kinesis_snowflake.engine.settings import number_of_try
from airflow_kinesis_snowflake.identifiers import TableName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.engine.report import DrainReport

# The table of a task is known only when it runs, so the outlet in a DAG file stands for whatever is loaded.
LOADED = AssetAlias("kinesis_to_snowflake")
TOLD = ("records", "bytes", "batches", "dead_letters", "millis_behind_latest")


def table_uri(account: str, table: TableName) -> str:
    """The URI of a landing table, as newer Snowflake providers build it.

    :param account: as the Snowflake connection names it
    """
    return f"snowflake://{account}/{table.database}/{table.schema}/{table.name}"


def assets_of(report: DrainReport, *, account: str | None) -> dict[str, str]:
    """The URIs of the ``stream`` and the ``table`` of a drain, as far as they are known.

    :param account: as the Snowflake connection names it
    """
    assets = {}
    if report.stream_arn:
        assets["stream"] = uri_of_arn(report.stream_arn)
    if account:
        assets["table"] = table_uri(account, TableName.parse(report.table))
    return assets


def changed(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the table may have changed since the last event.

    A retry doesn't know what the previous try loaded, which sent no event because it failed.
    """
    return any(
        report["records"] > 0 or number_of_try(report["worker"].rpartition("#")[2]) > 1 for report in reports
    )


def tell_consumers(
    outlet_events: Any, *, reports: Sequence[Mapping[str, Any]], totals: Mapping[str, Any]
) -> None:
    """Add an event of the landing table, with the totals as its extra; none if nothing changed.

    :param outlet_events: of the task's context; the task has :data:`LOADED` as an outlet
    :param reports: of the workers, as XCom has them
    :param totals: of all workers
    """
    uris = {report["assets"]["table"] for report in reports if "table" in report["assets"]}
    if not changed(reports):
        return
    extra = {name: totals[name] for name in TOLD} | {
        "stream_name": reports[0]["stream_name"],
        "stream_arn": reports[0]["stream_arn"],
        "application_name": reports[0]["application_name"],
    }
    for uri in sorted(uris):
        outlet_events[LOADED].add(Asset(uri=uri), extra=extra)
