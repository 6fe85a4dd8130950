"""How a missing landing table is created."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

NEVER = "never"

_MAX_RETENTION_DAYS = 90
_PRINTABLE = re.compile(r"[^\x00-\x1f]+")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What CREATE TABLE specifies besides the columns; by default, nothing.

    :param create: create what is missing: landing table, offsets table, dead-letter table and stage; the
        other options concern only the landing table
    :param transient: a transient table: no Fail-safe, at most a day of Time Travel
    :param cluster_by: expressions to cluster by, as SQL, for example ``TO_DATE("CREATED_AT")``. They are SQL:
        don't take them from people you wouldn't let write SQL
    :param error_logging: ``ERROR_LOGGING = TRUE``, as Openflow's setup has it
    :param enable_schema_evolution: ``ENABLE_SCHEMA_EVOLUTION = TRUE``, as Openflow's setup has it
    :param comment: replaces the comment that tells where the records come from
    :param data_retention_days: days of Time Travel, 0 to 90; for transient tables 0 or 1
    :param iceberg: an Iceberg table (of version 3, because older ones have no VARIANT) that Snowflake manages
    :param external_volume: of the Iceberg table; by default that of schema, database or account
    :param base_location: folder of the Iceberg table on its volume; by default Snowflake chooses
    :raises InvalidSettingError: the options don't go together
    """

    create: bool = True
    transient: bool = False
    cluster_by: tuple[str, ...] = ()
    error_logging: bool = False
    enable_schema_evolution: bool = False
    comment: str | None = None
    data_retention_days: int | None = None
    iceberg: bool = False
    external_volume: str | None = None
    base_location: str | None = None

    def __post_init__(self) -> None:
        if self.iceberg and self.transient:
            raise InvalidSettingError("leave transient out: an Iceberg table can't be transient")
        if not self.iceberg and (self.external_volume or self.base_location):
            raise InvalidSettingError("set iceberg=True: only Iceberg has external_volume and base_location")
        if not all(map(str.strip, self.cluster_by)):
            raise InvalidSettingError("correct cluster_by: an expression of it is empty")
        longest = 1 if self.transient else _MAX_RETENTION_DAYS
        if self.data_retention_days is not None and not 0 <= self.data_retention_days <= longest:
            raise InvalidSettingError(
                f"data_retention_days must be from 0 to {longest}, not {self.data_retention_days}"
            )

    @classmethod
    def parse(cls, given: Mapping[str, Any] | str | None) -> TableOptions:
        """Read what a user writes: the options by name, or ``never``, or nothing.

        :raises InvalidSettingError: an option is unknown, or not of its type
        """
        if not given:
            return cls()
        if given == NEVER:
            return cls(create=False)
        if isinstance(given, str):
            raise InvalidSettingError(f"create_table must be options or {NEVER!r}, not {given!r}")
        known = {field.name for field in fields(cls)} - {"create"}
        if unknown := sorted(given.keys() - known):
            raise InvalidSettingError(
                f"Choose from {', '.join(sorted(known))}: create_table has no option {', '.join(unknown)}"
            )
        return cls(**{name: _typed(name, value) for name, value in given.items()})


PLAIN = TableOptions()


def _typed(name: str, value: Any) -> Any:
    if name == "cluster_by":
        value = (value,) if isinstance(value, str) else value
        right = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    elif name == "data_retention_days":
        right = value is None or type(value) is int
    elif name in ("comment", "external_volume", "base_location"):
        right = value is None or (isinstance(value, str) and _PRINTABLE.fullmatch(value) is not None)
    else:
        right = isinstance(value, bool)
    if not right:
        raise InvalidSettingError(f"Correct {name} of create_table: it can't be {value!r}")
    return tuple(value) if isinstance(value, list) else value
