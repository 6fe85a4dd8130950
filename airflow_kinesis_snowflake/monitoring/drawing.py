"""The place of each shard in the lineage drawing: parents to the left, children to the right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Up to this number, each shard is a labelled box, and a generation is one column.
MAX_BOXES = 48
ROWS_OF_CELLS = 16


@dataclass(frozen=True)
class Place:
    """The place of a shard, in columns and rows from the top left."""

    shard_id: str
    column: int
    row: int


@dataclass(frozen=True)
class Drawing:
    """Places of all shards.

    :param boxes: there is room for labels; otherwise a shard is a small cell, and a generation may take
        several columns
    :param lines: from parent to child
    """

    boxes: bool
    columns: int
    rows: int
    places: tuple[Place, ...]
    lines: tuple[tuple[str, str], ...]


def draw(parents: Mapping[str, Iterable[str]]) -> Drawing:
    """Lay out a family of shards, one generation after another.

    A shard's generation follows the latest of its parents'. Within a generation, shards are in the order of
    their parents, so that few lines cross. Parents that aren't drawn don't count; nor does the line that
    closes a cycle, where corrupt rows make a shard descend from itself.

    :param parents: of each drawn shard, by shard id
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
        # Among many cells, an empty column marks the end of a generation.
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
    """How many successive ancestors precede each shard; without recursion, because chains get long."""
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
