"""Plans and findings for people to read in a log, in Airflow's UI and on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Table:
    """A table. Text from outside can't break its lines or columns.

    :param heads: of the columns
    :param rows: a cell for each head
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
        """A table whose texts may come from outside."""
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
"""A paragraph, with ``**`` around what is emphasized, or a table."""


def markdown(parts: Iterable[Part]) -> str:
    """Paragraphs and tables as Markdown, for the log and the Airflow UI; empty ones are left out."""
    return "\n\n".join(part.markdown() if isinstance(part, Table) else part for part in parts if part)
