"""Which Avro schemas can be read in bounded memory: with some, a few bytes stand for a great many values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INNER = {"array": "items", "map": "values"}
_RECORDS = ("record", "error")
_MIN_BYTES = {"null": 0, "float": 4, "double": 8}


def is_recursive(schema: Any, *, within: frozenset[str]) -> bool:
    """Whether a parsed schema contains itself, or one of the records that enclose it."""
    if isinstance(schema, str):
        return schema in within
    if isinstance(schema, list):
        return any(is_recursive(branch, within=within) for branch in schema)
    kind = schema["type"]
    if not isinstance(kind, str):
        return is_recursive(kind, within=within)
    if kind in ("record", "error"):
        inside = within | {schema["name"]}
        return any(is_recursive(field["type"], within=inside) for field in schema["fields"])
    return kind in _INNER and is_recursive(schema[_INNER[kind]], within=within)


def is_endless(schema: Any, *, empty: dict[str, bool]) -> bool:
    """Whether a parsed schema has an array of items that take no bytes.

    :param empty: whether each named type met so far takes no bytes; filled in
    """
    if isinstance(schema, str):
        return False
    if isinstance(schema, list):
        return any(is_endless(branch, empty=empty) for branch in schema)
    kind = schema["type"]
    if not isinstance(kind, str):
        return is_endless(kind, empty=empty)
    if kind in ("record", "error"):
        endless = any(is_endless(field["type"], empty=empty) for field in schema["fields"])
        empty[schema["name"]] = _takes_no_bytes(schema, empty=empty)
        return endless
    if kind == "fixed":
        empty[schema["name"]] = schema["size"] == 0
    inner = schema[_INNER[kind]] if kind in _INNER else None
    if inner is None:
        return False
    endless = is_endless(inner, empty=empty)
    return endless or (kind == "array" and _takes_no_bytes(inner, empty=empty))


def _takes_no_bytes(schema: Any, *, empty: dict[str, bool]) -> bool:
    if isinstance(schema, str):
        return schema == "null" or empty.get(schema, False)
    if isinstance(schema, list):
        return False
    kind = schema["type"]
    if kind in ("record", "error"):
        return all(_takes_no_bytes(field["type"], empty=empty) for field in schema["fields"])
    if kind == "fixed":
        return bool(schema["size"] == 0)
    return kind not in _INNER and _takes_no_bytes(kind, empty=empty)


def density(parsed: Any, named: Mapping[str, Any]) -> float:
    """How many objects and arrays a byte of data may stand for: most if small ones fill an array.

    :param parsed: a schema that doesn't contain itself
    :param named: the schemas that it may refer to, by name
    """
    sizes: dict[str, int] = {}
    items = [each for schema in (parsed, *named.values()) for each in _repeated(schema)]
    least = [_least(each, named, sizes) for each in items if _is_built(each, named)]
    return max((1 / max(1, size) for size in least), default=0.0)


def _repeated(schema: Any) -> Iterator[Any]:
    """The schemas of array items and map values."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _repeated(branch)
    elif isinstance(schema, dict):
        kind = schema["type"]
        if kind in _RECORDS:
            for field in schema["fields"]:
                yield from _repeated(field["type"])
        elif isinstance(kind, str) and kind in _INNER:
            inner = schema[_INNER[kind]]
            yield from inner if isinstance(inner, list) else [inner]
            yield from _repeated(inner)
        else:
            yield from _repeated(kind)


def _is_built(schema: Any, named: Mapping[str, Any]) -> bool:
    """Whether a datum becomes an object or array."""
    if isinstance(schema, str):
        return schema in named and _is_built(named[schema], {})
    kind = schema["type"]
    return kind in (*_INNER, *_RECORDS) if isinstance(kind, str) else _is_built(kind, named)


def _least(schema: Any, named: Mapping[str, Any], sizes: dict[str, int]) -> int:
    """The fewest bytes that a datum may take.

    :param sizes: of the named types met so far; filled in
    """
    if isinstance(schema, list):
        return 1 + min((_least(branch, named, sizes) for branch in schema), default=0)
    if isinstance(schema, str):
        if schema in named and schema not in sizes:
            sizes[schema] = _least(named[schema], named, sizes)
        return sizes.get(schema, _MIN_BYTES.get(schema, 1))
    kind = schema["type"]
    if kind in _RECORDS:
        return sum(_least(field["type"], named, sizes) for field in schema["fields"])
    if kind == "fixed":
        return int(schema["size"])
    return _MIN_BYTES.get(kind, 1) if isinstance(kind, str) else _least(kind, named, sizes)
