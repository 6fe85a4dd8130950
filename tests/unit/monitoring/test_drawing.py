"""Where shards stand in the drawing, for families of every shape."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.monitoring.drawing import MAX_BOXES, ROWS_OF_CELLS, Drawing, draw


def family(pairs: list[tuple[int, int]]) -> dict[str, list[str]]:
    """Shards, each with up to two older parents; some of these aren't drawn themselves."""
    names = ["gone", *(f"shard-{number:03d}" for number in range(len(pairs)))]
    return {
        name: sorted({names[parent % number] for parent in pair if parent % 3})
        for number, (name, pair) in enumerate(zip(names[1:], pairs, strict=True), start=1)
    }


numbers = st.integers(0, 200)
families = st.lists(st.tuples(numbers, numbers), max_size=90).map(family)


def columns(drawing: Drawing) -> dict[str, int]:
    return {place.shard_id: place.column for place in drawing.places}


@given(families)
def test_every_shard_has_a_place_of_its_own_inside_the_drawing(parents: dict[str, list[str]]) -> None:
    drawing = draw(parents)
    assert {place.shard_id for place in drawing.places} == parents.keys()
    taken = {(place.column, place.row) for place in drawing.places}
    assert len(taken) == len(parents)
    assert all(0 <= column < drawing.columns and 0 <= row < drawing.rows for column, row in taken)


@given(families)
def test_parents_stand_to_the_left_and_every_descent_is_a_line(parents: dict[str, list[str]]) -> None:
    drawing = draw(parents)
    at = columns(drawing)
    assert all(at[parent] < at[child] for parent, child in drawing.lines)
    assert set(drawing.lines) == {(p, child) for child, its in parents.items() for p in its if p in parents}


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3)))
def test_corrupt_descent_draws_every_shard_all_the_same(parents: dict[str, list[str]]) -> None:
    drawing = draw(parents)
    assert columns(drawing).keys() == parents.keys()
    at = columns(drawing)
    assert all(at[parent] < at[child] for parent, child in drawing.lines)


@given(families)
def test_many_shards_become_cells_of_limited_height(parents: dict[str, list[str]]) -> None:
    drawing = draw(parents)
    assert drawing.boxes == (len(parents) <= MAX_BOXES)
    if not drawing.boxes:
        assert drawing.rows <= ROWS_OF_CELLS


def test_a_long_chain_of_generations_is_drawn() -> None:
    names = [f"{number:05d}" for number in range(3000)]
    drawing = draw({"00000": [], **{child: [parent] for parent, child in pairwise(names)}})
    assert len(drawing.lines) == 2999


def test_children_stand_in_the_order_of_their_parents() -> None:
    drawing = draw({"a": [], "b": [], "1": ["b"], "2": ["a"], "3": ["a", "b"]})
    rows = {place.shard_id: place.row for place in drawing.places}
    assert rows["2"] < rows["3"] < rows["1"]
