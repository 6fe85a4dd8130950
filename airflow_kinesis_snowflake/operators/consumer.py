"""Stops the drains of an application, and starts them again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError
from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.maintenance import StateOperator
from airflow_kinesis_snowflake.operators.settings import (
    TEXT,
    TRUTH,
    CheckedSettings,
    SettingType,
    as_written,
    number,
    optional,
)
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

LOOK_AGAIN_SECONDS = 2.0


class StopConsumerOperator(StateOperator):
    """Pauses the drain's DAG, and waits until its runs and the leases of the application have ended.

    A task can pause a DAG only through Airflow's REST API. Without a connection to it, the DAG isn't paused;
    the operator then waits for a moment without runs and leases, and later steps rely on leases alone.

    :param drain_dag_id: the DAG whose runs read the stream; empty: only leases count (templated)
    :param airflow_conn_id: connection to Airflow's API, as
        :class:`~airflow_kinesis_snowflake.hooks.airflow_api.AirflowApiHook` takes it; empty: don't pause
        (templated)
    :param timeout_seconds: how long to wait
    :param force: don't wait (templated)
    :return: ``paused``: whether the DAG was paused by this task, as XCom
    :raises AirflowFailException: something is still running after that time; the DAG is then unpaused
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "drain_dag_id": optional(TEXT),
        "airflow_conn_id": optional(TEXT),
        "timeout_seconds": as_written(number(minimum=0)),
        "force": TRUTH,
    }

    def __init__(
        self,
        *,
        drain_dag_id: str = "",
        airflow_conn_id: str = "",
        timeout_seconds: float = 600,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.drain_dag_id = drain_dag_id
        self.airflow_conn_id = airflow_conn_id
        self.timeout_seconds = timeout_seconds
        self.force = force
        self.check_settings()

    def work(self, context: Context) -> dict[str, bool]:
        """Stop, and wait."""
        paused = self._pause()
        try:
            if not self.setting("force"):
                self._wait(context)
        except MaintenanceRefusedError:
            if paused:
                self._unpause()
            raise
        return {"paused": paused}

    def _pause(self) -> bool:
        conn_id, dag_id = self.setting("airflow_conn_id"), self.setting("drain_dag_id")
        if not (conn_id and dag_id):
            self.log.info("No connection to Airflow's API was given, so no DAG is paused")
            return False
        from airflow_kinesis_snowflake.hooks.airflow_api import AirflowApiHook

        api = AirflowApiHook(conn_id)
        if api.is_paused(dag_id):
            return False
        api.set_paused(dag_id, True)
        self.log.info("DAG %s is paused", dag_id)
        return True

    def _unpause(self) -> None:
        from airflow_kinesis_snowflake.hooks.airflow_api import AirflowApiHook

        AirflowApiHook(self.airflow_conn_id).set_paused(self.drain_dag_id, False)

    def _wait(self, context: Context) -> None:
        timeout = self.setting("timeout_seconds")
        deadline = time.monotonic() + timeout
        while busy := self._busy(context):
            if time.monotonic() > deadline:
                raise MaintenanceRefusedError(
                    f"Stop what reads application {self.application_name}, or use force: after {timeout:g} "
                    f"seconds, {busy}. Nothing was changed."
                )
            time.sleep(LOOK_AGAIN_SECONDS)

    def _busy(self, context: Context) -> str:
        if dag_id := self.setting("drain_dag_id"):
            runs = context["ti"].get_dr_count(dag_id, states=["running"])
            if runs:
                return f"DAG {dag_id} has {runs} runs"
        from airflow_kinesis_snowflake.maintenance.inspection import inspect_state

        leased = inspect_state(self.store, self.kinesis, now=now_millis()).leased
        return ", ".join(f"{shard.lease_owner} has {shard.shard_id}" for shard in leased)


class StartConsumerOperator(CheckedSettings, BaseOperator):
    """Unpauses the drain's DAG, if :class:`StopConsumerOperator` paused it.

    :param paused: what that operator returned (templated)
    :param drain_dag_id: the DAG (templated)
    :param airflow_conn_id: connection to Airflow's API (templated)
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "paused": TRUTH,
        "drain_dag_id": optional(TEXT),
        "airflow_conn_id": optional(TEXT),
    }
    ui_color = StateOperator.ui_color

    def __init__(self, *, paused: bool | str, drain_dag_id: str, airflow_conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.paused = paused
        self.drain_dag_id = drain_dag_id
        self.airflow_conn_id = airflow_conn_id
        self.check_settings()

    def execute(self, context: Context) -> None:
        """Unpause."""
        from airflow_kinesis_snowflake.hooks.airflow_api import AirflowApiHook

        with no_retry_of_terminal_errors():
            given = self.read_settings()
            if given["paused"]:
                AirflowApiHook(given["airflow_conn_id"]).set_paused(given["drain_dag_id"], False)
                self.log.info("DAG %s is unpaused", given["drain_dag_id"])
