"""Asking a person before something is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_kinesis_snowflake.operators.rendered import truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class ApprovePlanOperator(ApprovalOperator):
    """Shows a plan to a person and waits; what comes behind it is skipped unless the person approves.

    :param required: False lets everything pass without a person, for automation (templated)
    :param kwargs: as :class:`~airflow.providers.standard.operators.hitl.ApprovalOperator` takes them
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "required")

    def __init__(self, *, required: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.required = required

    def execute(self, context: Context) -> Any:
        """Ask, unless nobody has to be asked."""
        if not truth("required", self.required):
            self.log.info("No approval was asked for")
            return None
        return super().execute(context)
