"""Plans and findings for people, as a log, the Airflow UI and a terminal show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds"))


@dataclass(frozen=True)
class Table:
    """A table. What cells hold from outside breaks neither lines nor columns.

    :param heads: of the columns
    :param rows: a cell for each head
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
        """A table of texts that may come from outside."""
        return cls(tuple(heads), tuple(tuple(map(printable, row)) for row in rows))

    def markdown(self) -> str:
        """As Markdown, its columns aligned so that it can be read as plain text too."""
        lines = [self.heads, *(tuple(cell.replace("|", "\\|") for cell in row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heads))]
        head, *body = (
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )
        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([head, rule, *body])


Part = str | Table
"""A paragraph, in which ``**`` marks what is to stand out, or a table."""


def markdown(parts: Iterable[Part]) -> str:
    """Paragraphs and tables as Markdown, for the log and the Airflow UI; empty ones are left out."""
    return "\n\n".join(part.markdown() if isinstance(part, Table) else part for part in parts if part)


def duration(millis: int | None) -> str:
    """A length of time in its largest unit, such as ``2 hours``; ``None`` gives an empty text."""
    if millis is None:
        return ""
    size, unit = next((each for each in _UNITS if millis >= 2 * each[0]), _UNITS[-1])
    count = millis // size
    return f"{count} {unit if count != 1 else unit[:-1]}"


def ago(time: int | None, now: int) -> str:
    """How long before now a moment was, or how long after.

    :param time: milliseconds since the epoch, as ``now``; None gives an empty text
    """
    if time is None:
        return ""
    distance = abs(now - time)
    if distance < 2 * _UNITS[-1][0]:
        return "just now"
    return f"{duration(distance)} {'ago' if time <= now else 'from now'}"
