"""Finding the rows that Snowflake refuses by trying parts of their file. Pure: a function tries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def find_refused(
    count: int, refusal: Callable[[int, int], str | None], *, most: int
) -> dict[int, str] | None:
    """The rows that are refused when they are tried alone, and why.

    Refused parts are halved, all at once, so that many bad rows show after few tries: about twice ``most``.
    One bad row among ``n`` takes about ``log2(n)`` tries, or up to twice as many.

    :param count: rows ``0`` to ``count - 1``, which were refused together
    :param refusal: tries the rows from one number up to another, and says why they are refused, if they are
    :param most: give up when there must be more
    :return: by row, in order; ``None``: there are more than ``most``. Empty when all rows are accepted alone
    """
    parts: list[tuple[int, int, str | None]] = [(0, count, None)]
    while len(parts) <= most and any(end - begin > 1 for begin, end, _ in parts):
        parts = [half for part in parts for half in _refused_halves(part, refusal)]
    if len(parts) > most:
        return None
    reasons = {begin: reason or refusal(begin, end) for begin, end, reason in parts}
    return {row: reason for row, reason in reasons.items() if reason is not None}


def _refused_halves(
    part: tuple[int, int, str | None], refusal: Callable[[int, int], str | None]
) -> list[tuple[int, int, str | None]]:
    begin, end, _ = part
    if end - begin == 1:
        return [part]
    middle = (begin + end) // 2
    first = refusal(begin, middle)
    if first is None:
        # The bad row must be in the other half; no need to try.
        return [(middle, end, None)]
    second = refusal(middle, end)
    return [(begin, middle, first), *([] if second is None else [(middle, end, second)])]
