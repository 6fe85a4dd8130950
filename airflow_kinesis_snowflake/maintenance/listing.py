"""The applications that have state in an account and region, and how far they have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.maintenance.cleanup.rules import TableKind
from airflow_kinesis_snowflake.maintenance.cleanup.tables import look_into, stream_of, unseen_text
from airflow_kinesis_snowflake.maintenance.inspection import inspect_table
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.words import ago, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection


@dataclass(frozen=True, kw_only=True)
class ApplicationView:
    """A summary of an application's state on a stream. Times are milliseconds since the epoch.

    :param stream: None: the table has no row
    :param shards: with a row
    :param ended: those of them that were read to their end
    :param leased: those of them that are being read at this moment
    :param workers: those that gave a sign of life
    :param millis_behind: the greatest lag of a shard when it was last read; None: no row says
    :param last_update: when a row was last written
    :param findings: how many problems its rows show; ``show`` names them, and asks Kinesis too
    """

    application: str
    stream: str | None
    shards: int = 0
    ended: int = 0
    leased: int = 0
    workers: int = 0
    millis_behind: int | None = None
    last_update: int | None = None
    findings: int = 0


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The applications of an account and region.

    :param at: when it was made, in milliseconds since the epoch
    :param unseen: tables that the role may not look into; they may belong to applications too
    """

    at: int
    applications: tuple[ApplicationView, ...]
    unseen: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The listing as JSON takes it."""
        return as_json(self)


def list_applications(
    tables: DynamoDBTablesHook, *, open_store: Callable[[str], CheckpointStoreHook], now: int
) -> Listing:
    """Find the tables of applications by their keys, whoever created them, and read their rows.

    Changes nothing.

    :param open_store: the state of an application
    :param now: milliseconds since the epoch
    """
    looks = [look_into(tables, name) for name in tables.names()]
    found = [look for look in looks if look is not None and not isinstance(look, str)]
    views = [
        view
        for each in found
        if each.kind is TableKind.CHECKPOINTS
        for view in _views(open_store(each.application), {stream_of(item) for item in each.items}, now=now)
    ]
    return Listing(
        at=now,
        applications=tuple(sorted(views, key=lambda view: (view.application, view.stream or ""))),
        unseen=tuple(sorted(look for look in looks if isinstance(look, str))),
    )


def listing_parts(listing: Listing) -> list[Part]:
    """The listing for people to read."""
    heads = ("application", "stream", "shards", "leased", "workers", "lag", "updated", "findings")
    rows = [
        (
            view.application,
            view.stream or "",
            f"{view.shards - view.ended:,}",
            f"{view.leased:,}",
            f"{view.workers:,}",
            duration(view.millis_behind),
            ago(view.last_update, listing.at),
            f"{view.findings:,}" if view.findings else "",
        )
        for view in listing.applications
    ]
    nothing = "No application has a table in this account and region."
    return [Table.of(heads, rows) if rows else nothing, unseen_text(listing.unseen)]


def _views(store: CheckpointStoreHook, streams: set[str | None], *, now: int) -> list[ApplicationView]:
    if not streams:
        return [ApplicationView(application=store.application_name, stream=None)]
    return [_view(inspect_table(store, stream, now=now)) for stream in streams if stream is not None]


def _view(inspection: Inspection) -> ApplicationView:
    shards = inspection.shards
    return ApplicationView(
        application=inspection.application,
        stream=inspection.stream,
        shards=len(shards),
        ended=sum(shard.ended for shard in shards),
        leased=len(inspection.leased),
        workers=len(inspection.workers),
        millis_behind=max(
            (shard.millis_behind for shard in shards if shard.millis_behind is not None and not shard.ended),
            default=None,
        ),
        last_update=max(
            (shard.last_update for shard in shards if shard.last_update is not None), default=None
        ),
        findings=len(inspection.findings),
    )
