"""Asks a person before something is changed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.definitions.param import ParamsDict

from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.settings import (
    DURATION,
    TRUTH,
    CheckedSettings,
    SettingType,
    optional,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from airflow.sdk import Context

# Earlier releases of the standard provider take the waiting time from the task's execution timeout.
_WAITS_FOR_RESPONSE = "response_timeout" in inspect.signature(HITLOperator.__init__).parameters


class ApprovePlanOperator(CheckedSettings, ApprovalOperator):
    """Shows a plan to a person and waits; downstream tasks are skipped unless the person approves.

    :param required: False approves everything without a person, for automation (templated)
    :param response_timeout: how long to wait for a person; ``None``: forever
    :param kwargs: as :class:`~airflow.providers.standard.operators.hitl.ApprovalOperator` takes them
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "required": TRUTH,
        "response_timeout": optional(DURATION),
    }

    def __init__(
        self, *, required: bool | str = True, response_timeout: timedelta | None = None, **kwargs: Any
    ) -> None:
        self.setting_types["response_timeout"].read("response_timeout", response_timeout)
        if response_timeout is not None:
            kwargs["response_timeout" if _WAITS_FOR_RESPONSE else "execution_timeout"] = response_timeout
        super().__init__(**kwargs)
        self.params = ParamsDict()
        self.required = required
        self.response_timeout = response_timeout
        self.check_settings()

    def validate_params(self) -> None:
        """Do nothing: the form has no fields.

        Airflow before 3.1.3 takes the DAG's params for the form's fields, which have no values during
        parsing.
        """

    def execute(self, context: Context) -> Any:
        """Ask, unless no approval is required."""
        with no_retry_of_terminal_errors():
            required = self.read_settings()["required"]
        if not required:
            self.log.info("No approval was required")
            return None
        return super().execute(context)
