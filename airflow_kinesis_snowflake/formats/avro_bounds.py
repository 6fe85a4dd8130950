"""How much the data of an Avro schema may become: with some schemas, a few bytes stand for a great deal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_INNER = {"array": "items", "map": "values"}
_RECORDS = ("record", "error")
_MIN_BYTES = {"null": 0, "float": 4, "double": 8}
# Beyond any bound; records that hold two of each other would soon exceed what a float can hold.
_ENOUGH = 1e12


class Most(NamedTuple):
    """The most of something that one datum may hold.

    :param fixed: besides that in arrays and maps
    :param per_byte: in arrays and maps; infinite if there are items that take no bytes
    """

    fixed: float = 0.0
    per_byte: float = 0.0

    def within(self, size: int) -> float:
        """In ``size`` bytes."""
        return self.fixed + self.per_byte * size


_NONE = Most()


@dataclass(frozen=True)
class Bound:
    """The most that one datum may become.

    :param objects: objects and arrays
    :param empty: fields that take no bytes, such as those of type ``null``; others are as many as bytes
    :param names: characters of the names of a record's fields
    :param symbol: characters of a symbol of an enum
    """

    objects: Most = _NONE
    empty: Most = _NONE
    names: int = 0
    symbol: int = 0

    def text_in(self, size: int) -> float:
        """Characters that ``size`` bytes stand for without holding them: names, and symbols of enums."""
        return self.objects.within(size) * self.names + size * self.symbol


NOTHING_BUILT = Bound()


def is_recursive(schema: Any, *, within: frozenset[str]) -> bool:
    """Whether a parsed schema contains itself, or one of the records that enclose it."""
    if isinstance(schema, str):
        return schema in within
    if isinstance(schema, list):
        return any(is_recursive(branch, within=within) for branch in schema)
    kind = schema["type"]
    if not isinstance(kind, str):
        return is_recursive(kind, within=within)
    if kind in _RECORDS:
        inside = within | {schema["name"]}
        return any(is_recursive(field["type"], within=inside) for field in schema["fields"])
    return kind in _INNER and is_recursive(schema[_INNER[kind]], within=within)


def has_doubled_fields(parsed: Any) -> bool:
    """Whether a record has two fields of one name, of which an object can't hold both."""
    names = (
        [field["name"] for field in each["fields"]]
        for each in _nodes([parsed], set())
        if _kind(each) in _RECORDS
    )
    return any(len(set(each)) < len(each) for each in names)


def bound(parsed: Any, named: Mapping[str, Any]) -> Bound:
    """The bound of a schema.

    :param parsed: a schema that doesn't contain itself
    :param named: the schemas that it may refer to, by name
    """
    nodes = list(_nodes(chain([parsed], named.values()), set()))
    items = [_Item(each[_INNER[kind]], kind) for each in nodes if (kind := _kind(each)) in _INNER]
    fields = [[len(field["name"]) for field in each["fields"]] for each in nodes if _kind(each) in _RECORDS]
    symbols = [len(symbol) for each in nodes if _kind(each) == "enum" for symbol in each["symbols"]]
    return Bound(
        objects=_most(parsed, items, named, _one_object),
        empty=_most(parsed, items, named, _empty_fields),
        names=max(map(sum, fields), default=0),
        symbol=max(symbols, default=0),
    )


class _Item(NamedTuple):
    """What an array or a map holds any number of."""

    schema: Any
    holder: str


class _Weight(NamedTuple):
    """A datum, without the items of its arrays and maps: what is counted in it, and the bytes it takes."""

    number: float
    bytes: float


_Count: TypeAlias = "Callable[[Sequence[_Weight]], int]"
"""What a record, an array or a map counts for, besides its fields, which are given, and its items."""


def _one_object(_: Sequence[_Weight]) -> int:
    return 1


def _empty_fields(fields: Sequence[_Weight]) -> int:
    return sum(field.bytes == 0 for field in fields)


def _most(parsed: Any, items: list[_Item], named: Mapping[str, Any], count: _Count) -> Most:
    """The most that a datum may hold of what is counted."""
    per_byte = _most_per_byte(items, named, count)
    return Most(_Weights(named, per_byte, count).heaviest(parsed).number, per_byte)


def _most_per_byte(items: list[_Item], named: Mapping[str, Any], count: _Count) -> float:
    """The most for each byte that data may reach by repeating items.

    Dinkelbach's method for the largest of many ratios: the choice of union branches that exceeds the best
    ratio so far by most gives a better one, until none does.
    """
    smallest = _Weights(named, _ENOUGH, count)
    if any(item.holder == "array" and smallest.heaviest(item.schema).bytes == 0 for item in items):
        return math.inf
    best, last = 0.0, -1.0
    while best > last:
        last = best
        weights = _Weights(named, best, count)
        for item in items:
            weight = weights.heaviest(item.schema)
            size = weight.bytes + (item.holder == "map")  # An empty key takes a byte.
            best = max(best, weight.number / size if size else 0.0)
    return best


class _Weights:
    """Weighs data by what is counted in them, less what a byte is worth.

    :param named: schemas by their names
    :param byte: how much a byte is worth
    """

    def __init__(self, named: Mapping[str, Any], byte: float, count: _Count) -> None:
        self._named = named
        self._byte = byte
        self._count = count
        self._known: dict[str, _Weight] = {}

    def heaviest(self, schema: Any) -> _Weight:
        """The heaviest datum of a schema."""
        if isinstance(schema, list):
            branches = map(self.heaviest, schema)
            number, size = max(branches, key=self._worth, default=_Weight(0, 0))
            return _Weight(number, size + 1)
        if isinstance(schema, str):
            if schema not in self._named:
                return _Weight(0, _MIN_BYTES.get(schema, 1))
            if schema not in self._known:
                self._known[schema] = self.heaviest(self._named[schema])
            return self._known[schema]
        return self._heaviest_of(schema)

    def _heaviest_of(self, schema: dict[str, Any]) -> _Weight:
        kind = schema["type"]
        if not isinstance(kind, str):
            return self.heaviest(kind)
        if kind in _INNER:
            return _Weight(self._count(()), 1)
        if kind == "fixed":
            return _Weight(0, schema["size"])
        if kind not in _RECORDS:
            return _Weight(0, _MIN_BYTES.get(kind, 1))
        parts = [self.heaviest(field["type"]) for field in schema["fields"]]
        number, size = sum(part.number for part in parts), sum(part.bytes for part in parts)
        return _Weight(min(self._count(parts) + number, _ENOUGH), min(size, _ENOUGH))

    def _worth(self, weight: _Weight) -> float:
        return weight.number - self._byte * weight.bytes


def _kind(schema: dict[str, Any]) -> str:
    kind = schema["type"]
    return kind if isinstance(kind, str) else ""


def _nodes(schemas: Iterable[Any], seen: set[int]) -> Iterator[dict[str, Any]]:
    """The schemas and all that they consist of, each once; not what they refer to by name."""
    for schema in schemas:
        if isinstance(schema, list):
            yield from _nodes(schema, seen)
        elif isinstance(schema, dict) and id(schema) not in seen:
            seen.add(id(schema))
            yield schema
            kind = _kind(schema)
            if kind in _RECORDS:
                yield from _nodes((field["type"] for field in schema["fields"]), seen)
            else:
                yield from _nodes([schema[_INNER[kind]] if kind in _INNER else schema["type"]], seen)
