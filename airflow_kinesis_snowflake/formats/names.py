"""The names that columns get from keys."""

from __future__ import annotations

import re

NAMES = ("upper", "as_is", "snake")
"""Rules: in upper case; as the key is written; in upper case with underscores between words."""

_SEPARATORS = re.compile(r"\W+")
_LOWER_CASE = re.compile(r"[a-z]")
_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def column_name(key: str, rule: str) -> str:
    """The name that a rule makes of a key.

    It depends on the key alone, so that all workers get the same name; several keys may get the same one.

    :param rule: one of :data:`NAMES`
    """
    if rule == "as_is":
        return key
    return _snake(key) if rule == "snake" else key.upper()


def _snake(key: str) -> str:
    """A name that needs no quotes in SQL, if the key is ASCII and the name isn't a reserved word."""
    # In a key without lower-case letters, capitals don't begin words.
    words = _CAPITALS.sub("_", key) if _LOWER_CASE.search(key) else key
    # Upper case first: it splits some letters into a letter and a mark.
    spelled = words.upper()
    name = _SEPARATORS.sub("_", spelled)
    # A search for separators at the end would begin at each of those in between.
    if _SEPARATORS.match(spelled[:1]):
        name = name[1:]
    if _SEPARATORS.match(spelled[-1:]):
        name = name[:-1]
    return f"_{name}" if name[:1].isdigit() else name
