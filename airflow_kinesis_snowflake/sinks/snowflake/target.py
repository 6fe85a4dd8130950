"""Where an application lands its records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.sinks.snowflake.table_options import PLAIN, TableOptions

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.identifiers import TableName


@dataclass(frozen=True)
class LandingTarget:
    """The four Snowflake objects of one landing table.

    :param table: landing table
    :param offsets: offsets table; landing tables of one schema may share it
    :param dead_letters: dead-letter table; may be shared too
    :param stage: internal stage for the files; may be shared too, as each batch has a folder of its own
    :param options: how the landing table is created if it is missing
    :raises InvalidSettingError: the landing table has the name of one of the others
    """

    table: TableName
    offsets: TableName
    dead_letters: TableName
    stage: TableName
    options: TableOptions = PLAIN

    def __post_init__(self) -> None:
        if self.table in (self.offsets, self.dead_letters):
            raise InvalidSettingError(
                f"land records in another table: {self.table} is one that drains keep for themselves"
            )

    @classmethod
    def beside(cls, table: TableName, options: TableOptions = PLAIN) -> LandingTarget:
        """The target with the default names, all in the schema of the landing table."""
        return cls(
            table=table,
            offsets=table.beside("KINESIS_OFFSETS"),
            dead_letters=table.beside("KINESIS_DEAD_LETTERS"),
            stage=table.beside("KINESIS_STAGE"),
            options=options,
        )
