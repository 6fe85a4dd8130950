"""Single scenes in calm weather, for what histories found."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.history import CALM, History
from tests.simulation.resets import maintenance_of
from tests.simulation.variant import SWITCHES, Variant
from tests.simulation.world import SINKS, files_in_memory

if TYPE_CHECKING:
    from collections.abc import Callable


def play(scene: Callable[[History], None]) -> History:
    """Let a scene happen; no promise may break in it."""
    history = History(Variant(1, without=frozenset(SWITCHES)))
    over: list[bool] = []

    def live() -> None:
        scene(history)
        over.append(True)

    history.world.scheduler.spawn(live)
    with files_in_memory(), maintenance_of(Random(0)):
        history.world.scheduler.run(lambda: bool(over or history.world.ledger.broken))
    assert history.world.ledger.broken == []
    return history


def drain(history: History, name: str, sink: str = "copy", **settings: Any) -> Exception | None:
    """Drain once.

    :return: what the drain failed with, if it did
    """
    history.world.sinks = (sink,)
    tried = history.start(name, 1, **{**CALM, **settings})
    history.world.sinks = SINKS[-1]
    history.world.wait(tried.running)
    return tried.running.error
