"""Finding the smallest variant of a history that still breaks a promise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.variant import SWITCHES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.variant import Variant

    Breaks = Callable[[Variant], bool]
    """Runs a variant, and says whether it breaks anything."""

# What is left out shifts the order of things, and what broke may need another one.
SHAKES = 6
MOST_RUNS = 4


def smallest(variant: Variant, breaks: Breaks) -> Variant:
    """The smallest variant that is found to break something: with as few switches on, and as few runs.

    Leaves out one thing after the other, and keeps it out where something breaks all the same, perhaps in
    another order of things. It needn't be the same promise.

    :param variant: breaks something
    """
    for switch in SWITCHES:
        variant = _if_broken(variant, replace(variant, without=variant.without | {switch}), breaks)
    for runs in range(min(MOST_RUNS, variant.runs or MOST_RUNS) - 1, 0, -1):
        shorter = _if_broken(variant, replace(variant, runs=runs), breaks)
        if shorter is variant:
            break
        variant = shorter
    return variant


def _if_broken(variant: Variant, smaller: Variant, breaks: Breaks) -> Variant:
    """The smaller one, in an order in which it breaks something, if one is found."""
    shaken = (replace(smaller, shake=variant.shake + shake) for shake in range(SHAKES))
    return next((each for each in shaken if breaks(each)), variant)
