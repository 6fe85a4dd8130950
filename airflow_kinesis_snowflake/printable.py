"""Text from outside, such as keys of records and owners of leases, on its way to people."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text that can't break a line of a log, or disguise what stands in it.

    Line breaks, other control characters, invisible ones and lone surrogates are written as in Python, such
    as ``\n``; everything else, ``\`` included, stays.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
