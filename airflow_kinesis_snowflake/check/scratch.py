"""Names of what a check creates and removes, and the statements that do so.

A name shows that it belongs to a check, and when it was created. So the next check can remove what a killed
one left behind, without touching what may still be in use.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.identifiers import quote
from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "KINESIS_CHECK_"
"""The prefix of every name: of the schema in Snowflake, and of the table in DynamoDB."""

LEFT_AFTER = timedelta(hours=2)
"""The age beyond which no check uses something any more; the longest takes half an hour."""

_MOMENT = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(rf"{PREFIX}(\d{{8}}T\d{{6}}Z)_[0-9A-F]{{8}}")


def scratch_name(now: datetime, unique: str) -> str:
    """A name for what is created now, valid in both Snowflake and DynamoDB.

    :param now: aware
    :param unique: eight hexadecimal digits in upper case
    """
    return f"{PREFIX}{now.astimezone(UTC):{_MOMENT}}_{unique}"


def leftovers(names: Iterable[str], *, now: datetime, after: timedelta) -> list[str]:
    """The names that a check gave long ago.

    Ages come from the name and this machine's clock, so two machines whose clocks differ by more than
    ``after`` would take each other's names for abandoned.

    :param now: aware
    :param after: age beyond which something counts as left behind
    """
    return [name for name in names if (moment := _moment_of(name)) and now - moment > after]


def _moment_of(name: str) -> datetime | None:
    match = _NAME.fullmatch(name)
    try:
        return datetime.strptime(match[1], _MOMENT).replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def create_schema(database: str, schema: str) -> Statement:
    """A schema whose tables can't be restored once they are dropped."""
    return Statement(
        f"CREATE TRANSIENT SCHEMA {quote(database)}.{quote(schema)} DATA_RETENTION_TIME_IN_DAYS = 0 "
        "COMMENT = 'Created by a check of airflow-kinesis-snowflake; may be dropped once it is a few "
        "hours old'"
    )


def drop_schema(database: str, schema: str) -> Statement:
    """Remove a schema with everything in it."""
    return Statement(f"DROP SCHEMA IF EXISTS {quote(database)}.{quote(schema)} CASCADE")


def list_schemas(database: str) -> Statement:
    """Schemas of a database that may belong to a check; ``name`` is the second column."""
    return Statement(f"SHOW TERSE SCHEMAS LIKE %s IN DATABASE {quote(database)}", (f"{PREFIX}%",))
