"""Changes of database rows, by whatever captured them, and the documents that they land as.

The document is the row, its values at the first level, so that ``mapping="columns"`` makes columns of them.
Facts about the change are beside them, under names that begin with two underscores.

================= ======================================================================================
``__operation``   ``insert``, ``update``, ``delete``, or ``read`` for rows that were there before (a
                  snapshot, a full load)
``__key``         the primary key, if it is known: an object, or text from DMS, which doesn't name its
                  parts
``__before``      the row before the change, or as much of it as was captured
``__time``        when the source committed it, in UTC
``__order``       text that sorts changes in the order of the source, if it is known; changes of a key in
                  which it is equal are in the order of ``KINESISMETADATA``
``__table``       the table, with what qualifies it
``__transaction`` of the source
``__source``      what else came with the change, as it came
================= ======================================================================================

A deleted row has the values that are known of it: those before the change, or else those of the key.

These names are kept for the facts, in upper or lower case: a row with a column of such a name is refused,
because its value could pass for a fact that isn't known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError

INSERT, UPDATE, DELETE, READ = "insert", "update", "delete", "read"

Values: TypeAlias = Mapping[str, Any]
"""A row: by column, what msgspec can encode; values that nothing inspects are ``msgspec.Raw``."""

_FACTS = {
    f"__{fact}".upper(): f"__{fact}"
    for fact in ("operation", "key", "before", "time", "order", "table", "transaction", "source")
}
_DIGITS = 20

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of one row.

    :param operation: ``insert``, ``update``, ``delete`` or ``read``
    :param key: the primary key
    :param before: the row before it
    :param after: the row after it; ``None`` for a delete
    :param order: sorts the changes of a key
    :param time: when it was committed at the source: ISO 8601
    :param table: the table
    :param transaction: of the source
    :param source: what else is known
    """

    operation: str
    key: Values | str | None = None
    before: Values | None = None
    after: Values | None = None
    order: str | None = None
    time: str | None = None
    table: str | None = None
    transaction: Any = None
    source: Any = None

    def document(self) -> bytes:
        """The change as JSON text.

        :raises UndecodableError: the row has a column of a name that is kept for a fact
        """
        row: dict[str, Any] = {}
        if self.after is not None:
            row.update(self.after)
        else:
            row.update(self.key if isinstance(self.key, Mapping) else {})
            row.update(self.before or {})
        _check_names(row)
        beside = {
            "__operation": self.operation,
            "__key": self.key,
            "__before": self.before,
            "__time": self.time,
            "__order": self.order,
            "__table": self.table,
            "__transaction": self.transaction,
            "__source": self.source,
        }
        row.update({name: value for name, value in beside.items() if value is not None})
        return _encode(row)


def _check_names(row: Values) -> None:
    for name in row:
        # mapping="columns" takes keys whatever their case.
        if fact := _FACTS.get(name.upper()):
            raise UndecodableError(
                f"a row with a column named {fact}, which is kept for a fact about its change"
            )


def sortable(*numbers: int | None) -> str:
    """Text that sorts like a tuple of numbers of up to 20 digits; ``None`` counts as 0.

    :raises UndecodableError: a number has more digits
    """
    return ".".join(_sortable(number or 0) for number in numbers)


def _sortable(number: int) -> str:
    beyond = 10**_DIGITS
    if abs(number) >= beyond:
        raise UndecodableError(f"a time or position of more than {_DIGITS} digits")
    # "-" is before all digits; the complement of a lesser number is less.
    return f"{number:0{_DIGITS}d}" if number >= 0 else f"-{beyond + number:0{_DIGITS}d}"
