"""Airflow's own REST API, for what a task can't do through the task SDK."""

from __future__ import annotations

from typing import Any

import requests
from airflow.sdk import BaseHook

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

_TIMEOUT_SECONDS = 30
_PAGE = 100
MANY_STREAMS = "KinesisStreamsToSnowflakeOperator"
DRAIN_OPERATORS = ("KinesisToSnowflakeOperator", MANY_STREAMS)


class AirflowApiHook(BaseHook):
    """Pauses and unpauses DAGs, and finds out what their tasks worked on.

    :param airflow_conn_id: a connection with the ``host`` of the API server (such as
        ``https://airflow.example.com``), and the ``login`` and ``password`` of a user that may edit the DAG;
        or, in place of these two, a token as ``token`` in the extra
    """

    def __init__(self, airflow_conn_id: str) -> None:
        super().__init__()
        self.airflow_conn_id = airflow_conn_id

    def is_paused(self, dag_id: str) -> bool:
        """Whether the scheduler makes no runs of a DAG.

        :raises InvalidSettingError: there is no such DAG
        """
        return bool(self._call("GET", f"dags/{dag_id}")["is_paused"])

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Pause or unpause a DAG; runs that have started continue.

        :raises InvalidSettingError: there is no such DAG
        """
        self._call("PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def applications(self) -> set[str]:
        """Names of applications used by drain tasks, as far as Airflow remembers."""
        names: set[str] = set()
        for operator in DRAIN_OPERATORS:
            names |= self._applications(operator)
        return names

    def _applications(self, operator: str) -> set[str]:
        names: set[str] = set()
        offset, total = 0, 1
        while offset < total:
            page = self._call(
                "GET",
                "dags/~/dagRuns/~/taskInstances",
                params={"operator": operator, "limit": _PAGE, "offset": offset},
            )
            fields = [task.get("rendered_fields") or {} for task in page["task_instances"]]
            names |= {str(field["application_name"]) for field in fields if field.get("application_name")}
            offset, total = offset + _PAGE, page["total_entries"]
        return names

    def _call(self, method: str, path: str, **request: Any) -> Any:
        connection = self.get_connection(self.airflow_conn_id)
        url = _url(connection)
        try:
            token = connection.extra_dejson.get("token") or _log_in(url, connection)
            answer = requests.request(
                method,
                f"{url}/api/v2/{path}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=_TIMEOUT_SECONDS,
                **request,
            )
        except requests.ConnectionError as error:
            raise ServiceUnavailableError(f"Try again: Airflow's API at {url} can't be reached.") from error
        if answer.status_code == 404:
            raise InvalidSettingError(f"Check the name of the drain's DAG: Airflow has no {path}.")
        _check(answer, f"{method} {path}")
        return answer.json()


def _url(connection: Any) -> str:
    if not connection.host:
        raise InvalidSettingError(
            "Set the address of Airflow's API server as the host of the Airflow connection "
            f"{connection.conn_id!r}: it is empty"
        )
    if "://" in connection.host:
        return str(connection.host).rstrip("/")
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'https'}://{connection.host}{port}"


def _log_in(url: str, connection: Any) -> str:
    answer = requests.post(
        f"{url}/auth/token",
        json={"username": connection.login, "password": connection.password},
        timeout=_TIMEOUT_SECONDS,
    )
    _check(answer, "the login")
    return str(answer.json()["access_token"])


def _check(answer: requests.Response, what: str) -> None:
    if answer.status_code in {401, 403}:
        raise AccessDeniedError(f"Check the connection's user and its permissions: Airflow refuses {what}.")
    if answer.status_code >= 500:
        raise ServiceUnavailableError(f"Try again: Airflow fails at {what} with status {answer.status_code}.")
    if not answer.ok:
        raise ServiceRefusedError(
            f"See the log of Airflow's API server: it refuses {what}, with status {answer.status_code}."
        )
