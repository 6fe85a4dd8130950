"""The ways to reset the state of an application, as operator, command line and forms name them."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """A way to reset the state of an application."""

    REWIND = "rewind"
    DELETE_TABLE = "delete_table"
    RENAME = "rename"
    RECOVER = "recover"

    @property
    def does(self) -> str:
        """What it does, in a few words."""
        return _DOES[self]


_DOES = {
    Method.REWIND: "set shards to a position",
    Method.DELETE_TABLE: "forget everything; start at the initial position",
    Method.RENAME: "start under a new name; the table stays",
    Method.RECOVER: "rebuild the table from what Snowflake has",
}
