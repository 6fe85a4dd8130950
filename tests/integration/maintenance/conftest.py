"""Maintenance of a pipeline on the local services."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.maintenance.inspection import Inspection, inspect_state
from airflow_kinesis_snowflake.maintenance.reset.apply import apply_reset
from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan, plan_reset
from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState, open_snowflake_state
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.integration.drain.conftest import make_lasting_pipeline, make_pipeline  # noqa: F401 -- fixtures

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.integration.drain.conftest import Pipeline


class Maintenance:
    """What an operator of the pipeline does with its state."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.remembered: list[str] = []
        self.table = str(pipeline.table)

    def snowflake(self) -> AbstractContextManager[SnowflakeState]:
        return open_snowflake_state(self.table, snowflake_conn_id="snowflake_default")

    def inspect(self) -> Inspection:
        return inspect_state(self.pipeline.store, KinesisStreamHook(self.pipeline.stream), now=now_millis())

    def plan(self, method: str, **request: Any) -> ResetPlan:
        asked = ResetRequest(
            application=self.pipeline.application, stream=self.pipeline.stream, method=method, **request
        )
        with self.snowflake() as snowflake:
            return plan_reset(
                asked,
                store=self.pipeline.store,
                kinesis=KinesisStreamHook(self.pipeline.stream),
                snowflake=snowflake,
                open_store=CheckpointStoreHook,
                now=now_millis(),
            )

    def carry_out(self, plan: ResetPlan) -> None:
        with self.snowflake() as snowflake:
            apply_reset(
                plan,
                store=self.pipeline.store,
                snowflake=snowflake,
                open_store=CheckpointStoreHook,
                remember=self.remembered.append,
                clock=now_millis,
            )

    def reset(self, method: str, **request: Any) -> ResetPlan:
        plan = self.plan(method, **request)
        self.carry_out(plan)
        return plan


@pytest.fixture
def drained(make_pipeline: Callable[..., Pipeline]) -> Pipeline:  # noqa: F811
    """A pipeline of two shards with twenty numbers, all landed."""
    return filled(make_pipeline(2))


@pytest.fixture
def maintenance(drained: Pipeline) -> Maintenance:
    """Maintenance of ``drained``."""
    return Maintenance(drained)


@pytest.fixture(scope="module")
def lasting(make_lasting_pipeline: Callable[..., Pipeline]) -> Pipeline:  # noqa: F811
    """The same as ``drained``, but made once."""
    return filled(make_lasting_pipeline(2))


@pytest.fixture
def settled(lasting: Pipeline) -> Pipeline:
    """The same as ``drained``, for a test that changes neither the stream nor any table."""
    return replace(lasting)


@pytest.fixture
def planner(settled: Pipeline) -> Maintenance:
    """Maintenance of ``settled``, for a test that carries nothing out."""
    return Maintenance(settled)


def filled(pipeline: Pipeline) -> Pipeline:
    """Send twenty numbers, and drain them."""
    pipeline.send(20)
    pipeline.drain().run()
    return pipeline
