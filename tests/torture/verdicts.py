"""Whether what landed is what was produced: every number once, and in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True)
class Landed:
    """One row of the landing table or of the dead letters.

    :param place: sequence number and sub-sequence number: where the record lies in its shard
    """

    number: int
    key: str
    shard_id: str
    place: tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """What is wrong; nothing, if all is empty.

    :param missing: numbers that were produced and are nowhere
    :param duplicates: numbers that are there more than once, and how often
    :param foreign: numbers that nobody produced
    :param disorder: pairs of rows that follow each other in the wrong order, in words
    """

    missing: tuple[int, ...]
    duplicates: Mapping[int, int]
    foreign: tuple[int, ...]
    disorder: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether every number is there once and in order."""
        return not (self.missing or self.duplicates or self.foreign or self.disorder)

    def __str__(self) -> str:
        if self.good:
            return "every number once and in order"
        return (
            f"{len(self.missing)} missing {self.missing[:10]}, {len(self.duplicates)} more than once "
            f"{dict(list(self.duplicates.items())[:10])}, {len(self.foreign)} never produced "
            f"{self.foreign[:10]}, {len(self.disorder)} out of order {self.disorder[:5]}"
        )


def judge(produced: int, *, landed: Sequence[Landed], dead: Sequence[Landed]) -> Verdict:
    """Compare.

    :param produced: the numbers from 0 to here, exclusive, were produced, those of one key in ascending order
    :param landed: rows of the landing table in the order in which they were committed
    :param dead: dead letters in that order; the order between the two tables is unknown
    """
    counts = Counter(row.number for row in (*landed, *dead))
    return Verdict(
        missing=tuple(number for number in range(produced) if number not in counts),
        duplicates={number: count for number, count in sorted(counts.items()) if count > 1},
        foreign=tuple(sorted(number for number in counts if not 0 <= number < produced)),
        disorder=(*disorder(landed), *disorder(dead)),
    )


def disorder(rows: Iterable[Landed]) -> Iterator[str]:
    """Rows of a shard that don't follow their predecessor, and rows of a key that don't, across shards too.

    The latter tells whether a child shard was read before its parents were finished.
    """
    last_of_shard: dict[str, Landed] = {}
    last_of_key: dict[str, Landed] = {}
    for row in rows:
        before = last_of_shard.get(row.shard_id)
        if before is not None and row.place <= before.place:
            yield f"{row.number} after {before.number} in {row.shard_id}"
        last_of_shard[row.shard_id] = row
        before = last_of_key.get(row.key)
        if before is not None and row.number <= before.number:
            yield f"{row.number} of {row.shard_id} after {before.number} of {before.shard_id}, key {row.key}"
        last_of_key[row.key] = row
