"""Replays of dead letters in the middle of a history, by processes that die and sleep and aren't alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import TransientError
from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter
from airflow_kinesis_snowflake.sinks.snowflake.replay import replay
from tests.simulation.world import TABLE, MendedLanding, mended

if TYPE_CHECKING:
    from random import Random

    from airflow_kinesis_snowflake.sinks.snowflake.replay import ReplayResult
    from tests.simulation.machine import Machine
    from tests.simulation.world import Running, World

# How often somebody replays; three quarters of the histories have no replay.
REPLAYS = (0, 0, 0, 0, 0, 0, 1, 2)
PATIENCE_SECONDS = 60.0


class Replays:
    """Somebody who replays dead letters now and then, after what was wrong with some of them was mended.

    :param world: where
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.variant.chance("replays")
        drawn = self._chance.choice(REPLAYS)
        self._replays = drawn if world.variant.has("replays") else 0
        self._side_by_side = False

    def live(self) -> None:
        """Replay, as often as it was drawn."""
        for number in range(self._replays):
            self._world.scheduler.sleep(self._chance.uniform(20, 200))
            people = self._chance.choice([1, 1, 2, 3])
            works = [
                partial(
                    self._replay,
                    f"{number}-{person}",
                    self._world.variant.chance(f"replay {number} {person}"),
                )
                for person in range(people)
            ]
            self._side_by_side |= people > 1
            self._world.side_by_side(works, pauses=[self._chance.choice([0.0, 0.5]) for _ in works])

    def finish(self) -> None:
        """Replay once more in calm weather: what can land has landed."""
        if not self._replays:
            return
        # Dead letters that were streamed have the time of their worker, whose clock may be ahead.
        now = self._world.scheduler.now
        running = self._start("calm")
        self._world.wait(running)
        replayed: ReplayResult | None = running.result
        told, landed = self._world.counts["replayed"], self._world.ledger.landed_by_replays
        ledger, letters = self._world.ledger, self._world.server.now.letters.values()
        ledger.expect(
            replayed is not None, "10: a replay in calm weather ends well", f"it fails: {running.error!r}"
        )
        ledger.expect(
            told <= landed or self._side_by_side,
            "8: no replay says that it landed more than it did",
            f"replays say that {told} dead letters have landed, and {landed} have",
        )
        left = [
            row.place
            for row in letters
            if row.letter is not None
            and row.application == self._world.application
            and row.letter.failed < now
            and mended(row.letter.payload.encode()) != row.letter.payload.encode()
        ]
        ledger.expect(
            not left,
            "1: what was mended lands by a replay",
            f"{len(left)} dead letters are left that were mended",
        )

    def _replay(self, name: str, chance: Random) -> None:
        for number in range(chance.randint(1, 3)):
            running = self._start(f"{name}-{number}")
            self._world.wait(running, PATIENCE_SECONDS)
            if running.result is not None:
                return

    def _start(self, name: str) -> Running:
        machine = self._world.machine(f"replay-{name}")
        self._world.counts["replays"] += 1
        return self._world.start(machine, lambda: self._replayed(machine))

    def _replayed(self, machine: Machine) -> ReplayResult:
        chosen = LetterFilter(application=self._world.application, stream=self._world.stream.name)
        try:
            done = replay(
                chosen,
                landing=MendedLanding(table=TABLE, most_bytes=0),
                open_session=self._world.snowflake(machine).open_session,
            )
        except Exception as error:
            self._world.ledger.expect(
                isinstance(error, TransientError),
                "10: only what passes fails a replay",
                f"a replay failed with {type(error).__name__}: {error}",
            )
            raise
        self._world.counts["replayed"] += done.landed
        return done
