"""Where each shard stands in the lineage drawing: parents to the left, children to the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Up to here each shard is a box with a label, and a generation one column.
MAX_BOXES = 48
ROWS_OF_CELLS = 16


@dataclass(frozen=True)
class Place:
    """Where a shard stands, in columns and rows from the top left."""

    shard_id: str
    column: int
    row: int


@dataclass(frozen=True)
class Drawing:
    """Places of all shards.

    :param boxes: there is room for labels; else a shard is a small cell, and a generation may take several
        columns
    :param lines: from parent to child
    """

    boxes: bool
    columns: int
    rows: int
    places: tuple[Place, ...]
    lines: tuple[tuple[str, str], ...]


def draw(parents: Mapping[str, Iterable[str]]) -> Drawing:
    """Lay out a family of shards, one generation after the other.

    A shard's generation is one behind the last of its parents. In a generation, shards stand in the order of
    their parents, so that lines cross little. Parents that aren't drawn themselves count for nothing; where
    rows are corrupt and a shard descends from itself, the line that closes the circle does neither.

    :param parents: of each shard that is drawn, by shard id
    """
    known = {shard_id: sorted({p for p in parents[shard_id] if p in parents}) for shard_id in sorted(parents)}
    generation = _generations(known)
    families: dict[int, list[str]] = {}
    for shard_id, number in generation.items():
        families.setdefault(number, []).append(shard_id)
    boxes = len(known) <= MAX_BOXES
    places: dict[str, Place] = {}
    order: dict[str, float] = {}
    first = 0
    for number in sorted(families):
        family = sorted(families[number], key=lambda shard_id: (_middle(known[shard_id], order), shard_id))
        height = len(family) if boxes else ROWS_OF_CELLS
        for index, shard_id in enumerate(family):
            order[shard_id] = index / len(family)
            places[shard_id] = Place(shard_id, first + index // height, index % height)
        # Among many cells, an empty column tells where a generation ends.
        first += -(-len(family) // height) + (0 if boxes else 1)
    return Drawing(
        boxes=boxes,
        columns=max((place.column + 1 for place in places.values()), default=0),
        rows=max((place.row + 1 for place in places.values()), default=0),
        places=tuple(places.values()),
        lines=tuple(
            (parent, child)
            for child, its_parents in known.items()
            for parent in its_parents
            if generation[parent] < generation[child]
        ),
    )


def _middle(parents: Iterable[str], order: Mapping[str, float]) -> float:
    at = [order[parent] for parent in parents if parent in order]
    return sum(at) / len(at) if at else 2.0


def _generations(parents: Mapping[str, list[str]]) -> dict[str, int]:
    """How many ancestors come before each shard, one after the other; without recursion, as chains grow."""
    generation: dict[str, int] = {}
    for start in parents:
        path, on_path = [start], {start}
        while path:
            shard_id = path[-1]
            ahead = [p for p in parents[shard_id] if p not in generation and p not in on_path]
            if ahead:
                path.append(ahead[0])
                on_path.add(ahead[0])
                continue
            path.pop()
            on_path.discard(shard_id)
            if shard_id not in generation:
                before = [generation[p] for p in parents[shard_id] if p in generation]
                generation[shard_id] = 1 + max(before, default=-1)
    return generation
