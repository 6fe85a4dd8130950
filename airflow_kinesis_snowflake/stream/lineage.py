"""Which shards descend from which, and which of them may be read now.

Every function takes the shards that ListShards returns and the rows of the state table, decides from these
alone, and changes nothing. Fetch the list after reading the rows: otherwise the shard of a row that another
worker adds meanwhile would seem to have left the list.

Rules, for a table that has rows:

- A shard without a row that descends from a row, or that no row descends from, is *new*. Any other shard
  without a row is only an ancestor of rows: it was before the start, and is left alone. In a table with rows
  that another consumer created, such ancestors are new too: that consumer creates rows in no particular
  order, so it may have stopped before it got to them.
- A shard may be read once none of its parents has records to come: each has ended, was before the start, or
  is neither listed nor in the table.
- No shard descends from itself. Where rows or list claim so, the parents that would close the cycle don't
  count.

``docs/how-shards-are-read.md`` illustrates them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.positions import sequence_facts
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Shard:
    """A shard, as described by ListShards.

    :param parents: none, one (split) or two (merge) shard ids; they may no longer be listed
    :param closed: no more records can be written to it
    :param starting_sequence_number: no record of the shard has a smaller one
    """

    shard_id: str
    parents: tuple[str, ...] = ()
    closed: bool = False
    starting_sequence_number: str | None = None
    starting_hash_key: int = 0
    ending_hash_key: int = 2**128 - 1

    @property
    def made(self) -> int | None:
        """When Kinesis created it (ms, whole seconds), if its first number tells."""
        facts = sequence_facts(self.starting_sequence_number) if self.starting_sequence_number else None
        return None if facts is None else millis(facts.shard_created)


@dataclass(frozen=True)
class ShardProgress:
    """What the state table knows about a shard's place in the lineage.

    :param parents: as they were listed when the row was created; empty in rows that Openflow created
    :param ended: read to its end, or abandoned because its records are gone
    :param foreign: another consumer, such as the Openflow connector, created the row
    """

    shard_id: str
    parents: tuple[str, ...] = ()
    ended: bool = False
    foreign: bool = False


def new_shards(listed: Iterable[Shard], known: Mapping[str, ShardProgress]) -> tuple[Shard, ...]:
    """Shards that need a row, parents before their children.

    Create the rows in this order. Then a worker that dies halfway leaves no child whose row would make its
    parent look like a shard before the start.

    :param known: the rows; without any, every listed shard is new
    """
    shards = _by_id(listed)
    if shards.keys() <= known.keys():
        return ()
    parents = _parents(shards, known)
    before = frozenset() if _begun_by_others(known) else _only_ancestors(known, parents)
    return tuple(
        shards[shard_id]
        for shard_id in TopologicalSorter(parents).static_order()
        if shard_id in shards and shard_id not in known and shard_id not in before
    )


def from_initial_position(listed: Iterable[Shard], known: Mapping[str, ShardProgress]) -> frozenset[str]:
    """New shards that start where the user specifies; all others start at their oldest record.

    In a table with rows of another consumer, they are the shards that may have existed when it started:
    ancestors of rows, and shards unrelated to any row. A shard that descends from a row, or from a shard that
    has left the list, may be younger.
    """
    if not _begun_by_others(known):
        return frozenset()
    shards = _by_id(listed)
    parents = _parents(shards, known)
    unlisted = {parent for shard in shards.values() for parent in shard.parents} - shards.keys()
    younger = _reachable(known.keys() | unlisted, _children(parents)) - _only_ancestors(known, parents)
    return frozenset(shards.keys() - known.keys() - younger)


def readable(listed: Iterable[Shard], known: Mapping[str, ShardProgress]) -> frozenset[str]:
    """Shards that have a row, haven't ended, are still listed, and needn't wait for a parent.

    A parent that isn't ended blocks its children even when it has left the list, because another worker may
    still be loading its last records. :func:`vanished` names it; once its row is marked as ended, the
    children are free.
    """
    shards = _by_id(listed)
    parents = _parents(shards, known)
    unfinished = {shard_id for shard_id, row in known.items() if not row.ended}
    awaited = unfinished.union(shard.shard_id for shard in new_shards(shards.values(), known))
    return frozenset(
        shard_id for shard_id in unfinished & shards.keys() if awaited.isdisjoint(parents[shard_id])
    )


def vanished(listed: Iterable[Shard], known: Mapping[str, ShardProgress]) -> frozenset[str]:
    """Shards that left the list before they were read to their end.

    Kinesis lists a closed shard until its last record is older than the retention period, so whatever came
    after the checkpoint is lost. Report that, and mark the row as ended while holding its lease.
    """
    shards = _by_id(listed)
    return frozenset(shard_id for shard_id, row in known.items() if not row.ended and shard_id not in shards)


def missed(listed: Iterable[Shard], known: Mapping[str, ShardProgress]) -> frozenset[str]:
    """Shards that entered and left the list between two drains: none of their records was ever read.

    They appear as parents of new shards, and are neither listed nor in the table. Call this before the rows
    of the new shards are created, which hide them. Of several lost generations, only the last is named.

    :param known: the rows; without any, nothing was missed, because nothing was started
    """
    shards = _by_id(listed)
    if not known or shards.keys() <= known.keys():
        return frozenset()
    before = _only_ancestors(known, _parents(shards, known))
    new = [shard for shard in new_shards(shards.values(), known) if shard.shard_id not in before]
    return frozenset({parent for shard in new for parent in shard.parents} - shards.keys() - known.keys())


def forgettable(listed: Iterable[Shard], known: Mapping[str, ShardProgress]) -> frozenset[str]:
    """Rows that can be deleted, any or all of them, without changing a decision of this module.

    The shard has ended and left the list, so have all its ancestors, and each listed child has a row. No row
    may be deleted unless the row of a listed shard stays: an empty table would look like a first run.
    """
    shards = _by_id(listed)
    if shards.keys().isdisjoint(known):
        return frozenset()
    parents = _parents(shards, known)
    kept = shards.keys() | {
        parent for shard in shards.values() if shard.shard_id not in known for parent in shard.parents
    }
    gone: set[str] = set()
    for shard_id in TopologicalSorter(parents).static_order():
        row = known.get(shard_id)
        if row is None:
            continue
        if row.ended and shard_id not in kept and kept.isdisjoint(parents[shard_id]):
            gone.add(shard_id)
        else:
            kept.add(shard_id)
    return frozenset(gone)


def _by_id(listed: Iterable[Shard]) -> dict[str, Shard]:
    return {shard.shard_id: shard for shard in listed}


def _begun_by_others(known: Mapping[str, ShardProgress]) -> bool:
    return any(row.foreign for row in known.values())


def _only_ancestors(
    known: Mapping[str, ShardProgress], parents: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """Shards from which rows descend, and that descend from no row."""
    return frozenset(_reachable(known, parents) - _reachable(known, _children(parents)))


def _parents(shards: Mapping[str, Shard], known: Mapping[str, ShardProgress]) -> dict[str, tuple[str, ...]]:
    """Parents according to both the rows and the list: either may know what the other doesn't."""
    parents = {shard_id: row.parents for shard_id, row in known.items()}
    for shard_id, shard in shards.items():
        parents[shard_id] = parents.get(shard_id, ()) + shard.parents
    return _without_cycles(parents)


def _without_cycles(parents: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Parents, without those that are on a cycle or between two, for shards that are too."""
    if all(parent < shard_id for shard_id, its in parents.items() for parent in its):
        # As Kinesis names them. No cycle ever gets back to where it began.
        return parents
    tangled = _without_ends(_without_ends(parents.keys(), _children(parents)), parents)
    return {
        shard_id: tuple(parent for parent in its if parent not in tangled) if shard_id in tangled else its
        for shard_id, its in parents.items()
    }


def _without_ends(shards: Iterable[str], steps: Mapping[str, Iterable[str]]) -> set[str]:
    """Shards that a walk along ``steps`` inside ``shards`` can still reach, however long it is."""
    left = set(shards)
    arrivals = Counter(step for shard in left for step in set(steps.get(shard, ())) if step in left)
    ends = [shard for shard in left if not arrivals[shard]]
    while ends:
        shard = ends.pop()
        left.remove(shard)
        for step in left.intersection(steps.get(shard, ())):
            arrivals[step] -= 1
            if not arrivals[step]:
                ends.append(step)
    return left


def _children(parents: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    children: defaultdict[str, set[str]] = defaultdict(set)
    for child, its_parents in parents.items():
        for parent in its_parents:
            children[parent].add(child)
    return dict(children)


def _reachable(starts: Iterable[str], steps: Mapping[str, Iterable[str]]) -> set[str]:
    """Everything one step or more from any start."""
    reached: set[str] = set()
    pending = list(starts)
    while pending:
        further = set(steps.get(pending.pop(), ())) - reached
        reached |= further
        pending.extend(further)
    return reached
