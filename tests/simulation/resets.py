"""Resets in the middle of a history, planned and carried out by processes that die and are tried again.

What they run is the package's own maintenance. It takes its threads, pauses and ids from here, and no other
module of the simulation knows it.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from airflow_kinesis_snowflake.exceptions import (
    ForeignCheckpointError,
    MaintenanceRefusedError,
    ServiceRefusedError,
    StreamNotFoundError,
    TransientError,
)
from airflow_kinesis_snowflake.maintenance import holding
from airflow_kinesis_snowflake.maintenance.reset import peek
from airflow_kinesis_snowflake.maintenance.reset.apply import apply_reset
from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan, plan_reset
from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState
from airflow_kinesis_snowflake.sinks.snowflake.channel_state import ShardChannels
from airflow_kinesis_snowflake.stream.times import millis
from tests.simulation.ledger import Begin, Forecast, Place
from tests.simulation.machine import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.maintenance.reset.changes import ShardChange
    from tests.simulation.dynamodb import SimulatedStore
    from tests.simulation.machine import Machine
    from tests.simulation.world import Running, World

REWIND, RECOVER, DELETE_TABLE, RENAME = "rewind", "recover", "delete_table", "rename"
# How many resets a history has; two thirds have none.
RESETS = (0, 0, 0, 0, 1, 3)
METHODS = (
    REWIND,
    REWIND,
    REWIND,
    RECOVER,
    RECOVER,
    DELETE_TABLE,
    RENAME,
)
# Those after which a drain reads another stream of the same name.
ADOPTING = (REWIND, DELETE_TABLE)
# Those after which nothing is left of a reset before that was left half-done.
ENDING = (RECOVER, DELETE_TABLE, RENAME)
PATIENCE_SECONDS = 120.0
CALM_TRIES = 5


class Resets:
    """Somebody who resets the application now and then.

    :param world: where
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.variant.chance("resets")
        drawn = self._chance.choice(RESETS)
        self._resets = drawn if world.variant.has("resets") else 0
        self.planned: ResetPlan | None = None
        self.unfinished: list[ResetPlan] = []
        self._active_until = -1.0

    def live(self) -> None:
        """Reset, as often as it was drawn."""
        for number in range(self._resets):
            self._world.scheduler.sleep(self._chance.uniform(5, 100))
            self._reset(self._world.variant.chance(f"reset {number}"), number)

    def active_since(self, at: float) -> bool:
        """Whether a reset was under way at a moment or later, or wasn't brought to its end."""
        return bool(self.unfinished) or self._active_until >= at

    def adopt(self, name: str) -> None:
        """Go on with another stream of the same name, if it is one: forget what was read of the first."""
        if self.is_of_another_stream:
            method = self._chance.choice(ADOPTING)
            asked = {"position": "TRIM_HORIZON"} if method is REWIND else {}
            self.plan(partial(self.request, method=method, **asked), name=name, tries=1)
            if self.planned is not None:
                self.carry_out(self.planned, tries=1)

    @property
    def is_of_another_stream(self) -> bool:
        """Whether some of the state is that of a stream that was deleted."""
        rows = self._world.table(self._world.application).items or {}
        created = {row["streamCreated"]["N"] for row in rows.values() if "streamCreated" in row}
        return not created <= {str(millis(self._world.stream.created))}

    def finish(self) -> None:
        """Bring what was left half-done to its end, or go on where the shards stand."""
        for number in range(CALM_TRIES):
            left = [plan for plan in self.unfinished if self._is_worth_finishing(plan)]
            if not left:
                return
            plan = left[-1]
            if number or self._chance.random() < 0.5:
                # Who is told that a reset which died holds a shard uses force.
                recover = partial(self.request, method=RECOVER, force=bool(number))
                if self.plan(recover, name=f"reset-calm-{number}", tries=1) and self.planned is not None:
                    plan = self.planned
            self.carry_out(plan, tries=1)
            self._world.scheduler.sleep(60)
        self._world.ledger.broken.append("a reset can't be brought to its end, although nothing is wrong")

    def _is_worth_finishing(self, plan: ResetPlan) -> bool:
        """Nobody drains an application that was renamed, and of a table that is gone no row is half-done.

        A plan for a stream that was deleted would only make rows that drains refuse.
        """
        application = self._world.application
        return (
            plan.request.application == application
            and plan.stream_created == millis(self._world.stream.created)
            and self._world.table(application).items is not None
        )

    def _reset(self, chance: Random, number: int) -> None:
        planned = self.plan(lambda: self._draw(chance), name=f"reset-{number}", tries=chance.randint(1, 3))
        # Somebody approves.
        self._world.scheduler.sleep(chance.choice([0.1, 5.0, 30.0]))
        if planned and self.planned is not None:
            self.carry_out(self.planned, tries=chance.randint(1, 4))

    # --- planning ------------------------------------------------------------------------------------------

    def _draw(self, chance: Random) -> ResetRequest:
        """What to ask for."""
        shards = list(self._world.stream.shards.values())
        method = chance.choice(METHODS)
        some = tuple(shard.shard_id for shard in shards if chance.random() < 0.5)
        every = chance.random() < 0.5
        kind = chance.choice(["TRIM_HORIZON", "LATEST", "timestamp", "number"])
        one = chance.choice([shard for shard in shards if shard.records] or shards)
        share = chance.random()
        force = chance.random() < 0.6
        if method is not REWIND:
            return self.request(method=method, force=force)
        if kind == "number" and one.records:
            record = one.records[int(share * len(one.records))]
            return self.request(
                method=method, shards=(one.shard_id,), position=record.sequence_number, force=force
            )
        at = datetime.fromtimestamp(EPOCH + share * self._world.scheduler.now, UTC)
        position = at.isoformat(timespec="milliseconds") if kind == "timestamp" else kind
        return self.request(
            method=method,
            shards=() if every else some,
            position="TRIM_HORIZON" if position == "number" else position,
            force=force,
        )

    def request(self, *, method: str, **asked: Any) -> ResetRequest:
        application = self._world.application
        renamed = f"{application}-again" if method is RENAME else None
        return ResetRequest(
            application=application,
            stream=self._world.stream.name,
            method=method,
            new_application_name=renamed,
            **asked,
        )

    def plan(self, draw: Callable[[], ResetRequest], *, name: str, tries: int) -> bool:
        """Plan a reset; whether there is a plan."""
        for number in range(tries):
            machine = self._world.machine(f"{name}-plan-{number}")
            running = self._world.start(machine, partial(self._planned, machine, draw))
            self._world.wait(running, PATIENCE_SECONDS)
            self._judge(running)
            if running.result is not None:
                self.planned = running.result
                return True
        return False

    def _planned(self, machine: Machine, draw: Callable[[], ResetRequest]) -> ResetPlan:
        request, ledger = draw(), self._world.ledger
        kinesis: Any = self._world.kinesis(machine)
        before = ledger.landings
        with self._loaded(machine) as loaded:
            plan = plan_reset(
                request,
                store=self._world.store(machine, request.application),
                kinesis=kinesis,
                snowflake=loaded,
                open_store=self._open_store(machine),
                now=machine.wall(),
            )
        self._world.counts["plans"] += 1
        ledger.planned(
            f"reset#{plan.id}",
            made_at=plan.made_at / 1000,
            forecasts={change.shard_id: _forecast(change) for change in plan.changes},
        )
        of_the_stream = plan.stream_created == millis(self._world.stream.created)
        if request.method is not RECOVER and ledger.landings == before and of_the_stream:
            for change in plan.changes:
                ledger.check_forecast(request.application, _forecast(change))
        return plan

    # --- carrying out --------------------------------------------------------------------------------------

    def carry_out(self, plan: ResetPlan, *, tries: int) -> None:
        self._world.counts[plan.request.method] += 1
        before, self.unfinished = self.unfinished, [*self.unfinished, plan]
        only_refused = True
        for number in range(tries):
            machine = self._world.machine(f"reset#{plan.id}", chance=f"reset {plan.id} {number}")
            running = self._world.start(machine, partial(self._apply, machine, plan))
            self._world.wait(running, PATIENCE_SECONDS)
            self._active_until = self._world.scheduler.now
            self._judge(running)
            if running.result is not None:
                # Another one leaves closed what the one before has closed and not begun anew, unless no row
                # is left that says so.
                ends_all = plan.request.method in ENDING
                self.unfinished = [] if ends_all else [each for each in self.unfinished if each != plan]
                self._world.counts["resets"] += 1
                return
            refused = changed_nothing(running.error)
            self._world.counts["refused resets"] += refused
            only_refused = only_refused and refused
        if only_refused:
            self.unfinished = [each for each in self.unfinished if each != plan or each in before]

    def _apply(self, machine: Machine, plan: ResetPlan) -> Any:
        store = self._world.store(machine, plan.request.application)
        try:
            with self._loaded(machine) as loaded:
                return apply_reset(
                    plan,
                    store=store,
                    snowflake=loaded,
                    open_store=self._open_store(machine),
                    remember=self._remember,
                    clock=machine.wall,
                )
        except BaseException as error:
            # Another one may have come to its end while this one slept, which closed more after that.
            if plan not in self.unfinished and not changed_nothing(error):
                self.unfinished.append(plan)
            raise

    def _remember(self, application: str) -> None:
        self._world.application = application

    def _judge(self, running: Running) -> None:
        error = running.error
        stream = self._world.stream
        elsewhere = isinstance(error, StreamNotFoundError | ForeignCheckpointError) and (
            stream.remade or not stream.there
        )
        # Another run of the same plan has deleted the table.
        gone = isinstance(error, ServiceRefusedError) and bool(self._world.counts[DELETE_TABLE])
        self._world.ledger.expect(
            error is None or elsewhere or gone or isinstance(error, TransientError | MaintenanceRefusedError),
            "10: only what passes fails a reset",
            f"a reset failed with {type(error).__name__}: {error}",
        )

    # --- what it works on ----------------------------------------------------------------------------------

    def _open_store(self, machine: Machine) -> Callable[[str], CheckpointStoreHook]:
        return lambda application: self._world.store(machine, application)

    @contextmanager
    def _loaded(self, machine: Machine) -> Iterator[SnowflakeState]:
        def open_client(table: TableName) -> Any:
            return self._world.open_channels(machine, table)

        target = self._world.landing.target
        with (
            self._world.snowflake(machine).open_state_session() as session,
            ShardChannels(session, target, open_client) as channels,
        ):
            yield SnowflakeState(session, target, channels)


def changed_nothing(error: BaseException | None) -> bool:
    """Whether a reset was refused before it changed anything."""
    return isinstance(error, MaintenanceRefusedError) and "Nothing was changed" in str(error)


def _forecast(change: ShardChange) -> Forecast:
    checkpoint, start_at = change.new_checkpoint, change.new_start_at or "TRIM_HORIZON"
    begin = None
    if change.starts and start_at != "LATEST":
        since = None if start_at == "TRIM_HORIZON" else datetime.fromisoformat(start_at).timestamp()
        begin = Begin.of(
            None if checkpoint is None else Place(int(checkpoint.sequence_number), float("inf")), since
        )
    return Forecast(
        change.shard_id,
        begin=begin,
        again=change.loaded_again if change.starts else None,
        skips=change.effect.startswith("skips"),
    )


@contextmanager
def maintenance_of(chance: Random) -> Iterator[None]:
    """Let maintenance take its threads from the machine that runs it, its ids from chance, and no pauses."""
    real = holding.Holds

    def holds(store: SimulatedStore, **given: Any) -> holding.Holds:
        return real(store, runtime=store.machine, **given)

    with (
        patch.object(holding, "Holds", holds),
        patch.object(peek, "_PAUSE_SECONDS", 0),
        patch.object(peek, "_BACKOFF_SECONDS", 0),
        patch.object(uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
    ):
        yield
