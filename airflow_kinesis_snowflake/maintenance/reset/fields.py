"""The fields that methods take, whoever asks for them: operator, command line, form or page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FieldKind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    LIST = "list"
    SWITCH = "switch"


@dataclass(frozen=True, kw_only=True)
class RequestField:
    """A field of :class:`ResetRequest` that some methods take.

    :param name: in the request, in the forms and as parameter of ``PlanStateResetOperator``
    :param title: its label in forms
    :param flag: its option on the command line
    :param of_drain: the drain has the setting too, so that it is always filled in; methods that don't take
        the field ignore it
    """

    name: str
    title: str
    flag: str
    kind: FieldKind = FieldKind.TEXT
    of_drain: bool = False


FIELDS = (
    RequestField(name="position", title="Position", flag="--position"),
    RequestField(name="shards", title="Shards", flag="--shard", kind=FieldKind.LIST),
    RequestField(name="new_application_name", title="New application name", flag="--new-application"),
    RequestField(name="initial_position", title="Initial position", flag="--initial-position", of_drain=True),
    RequestField(
        name="trust_snowflake", title="Trust Snowflake", flag="--trust-snowflake", kind=FieldKind.SWITCH
    ),
)
"""In the order in which forms show them."""
