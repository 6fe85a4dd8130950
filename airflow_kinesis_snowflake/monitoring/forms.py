"""The fields of the page's forms that the page itself doesn't know: those of the methods of a reset."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_kinesis_snowflake.maintenance.reset.fields import FIELDS, FieldKind
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, help_of, summaries, takers_of


@dataclass(frozen=True, kw_only=True)
class PageField:
    """A field of a form.

    :param name: of the DAG's Param that it fills in
    :param help: what stands below it
    :param options: what it may be, if it is one of some words
    :param when: the methods that it is shown for; empty: it is always shown
    :param list: it takes one name to a line
    :param check: it is on or off
    """

    name: str
    label: str
    help: str
    options: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    list: bool = False
    check: bool = False


def reset_fields() -> tuple[PageField, ...]:
    """The method of a reset, and what the methods need."""
    method = PageField(name="method", label="Method", help=summaries(), options=tuple(METHODS))
    return (
        method,
        *(
            PageField(
                name=field.name,
                label=field.title,
                help=help_of(field.name) + (" One to a line." if field.kind is FieldKind.LIST else ""),
                when=takers_of(field.name),
                list=field.kind is FieldKind.LIST,
                check=field.kind is FieldKind.SWITCH,
            )
            for field in FIELDS
        ),
    )
