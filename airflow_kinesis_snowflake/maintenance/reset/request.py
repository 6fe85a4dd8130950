"""What is asked of a reset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.reset.fields import FIELDS
from airflow_kinesis_snowflake.maintenance.reset.registry import find_method, takers_of


@dataclass(frozen=True, kw_only=True)
class ResetRequest:
    """What is asked of a reset, checked when it is made.

    What the fields from ``shards`` to ``trust_snowflake`` mean is up to the method; see its module.

    :param application: whose state
    :param stream: on which stream
    :param method: name of one of the :data:`~airflow_kinesis_snowflake.maintenance.reset.registry.METHODS`
    :param initial_position: where the next drain starts a new application; ignored by methods that don't take
        it
    :param force: take leases away from workers that may still be reading
    :raises InvalidSettingError: no such method, or a field that is missing, out of place or can't be meant
    """

    application: str
    stream: str
    method: str
    shards: tuple[str, ...] = ()
    position: str | None = None
    new_application_name: str | None = None
    initial_position: str = "TRIM_HORIZON"
    trust_snowflake: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        method = find_method(self.method)
        taken = {field.name: field for field in method.fields}
        for field in FIELDS:
            given = self.field(field.name)
            if given and field.name not in taken and not field.of_drain:
                takers = " and ".join(takers_of(field.name)) or "no method"
                raise InvalidSettingError(
                    f"leave out {field.name}: it is for {takers}, not for {self.method}"
                )
            if field.name in taken and taken[field.name].required and not given:
                raise InvalidSettingError(
                    f"give {field.name}, which the method {self.method} needs: {taken[field.name].help}"
                )
        method.check(self)

    def field(self, name: str) -> Any:
        """The value of one of the :data:`~airflow_kinesis_snowflake.maintenance.reset.fields.FIELDS`."""
        return getattr(self, name)
