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
        raise InvalidSettingError(
            f"Correct the extra of the Airflow connection {conn_id!r}: it must be a JSON object"
        )
    return connection


def _missing(conn_id: str, conn_type: str, otherwise: str) -> str:
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if variable in os.environ:
        # Airflow goes on to look elsewhere when it can't read one.
        return (
            f"Correct the environment variable {variable}: it defines the Airflow connection {conn_id!r}, "
            "and is neither JSON nor a URI"
        )
    return f"Create the Airflow connection {conn_id!r} of type {conn_type}{otherwise}: there is none"


def _is_object(extra: str | None) -> bool:
    if not extra:
        return True
    try:
        return isinstance(json.loads(extra), dict)
    except ValueError:
        return False
