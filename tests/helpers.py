"""What many tests do in one typed place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import snowflake.connector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from snowflake.connector.cursor import SnowflakeCursorBase

# From version 5 on it tells of no second try of a request, and each transaction has a session of its own.
CONNECTOR_TELLS_OF_TRIES = int(snowflake.connector.__version__.partition(".")[0]) < 5


def context_of(task_instance: object = None, **values: Any) -> Context:
    """The context of a task, as far as an operator looks at it.

    :param task_instance: has what the operator uses of one
    """
    return cast("Context", {"ti": task_instance, **values})


def fetch(cursor: SnowflakeCursorBase[Any], sql: str, parameters: Sequence[Any] | None = None) -> list[Any]:
    """All rows that a statement gives."""
    cursor.execute(sql, parameters)
    return list(cursor.fetchall())
