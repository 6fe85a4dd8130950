"""Adds the columns that rows need to the landing table before the rows arrive."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
    from airflow_kinesis_snowflake.formats.fields import FileColumn
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

log = logging.getLogger(__name__)


def evolve(
    session: SnowflakeSession,
    fields: Iterable[FileColumn],
    missing: Collection[str],
    *,
    target: LandingTarget,
    mapping: ColumnsMapping,
) -> None:
    """Add and widen columns, and read the table's columns again; outside transactions, because DDL ends one.

    :param fields: what rows hold
    :param missing: NOT NULL columns that have no value in some of the rows
    """
    mapping.found(session.landing_columns(target))
    changes = mapping.changes(fields, missing)
    for change in changes:
        session.alter_landing_table(target, change)
    if changes:
        log.info("Table %s: %s", target.table, ", ".join(map(str, changes)))
        mapping.found(session.landing_columns(target))
