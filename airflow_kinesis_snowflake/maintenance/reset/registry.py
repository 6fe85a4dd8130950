"""The methods of a reset. Operator, command line, forms and the page offer those that stand here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.reset.delete_table import DeleteTable
from airflow_kinesis_snowflake.maintenance.reset.recover import Recover
from airflow_kinesis_snowflake.maintenance.reset.rename import Rename
from airflow_kinesis_snowflake.maintenance.reset.rewind import Rewind

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.maintenance.reset.method import ResetMethod

METHODS: dict[str, ResetMethod] = {
    method.name: method
    for method in (
        Rewind(),
        DeleteTable(),
        Rename(),
        Recover(),
    )
}
"""By name, in the order in which forms offer them; the first is the one that they begin with."""


def find_method(name: str) -> ResetMethod:
    """The method of a name.

    :raises InvalidSettingError: there is none
    """
    try:
        return METHODS[name]
    except KeyError:
        raise InvalidSettingError(
            f"give one of the methods {', '.join(METHODS)}: there is no method {name!r}"
        ) from None


def default_method() -> str:
    """The method that forms begin with."""
    return next(iter(METHODS))


def summaries() -> str:
    """What each method does, as sentences."""
    return " ".join(f"{name}: {method.summary}." for name, method in METHODS.items())


def takers_of(field: str) -> tuple[str, ...]:
    """The methods that take a field."""
    return tuple(
        name for name, method in METHODS.items() if any(each.name == field for each in method.fields)
    )


def help_of(field: str) -> str:
    """What a field means, as sentences: one for all the methods that it means the same for."""
    meanings: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        for each in method.fields:
            if each.name == field:
                meanings.setdefault(each.help, []).append(name)
    return " ".join(f"For {' and '.join(names)}: {meaning}." for meaning, names in meanings.items())
