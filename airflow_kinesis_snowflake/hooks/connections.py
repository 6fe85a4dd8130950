"""What an Airflow connection must be, before anything is done with it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Callable


def find_connection(get: Callable[[str], Any], conn_id: str, *, conn_type: str, otherwise: str = "") -> Any:
    """An Airflow connection of a type, whose extra can be read.

    :param get: asks Airflow for it, as ``BaseHook.get_connection`` does
    :param otherwise: what else to do where there is none, as the end of a sentence
    :raises InvalidSettingError: there is none, it is of another type, or it is malformed
    """
    try:
        connection = get(conn_id)
    except AirflowNotFoundException:
        raise InvalidSettingError(_missing(conn_id, conn_type, otherwise)) from None
    if connection.conn_type != conn_type:
        raise InvalidSettingError(
            f"Set the type of the Airflow connection {conn_id!r} to {conn_type}: it is {connection.conn_type}"
        )
    if not _is_object(connection.extra):
        raise InvalidSettingError(_odd_extra(conn_id))
    return connection


def _missing(conn_id: str, conn_type: str, otherwise: str) -> str:
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    written = os.environ.get(variable)
    if written is None:
        return f"Create the Airflow connection {conn_id!r} of type {conn_type}{otherwise}: there is none"
    # Airflow goes on to look elsewhere when it can't read one; older ones can't if its extra is odd.
    if not _is_object(_written_extra(written)):
        return _odd_extra(conn_id)
    return (
        f"Correct the environment variable {variable}: it defines the Airflow connection {conn_id!r}, "
        "and is neither JSON of one nor a URI"
    )


def _written_extra(connection: str) -> Any:
    """The extra of a connection that is written as JSON."""
    try:
        written = json.loads(connection)
    except ValueError:
        return None
    return written.get("extra") if isinstance(written, dict) else None


def _odd_extra(conn_id: str) -> str:
    return f"Correct the extra of the Airflow connection {conn_id!r}: it must be a JSON object"


def _is_object(extra: Any) -> bool:
    if not extra or isinstance(extra, dict):
        return True
    try:
        return isinstance(json.loads(extra), dict)
    except (TypeError, ValueError):
        return False
