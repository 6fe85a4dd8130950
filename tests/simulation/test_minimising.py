"""What doesn't matter is left out of a history that breaks a promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.minimising import smallest
from tests.simulation.variant import SWITCHES, Variant

if TYPE_CHECKING:
    from collections.abc import Callable


def needing(*switches: str, runs: int = 1) -> Callable[[Variant], bool]:
    def breaks(variant: Variant) -> bool:
        return variant.without.isdisjoint(switches) and (variant.runs or runs) >= runs

    return breaks


def test_only_what_matters_is_left() -> None:
    found = smallest(Variant(7), needing("twice", "resets", runs=2))
    assert set(SWITCHES) - found.without == {"twice", "resets"}
    assert (found.runs, found.shake) == (2, 0)


def test_another_order_of_things_is_tried_where_the_first_one_breaks_nothing() -> None:
    needs = needing("nap")
    found = smallest(Variant(7), lambda each: needs(each) and (not each.without or each.shake == 3))
    assert set(SWITCHES) - found.without == {"nap"}
    assert found.shake == 3


def test_what_replays_a_variant_is_told() -> None:
    variant = Variant(7, frozenset({"nap", "lost"}), runs=1, shake=2)
    assert variant.arguments == "--seed 7 --without lost,nap --runs 1 --shake 2"
    assert Variant(7).arguments == "--seed 7"


def test_what_is_left_out_changes_nothing_that_others_draw() -> None:
    variant, smaller = Variant(7), Variant(7, frozenset({"lost"}), shake=5)
    assert variant.chance("runs").random() == smaller.chance("runs").random()
    assert variant.shaken("order").random() != smaller.shaken("order").random()
