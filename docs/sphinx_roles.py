"""Lets the site show the Sphinx roles of docstrings, such as ``:class:`Drain```, as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|func|meth|mod):`(?P<short>~)?(?P<name>[^`]+)`")
_LITERAL = re.compile(r"``([^`]+)``")


def as_markdown(docstring: str) -> str:
    """The docstring with its roles as code; ``~`` leaves the last part of a name."""
    return _ROLE.sub(lambda role: f"`{_shown(role)}`", _LITERAL.sub(r"`\1`", docstring))


def _shown(role: re.Match[str]) -> str:
    return role["name"].rpartition(".")[2] if role["short"] else role["name"]


class SphinxRoles(griffe.Extension):
    """Rewrites docstrings before they are rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
