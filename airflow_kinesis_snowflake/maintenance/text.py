"""Plans and findings as text that people can read in a log, a terminal or the Airflow UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1_000, "seconds"))


def ago(time: int | None, now: int) -> str:
    """How long before now a moment was, or how long after.

    :param time: milliseconds since the epoch, as ``now``; None gives an empty text
    """
    if time is None:
        return ""
    distance = abs(now - time)
    for size, unit in _UNITS:
        if distance >= 2 * size:
            return f"{distance // size} {unit} {'ago' if time <= now else 'from now'}"
    return "just now"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned so that it can be read as plain text too.

    What cells hold from outside breaks neither lines nor columns.
    """
    lines = [list(heads), *([printable(cell).replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    head, *body = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([head, rule, *body])
