"""Makes outside text, such as keys of records and owners of leases, safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text that can't break a line of a log, or disguise its content.

    Line breaks, other control characters, invisible ones and lone surrogates are escaped as in Python, such
    as ``\n``; everything else, including ``\``, stays.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
