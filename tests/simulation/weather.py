"""What goes wrong in a history, and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.machine import Machine

T = TypeVar("T")

CLOCK_OFF_SECONDS = 240
SLOW_SECONDS = 30


@dataclass
class Weather:
    """Shares of calls or statements that something happens to.

    :param random: decides
    :param death: the process that calls ends, before the call or before it sees the answer
    :param sleep: it sleeps for up to 90 s, alone or with its machine
    :param nap: it sleeps beside a statement, for longer than its leases last
    :param refused: AWS throttles or breaks off, and nothing was done
    :param repeated: AWS does what it was asked for, and botocore asks once more
    :param lost: Snowflake doesn't get a statement, or nobody gets its answer
    :param twice: Snowflake gets a statement a second time, at once or late
    :param ended: Snowflake ends the transaction before a statement, without a word
    :param gone: Snowflake ends the session before a statement
    :param stale: a session reads what was there when it began
    :param slow: a call takes up to half a minute
    :param jump: the wall clock of a worker is set, by up to eight minutes
    :param doze: a worker that finds nothing to read is suspended with its clock, for as long as others need
        to take its shards, find nothing either, and give them back
    :param struck: how often what happened
    """

    random: Random
    death: float = 0.0
    sleep: float = 0.0
    nap: float = 0.0
    refused: float = 0.0
    repeated: float = 0.0
    lost: float = 0.0
    twice: float = 0.0
    ended: float = 0.0
    gone: float = 0.0
    stale: float = 0.0
    slow: float = 0.0
    jump: float = 0.0
    doze: float = 0.0
    struck: Counter[str] = field(default_factory=Counter, init=False)

    def strikes(self, kind: str) -> bool:
        """Whether it happens now.

        :param kind: one of the shares
        """
        share: float = getattr(self, kind)
        if share > 0 and self.random.random() < share:
            self.struck[kind] += 1
            return True
        return False

    def hinders(self, kind: str, machine: Machine) -> bool:
        """The same, where it keeps a worker from writing to DynamoDB, or from doing it in time."""
        if self.strikes(kind):
            machine.hindered_at = machine.scheduler.now
            return True
        return False

    def call(self, machine: Machine, effect: Callable[[], T]) -> T:
        """Let a process call a service, which may take time and be the last thing that it does."""
        self._pass_time(machine)
        result = effect()
        self._pass_time(machine)
        return result

    def _pass_time(self, machine: Machine) -> None:
        scheduler = machine.scheduler
        slow = self.hinders("slow", machine)
        scheduler.sleep(self.random.uniform(1, SLOW_SECONDS) if slow else self.random.uniform(0.001, 0.02))
        if self.hinders("death", machine):
            scheduler.kill(machine)
        if self.hinders("sleep", machine):
            self._put_to_sleep(machine, self.random.uniform(5, 90))
        if not machine.steady and self.hinders("jump", machine):
            machine.clock_off = self.random.uniform(-CLOCK_OFF_SECONDS, CLOCK_OFF_SECONDS)

    def take_nap(self, machine: Machine) -> None:
        """Perhaps sleep for longer than leases last."""
        if self.hinders("nap", machine):
            self._put_to_sleep(machine, self.random.uniform(31, 60))

    def perhaps_doze(self, machine: Machine) -> None:
        """Perhaps be suspended, with a clock that stands still."""
        if self.hinders("doze", machine):
            machine.sleep(self.random.uniform(90, 300), suspended=True)
            machine.scheduler.sleep(0)

    def _put_to_sleep(self, machine: Machine, seconds: float) -> None:
        machine.sleep(seconds, suspended=self.random.random() < 0.5)
        machine.scheduler.sleep(0)

    def clear_up(self) -> None:
        """From now on nothing goes wrong."""
        self.death = self.sleep = self.nap = self.refused = self.repeated = self.slow = self.jump = 0.0
        self.lost = self.twice = self.ended = self.gone = self.stale = self.doze = 0.0
