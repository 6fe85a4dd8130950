"""Which shards are new, readable, lost, and done with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.stream.lineage import (
    Shard,
    ShardProgress,
    forgettable,
    from_initial_position,
    missed,
    new_shards,
    readable,
    vanished,
)

Family = tuple[list[Shard], dict[str, ShardProgress]]


def listing(family: str) -> list[Shard]:
    """``"a a>b ab>c"``: a has no parents, b descends from a, c from a and b."""
    return [Shard(word[-1], tuple(word[:-2])) for word in family.split()]


def table(family: str) -> dict[str, ShardProgress]:
    """Like ``listing``; a ``!`` at the end of a word means ended."""
    words = [(word.rstrip("!"), word.endswith("!")) for word in family.split()]
    return {word[-1]: ShardProgress(word[-1], tuple(word[:-2]), ended) for word, ended in words}


def names(shards: tuple[Shard, ...]) -> str:
    return "".join(shard.shard_id for shard in shards)


def test_first_run_takes_all_listed_shards_parents_first() -> None:
    assert names(new_shards(listing("bc>d a>c a>b a"), {})) in {"abcd", "acbd"}


@pytest.mark.parametrize(
    ("listed", "known", "new"),
    [
        pytest.param("a a>b a>c", "a", "bc", id="children of a row"),
        pytest.param("b>c b>d c>e", "b", "cde", id="all generations behind a row"),
        pytest.param("a z", "a", "z", id="a shard without any relation"),
        pytest.param("a a>b", "b", "", id="a parent of a row was before the start"),
        pytest.param("a a>b b>c", "c", "", id="so were all its ancestors"),
        pytest.param("a ab>c", "c", "", id="also when only one of the parents of a merge is listed"),
        pytest.param("a b>c", "a>b", "c", id="descent through a parent that is no longer listed"),
        pytest.param("a", "a>b b>c", "", id="ancestry through rows that are no longer listed"),
        pytest.param("a b", "b a>x x>b", "", id="ancestry that only rows know"),
        pytest.param("c>d", "a", "d", id="descent that nobody knows any more"),
        pytest.param("a a>b b>c", "a c", "b", id="between two rows: nothing may be forgotten"),
        pytest.param("a a>b a>s", "b", "s", id="a sister of a row whose parent was before the start"),
        pytest.param("a a a>b a>b", "a", "b", id="listed twice, made once"),
    ],
)
def test_new_is_what_descends_from_a_row_or_what_no_row_descends_from(
    listed: str, known: str, new: str
) -> None:
    assert names(new_shards(listing(listed), table(known))) == new


@pytest.mark.parametrize(
    ("listed", "known", "may_be_read"),
    [
        pytest.param("a", "a", "a", id="without parents"),
        pytest.param("a", "a!", "", id="ended"),
        pytest.param("a", "", "", id="without a row"),
        pytest.param("", "a", "", id="no longer listed"),
        pytest.param("a a>b", "a a>b", "a", id="a parent isn't ended"),
        pytest.param("a a>b", "a! b", "b", id="the parent is ended"),
        pytest.param("a b ab>c", "a! b c", "b", id="one of two merged parents isn't ended"),
        pytest.param("a b ab>c", "a! b! c", "c", id="both merged parents are ended"),
        pytest.param("a>b", "b", "b", id="the parent is neither listed nor in the table"),
        pytest.param("a a>b", "b", "b", id="the parent was before the start"),
        pytest.param("a a>b b>c", "a! c", "", id="the parent is new and has no row yet"),
        pytest.param("b", "a a>b", "", id="the parent left the list before its end"),
        pytest.param("b", "a! a>b", "b", id="that parent was given up"),
        pytest.param("a b", "a a>b", "a", id="only the row knows the parent"),
    ],
)
def test_readable_is_a_row_whose_parents_have_nothing_to_come(
    listed: str, known: str, may_be_read: str
) -> None:
    assert readable(listing(listed), table(known)) == set(may_be_read)


def test_a_row_that_left_the_list_before_its_end_has_vanished() -> None:
    assert vanished(listing("c d"), table("a! b c! d")) == {"b"}


@pytest.mark.parametrize(
    ("listed", "known", "lost"),
    [
        pytest.param("b>c b>d", "a!", "b", id="a parent of new shards that nobody saw"),
        pytest.param("b>c b>d", "a! b>c b>d", "", id="said once: now they aren't new"),
        pytest.param("b>c", "a b!", "", id="the parent was read"),
        pytest.param("a b>c", "a>b", "", id="the parent has vanished, which is another matter"),
        pytest.param("a>b", "", "", id="a first run misses nothing"),
        pytest.param("c>d b>c", "a!", "b", id="a listed parent isn't missed"),
    ],
)
def test_a_generation_between_two_drains_is_missed(listed: str, known: str, lost: str) -> None:
    assert missed(listing(listed), table(known)) == set(lost)


@pytest.mark.parametrize(
    ("listed", "known", "useless"),
    [
        pytest.param("a>b", "a! a>b", "a", id="ended, unlisted, and its child has a row"),
        pytest.param("a a>b", "a! a>b", "", id="still listed"),
        pytest.param("a>b", "a a>b", "", id="not ended"),
        pytest.param("a>b a>c", "a! a>b", "", id="a listed child has no row"),
        pytest.param("c", "a! a>b! b>c", "ab", id="a chain of them"),
        pytest.param("c", "a a>b! b>c", "", id="an ancestor isn't ended"),
        pytest.param("a c", "a>b! b>c", "", id="an ancestor is still listed, and was before the start"),
        pytest.param("", "a! b!", "", id="the table would be empty"),
        pytest.param("z", "a! b!", "", id="no row of a listed shard would stay"),
    ],
)
def test_forgettable_rows_are_those_that_decide_nothing(listed: str, known: str, useless: str) -> None:
    assert forgettable(listing(listed), table(known)) == set(useless)


@pytest.mark.parametrize(
    ("listed", "known", "new", "may_be_read"),
    [
        pytest.param("a>b b>a", "", "ab", "", id="in the list"),
        pytest.param("a>a", "", "a", "", id="its own parent in the list"),
        pytest.param("a", "a>a", "", "a", id="its own parent in its row"),
        pytest.param("a b", "b>a a>b", "", "ab", id="in the rows"),
        pytest.param("a a>b", "b>a b", "", "ab", id="the list says one thing and the rows the other"),
        pytest.param("a b b>c c>d", "b>a a>b c d", "", "ab", id="their descendants still wait for them"),
        pytest.param("d b>a a>b a>c", "d", "abc", "d", id="no row is in it"),
    ],
)
def test_shards_that_descend_from_themselves_are_read_without_waiting(
    listed: str, known: str, new: str, may_be_read: str
) -> None:
    assert set(names(new_shards(listing(listed), table(known)))) == set(new)
    assert readable(listing(listed), table(known)) == set(may_be_read)
    assert forgettable(listing(listed), table(known)) == frozenset()
    missed(listing(listed), table(known))


def begun_by_others(family: str) -> dict[str, ShardProgress]:
    """Like ``table``, but a ``?`` before a word means that another consumer made the row."""
    foreign = {word[-1] for word in family.replace("!", "").split() if word.startswith("?")}
    return {
        shard_id: replace(row, foreign=shard_id in foreign)
        for shard_id, row in table(family.replace("?", "")).items()
    }


@pytest.mark.parametrize(
    ("listed", "known", "new"),
    [
        pytest.param("a a>b", "?b", "a", id="a parent"),
        pytest.param("a a>b b>c", "?c", "ab", id="all ancestors"),
        pytest.param("a x a>b x>y", "?b a y", "x", id="also where some were made, and whoever did so died"),
        pytest.param("a a>b", "b", "", id="not where a drain began"),
    ],
)
def test_ancestors_of_rows_are_new_in_a_table_that_another_consumer_began(
    listed: str, known: str, new: str
) -> None:
    assert names(new_shards(listing(listed), begun_by_others(known))) == new


@pytest.mark.parametrize(
    ("listed", "known", "shards"),
    [
        pytest.param("a a>b b>c", "?b", "a", id="an ancestor of a row, not its descendant"),
        pytest.param("a b b>c", "?a", "bc", id="what has nothing to do with any row"),
        pytest.param("a u>b b>c", "?a", "", id="unless it descends from a shard that left the list"),
        pytest.param("a a>b", "a", "", id="none where a drain began"),
        pytest.param("a b", "", "", id="none without rows"),
    ],
)
def test_what_another_consumer_might_have_begun_starts_where_the_user_says(
    listed: str, known: str, shards: str
) -> None:
    assert from_initial_position(listing(listed), begun_by_others(known)) == set(shards)


def test_an_ancestor_that_another_consumer_left_out_is_not_called_a_loss_of_its_parents() -> None:
    assert missed(listing("u>a a>b"), begun_by_others("?b")) == frozenset()
    assert missed(listing("u>c b"), begun_by_others("?b")) == {"u"}


@st.composite
def families(draw: st.DrawFn) -> Family:
    """Any relations, any part of them listed, any part with rows, each knowing all parents or none."""
    shards: list[Shard] = []
    rows: dict[str, ShardProgress] = {}
    for number in range(draw(st.integers(0, 9))):
        older = [str(index) for index in range(number)]
        parents = tuple(draw(st.lists(st.sampled_from(older), max_size=2, unique=True))) if older else ()
        where = draw(st.sampled_from(["listed", "listed", "row", "both", "both", "neither"]))
        if where in ("listed", "both"):
            shards.append(Shard(str(number), parents))
        if where in ("row", "both"):
            told = parents if draw(st.booleans()) else ()
            rows[str(number)] = ShardProgress(str(number), told, draw(st.booleans()))
    return draw(st.permutations(shards)), rows


def decisions(listed: list[Shard], known: dict[str, ShardProgress]) -> list[object]:
    new = {shard.shard_id for shard in new_shards(listed, known)}
    return [new, readable(listed, known), vanished(listed, known), missed(listed, known)]


@given(families())
def test_every_listed_shard_is_new_or_known_or_before_the_start(family: Family) -> None:
    listed, known = family
    parents = {shard_id: set(row.parents) for shard_id, row in known.items()}
    for shard in listed:
        parents[shard.shard_id] = parents.get(shard.shard_id, set()) | set(shard.parents)

    def ancestors(shard_id: str) -> set[str]:
        mine = parents.get(shard_id, set())
        return mine.union(*(ancestors(parent) for parent in mine))

    new = {shard.shard_id for shard in new_shards(listed, known)}
    for shard in listed:
        from_a_row = bool(ancestors(shard.shard_id) & known.keys())
        only_before = any(shard.shard_id in ancestors(row) for row in known) and not from_a_row
        assert (shard.shard_id in new) == (shard.shard_id not in known and not only_before)


@given(families(), st.integers(0, 9))
def test_death_while_rows_are_made_leaves_the_other_new_shards_new(family: Family, made: int) -> None:
    listed, known = family
    new = new_shards(listed, known)
    rows = {shard.shard_id: ShardProgress(shard.shard_id, shard.parents) for shard in new[:made]}
    assert set(new_shards(listed, known | rows)) == set(new[made:])


@given(families(), st.data())
def test_forgetting_changes_no_decision_whichever_rows_go(family: Family, data: st.DataObject) -> None:
    listed, known = family
    useless = sorted(forgettable(listed, known))
    gone = set(useless) if not useless else set(data.draw(st.lists(st.sampled_from(useless))))
    left = {shard_id: row for shard_id, row in known.items() if shard_id not in gone}
    assert decisions(listed, left) == decisions(listed, known)


@given(families(), st.data())
def test_decisions_do_not_depend_on_the_order_of_the_list(family: Family, data: st.DataObject) -> None:
    listed, known = family
    assert decisions(data.draw(st.permutations(listed)), known) == decisions(listed, known)


@given(families())
def test_a_parent_and_its_child_are_never_readable_together(family: Family) -> None:
    listed, known = family
    ready = readable(listed, known)
    for shard in listed:
        assert shard.shard_id not in ready or ready.isdisjoint(shard.parents)


@given(families())
def test_reading_never_stands_still(family: Family) -> None:
    """Each drain has something to read or to give up until every row has ended."""
    listed, known = family
    for _ in range(30):
        known = {
            shard.shard_id: ShardProgress(shard.shard_id, shard.parents)
            for shard in new_shards(listed, known)
        } | known
        done = readable(listed, known) | vanished(listed, known)
        known |= {shard_id: ShardProgress(shard_id, known[shard_id].parents, True) for shard_id in done}
    assert all(row.ended for row in known.values())


@given(families())
def test_nothing_listed_is_left_alone_in_a_table_that_another_consumer_began(family: Family) -> None:
    listed, known = family
    rows = {shard_id: replace(row, foreign=True) for shard_id, row in known.items()}
    new = {shard.shard_id for shard in new_shards(listed, rows)}
    assert new == {shard.shard_id for shard in listed} - known.keys()
    assert from_initial_position(listed, rows) <= new


@st.composite
def tangles(draw: st.DrawFn) -> Family:
    """Any shard may be any other's parent."""
    names = st.sampled_from("abcdef")
    some = st.dictionaries(names, st.lists(names, max_size=2).map(tuple), min_size=1)
    listed = [Shard(shard_id, parents) for shard_id, parents in draw(some).items()]
    return listed, {
        shard_id: ShardProgress(shard_id, parents, draw(st.booleans()))
        for shard_id, parents in draw(some).items()
    }


@given(tangles())
def test_reading_never_stands_still_however_shards_are_said_to_descend(family: Family) -> None:
    listed, known = family
    forgettable(listed, known)
    for _ in range(20):
        missed(listed, known)
        rows = [ShardProgress(shard.shard_id, shard.parents) for shard in new_shards(listed, known)]
        known = {row.shard_id: row for row in rows} | known
        done = readable(listed, known) | vanished(listed, known)
        known |= {shard_id: ShardProgress(shard_id, known[shard_id].parents, True) for shard_id in done}
    assert all(row.ended for row in known.values())


def test_ten_thousand_shards_in_one_chain_are_no_burden() -> None:
    chain = [Shard("0"), *(Shard(str(number), (str(number - 1),)) for number in range(1, 10_000))]
    known = {"0": ShardProgress("0", (), ended=True)}
    assert len(new_shards(chain, known)) == 9_999
    assert forgettable(chain, known) == frozenset()
