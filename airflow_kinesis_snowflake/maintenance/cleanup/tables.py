"""Looking into tables of applications: whose they are, what they hold, and whether anybody uses them."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import AccessDeniedError
from airflow_kinesis_snowflake.maintenance.cleanup.rules import kind_of
from airflow_kinesis_snowflake.state.attributes import is_note
from airflow_kinesis_snowflake.state.items import number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook, TableDetails
    from airflow_kinesis_snowflake.maintenance.cleanup.rules import TableKind

log = logging.getLogger(__name__)

# A worker of the Kinesis Client Library renews its leases several times in this time, one of Redpanda once.
WATCH_SECONDS = 12.0
ALIVE_MILLIS = 120_000
_MAX_SHOWN = 20
_IN_MANY = re.compile(r"\d+:(?P<name>[^:]+):\d+")


@dataclass(frozen=True)
class ApplicationTable:
    """A table of an application, and what is in it."""

    details: TableDetails
    kind: TableKind
    application: str
    items: list[dict[str, Any]]
    tags: Mapping[str, str]


def look_into(tables: DynamoDBTablesHook, name: str) -> ApplicationTable | str | None:
    """Look into a table.

    :return: its name: the role may not look into it; None: it isn't a table of an application
    """
    try:
        details = tables.describe(name)
        kind = None if details is None else kind_of(name, details.keys)
        if details is None or kind is None or details.status != "ACTIVE":
            return None
        return ApplicationTable(details, *kind, items=tables.items(name), tags=tables.tags(details.arn))
    except AccessDeniedError as error:
        log.info("Table %s is left alone: %s", name, error)
        return name


def unseen_text(unseen: Sequence[str]) -> str:
    """What to say about tables that the role may not look into; nothing if there are none."""
    if not unseen:
        return ""
    shown = ", ".join(unseen[:_MAX_SHOWN])
    more = len(unseen) - _MAX_SHOWN
    return (
        f"If some of these tables belong to applications, allow the role dynamodb:DescribeTable, "
        f"ListTagsOfResource and Scan. It may not look into {len(unseen)} tables, so nothing is known about "
        f"them, and they stay: {shown}"
        f"{f' and {more} more' if more > 0 else ''}."
    )


def last_touched(items: Iterable[Mapping[str, Any]]) -> int | None:
    """The time of the latest write that the items of any such table mention."""
    times = [
        time * scale
        for item in items
        for name, scale in (("lastUpdateTimestamp", 1), ("nodeHeartbeat", 1), ("lut", 1000))
        if (time := number_of(item, name)) is not None and time >= 0
    ]
    return max(times, default=None)


def has_live_lease(items: Iterable[Mapping[str, Any]], *, now: int) -> bool:
    """Whether a lease of this package or Openflow hasn't expired, or a worker gave a sign of life lately."""
    return any(
        ("leaseOwner" in item and (number_of(item, "leaseExpiry") or 0) >= now)
        or (number_of(item, "nodeHeartbeat") or 0) >= now - ALIVE_MILLIS
        for item in items
    )


def lease_counters(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Lease counters by lease, which a live worker makes grow."""
    return {
        text_of(item, "leaseKey") or "": text_of(item, "leaseCounter") or ""
        for item in items
        if "leaseOwner" in item and "leaseCounter" in item
    }


def stream_of(item: Mapping[str, Any]) -> str | None:
    """The name of the stream an item is about; None if it doesn't say."""
    held = (item.get(each, {}).get("S") for each in ("streamName", "StreamID"))
    name = next((str(each) for each in held if each is not None), None)
    # The Kinesis Client Library, reading many streams, writes account, name and creation time.
    in_many = _IN_MANY.fullmatch(name or "")
    return in_many["name"] if in_many else name


def named_incarnations(items: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, str, str]]:
    """Stream, shard id and incarnation of state rows, whatever else they hold."""
    return frozenset(
        (
            text_of(item, "streamName") or "",
            text_of(item, "shardId") or "",
            text_of(item, "incarnation") or "",
        )
        for item in items
        if not is_note(text_of(item, "shardId") or "")
    )
