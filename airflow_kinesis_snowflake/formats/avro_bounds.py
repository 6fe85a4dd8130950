"""How much the data of an Avro schema may become: with some schemas, a few bytes stand for a great deal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_INNER = {"array": "items", "map": "values"}
_RECORDS = ("record", "error")
_MIN_BYTES = {"null": 0, "float": 4, "double": 8}
# Beyond any bound; records that hold two of each other would soon exceed what a float can hold.
_ENOUGH = 1e12


@dataclass(frozen=True)
class Bound:
    """The most that one datum may become.

    :param objects: objects and arrays, besides those in arrays and maps
    :param objects_per_byte: those in arrays and maps; infinite if there are items that take no bytes
    :param names: characters of the names of a record's fields
    :param symbol: characters of a symbol of an enum
    """

    objects: float = 0.0
    objects_per_byte: float = 0.0
    names: int = 0
    symbol: int = 0

    def objects_in(self, size: int) -> float:
        """Objects and arrays in ``size`` bytes."""
        return self.objects + self.objects_per_byte * size

    def text_in(self, size: int) -> float:
        """Characters that ``size`` bytes stand for without holding them: names, and symbols of enums."""
        return self.objects_in(size) * self.names + size * self.symbol


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


def doubled_field(parsed: Any) -> str | None:
    """The name of two fields of one record, of which an object can't hold both."""
    for each in _nodes([parsed], set()):
        names = [field["name"] for field in each["fields"]] if _kind(each) in _RECORDS else []
        if len(set(names)) < len(names):
            return str(max(names, key=names.count))
    return None


def bound(parsed: Any, named: Mapping[str, Any]) -> Bound:
    """The bound of a schema.

    :param parsed: a schema that doesn't contain itself
    :param named: the schemas that it may refer to, by name
    """
    nodes = list(_nodes(chain([parsed], named.values()), set()))
    items = [_Item(each[_INNER[kind]], kind) for each in nodes if (kind := _kind(each)) in _INNER]
    per_byte = _objects_per_byte(items, named)
    whole = _Weights(named, per_byte).heaviest(parsed)
    fields = [[len(field["name"]) for field in each["fields"]] for each in nodes if _kind(each) in _RECORDS]
    symbols = [len(symbol) for each in nodes if _kind(each) == "enum" for symbol in each["symbols"]]
    return Bound(
        objects=whole.objects,
        objects_per_byte=per_byte,
        names=max(map(sum, fields), default=0),
        symbol=max(symbols, default=0),
    )


class _Item(NamedTuple):
    """What an array or a map holds any number of."""

    schema: Any
    holder: str


class _Weight(NamedTuple):
    """A datum, without the items of its arrays and maps: what it becomes, and the bytes that it takes."""

    objects: float
    bytes: float


def _objects_per_byte(items: list[_Item], named: Mapping[str, Any]) -> float:
    """The most objects for each byte that data may reach by repeating items.

    Dinkelbach's method for the largest of many ratios: the choice of union branches that exceeds the best
    ratio so far by most gives a better one, until none does.
    """
    smallest = _Weights(named, _ENOUGH)
    if any(item.holder == "array" and smallest.heaviest(item.schema).bytes == 0 for item in items):
        return math.inf
    best, last = 0.0, -1.0
    while best > last:
        last = best
        weights = _Weights(named, best)
        for item in items:
            weight = weights.heaviest(item.schema)
            size = weight.bytes + (item.holder == "map")  # An empty key takes a byte.
            best = max(best, weight.objects / size if size else 0.0)
    return best


class _Weights:
    """Weighs data by their objects, less what a byte is worth.

    :param named: schemas by their names
    :param byte: how many objects a byte is worth
    """

    def __init__(self, named: Mapping[str, Any], byte: float) -> None:
        self._named = named
        self._byte = byte
        self._known: dict[str, _Weight] = {}

    def heaviest(self, schema: Any) -> _Weight:
        """The heaviest datum of a schema."""
        if isinstance(schema, list):
            branches = map(self.heaviest, schema)
            objects, size = max(branches, key=self._worth, default=_Weight(0, 0))
            return _Weight(objects, size + 1)
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
            return _Weight(1, 1)
        if kind == "fixed":
            return _Weight(0, schema["size"])
        if kind not in _RECORDS:
            return _Weight(0, _MIN_BYTES.get(kind, 1))
        parts = [self.heaviest(field["type"]) for field in schema["fields"]]
        objects, size = 1 + sum(part.objects for part in parts), sum(part.bytes for part in parts)
        return _Weight(min(objects, _ENOUGH), min(size, _ENOUGH))

    def _worth(self, weight: _Weight) -> float:
        return weight.objects - self._byte * weight.bytes


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
