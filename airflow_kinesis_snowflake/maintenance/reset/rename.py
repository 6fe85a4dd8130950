"""``rename``: the application starts again under a new name, and its table stays as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import AccessDeniedError, InvalidSettingError
from airflow_kinesis_snowflake.maintenance.iam import drain_policy_text
from airflow_kinesis_snowflake.maintenance.reset.method import MethodField, refuse
from airflow_kinesis_snowflake.maintenance.reset.new_start import INITIAL_POSITION, NewStart

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.apply import ResetRun
    from airflow_kinesis_snowflake.maintenance.reset.method import OpenStore
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest

_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")


class Rename(NewStart):
    """Makes a table of a new name and lets the drain use it; the old table can be gone back to."""

    name = "rename"
    summary = "start under a new name; the table stays"
    fields = (
        MethodField(
            "new_application_name", "the name that the drain works under from then on", required=True
        ),
        INITIAL_POSITION,
    )

    def check(self, request: ResetRequest) -> None:
        """The new name must be one that DynamoDB takes, and not the present one."""
        name = request.new_application_name or ""
        if not _NAME.fullmatch(name):
            raise InvalidSettingError(
                f"give 3 to 255 letters, digits, '_', '.' or '-' as the new application name: {name!r} can't "
                "name a table"
            )
        if name == request.application:
            raise InvalidSettingError(f"give another new application name: {name} is the present one")
        super().check(request)

    def intention(self, request: ResetRequest) -> str:
        """Who goes on, and where."""
        return (
            f"the next drain works as {request.new_application_name} and starts at "
            f"{request.initial_position}; the table stays."
        )

    def survey(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        store: CheckpointStoreHook,
        open_store: OpenStore,
    ) -> tuple[str, ...]:
        """Try the access to the new name, and see that it is free.

        :raises MaintenanceRefusedError: the name is in use
        :raises AccessDeniedError: a policy doesn't allow it; the message has the statement that would
        """
        new = open_store(request.new_application_name or "")
        try:
            if new.exists() and new.read_items():
                refuse(request, [f"choose another name: the table {new.application_name} has rows"])
        except AccessDeniedError as error:
            statement = drain_policy_text(application=new.application_name, stream=inspection.stream)
            raise AccessDeniedError(
                f"{error} The policy that names the table {request.application} has to name "
                f"{new.application_name}: {statement}"
            ) from None
        return ()

    def apply(self, run: ResetRun) -> None:
        """Make the new table, and have the drain use it while no worker holds a lease in the old one."""
        name = run.plan.request.new_application_name or ""
        with run.holding(run.read_rows(run.plan.request.stream)):
            new = run.open_store(name)
            new.create_table()
            new.tag({"succeeds": run.store.application_name})
            run.remember(name)
            run.store.tag({"superseded-by": name})

    def unmet(self, plan: ResetPlan, inspection: Inspection) -> list[str]:
        """The old table stays as it is, whatever becomes of it."""
        return []

    def afterwards(self, request: ResetRequest) -> str:
        """Only the user knows where the drain's application name is written."""
        name = request.new_application_name
        return (
            f"Now let the drain use application_name={name}. For the DAG kinesis_to_snowflake: "
            f"airflow variables set kinesis_to_snowflake_application_name {name}"
        )
