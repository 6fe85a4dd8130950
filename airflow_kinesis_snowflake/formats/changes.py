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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

INSERT, UPDATE, DELETE, READ = "insert", "update", "delete", "read"

Values: TypeAlias = Mapping[str, Any]
"""A row: by column, what msgspec can encode; values that nothing inspects are ``msgspec.Raw``."""

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
        """The change as JSON text."""
        row: dict[str, Any] = {}
        if self.after is not None:
            row.update(self.after)
        else:
            row.update(self.key if isinstance(self.key, Mapping) else {})
            row.update(self.before or {})
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


def sortable(*numbers: int | None) -> str:
    """Text that sorts like a tuple of numbers of up to 20 digits; ``None`` and negative ones count as 0."""
    return ".".join(f"{0 if number is None else max(0, number):020d}" for number in numbers)
