"""Waiting until a stream is drained, on the local services."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.sensors.lag import KinesisDrainedSensor
from airflow_kinesis_snowflake.triggers.lag import KinesisDrainedTrigger
from tests.integration.drain.conftest import make_pipeline  # noqa: F401 -- a fixture

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # Airflow 3.1
    from airflow.exceptions import TaskDeferred  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.drain.conftest import Pipeline

HOUR = timedelta(hours=1)


def context(*, began: datetime | None = None) -> Any:
    return {"dag_run": SimpleNamespace(start_date=began or datetime.now(UTC))}


def sensor(pipeline: Pipeline, **settings: Any) -> KinesisDrainedSensor:
    return KinesisDrainedSensor(
        task_id="wait",
        stream_name=pipeline.stream,
        application_name=pipeline.application,
        **{"deferrable": True} | settings,
    )


def deferred(waiting: KinesisDrainedSensor, **given: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferral:
        waiting.execute(context(**given))
    return deferral.value


async def event_of(trigger: Any) -> Any:
    """The trigger's event, as the triggerer makes the trigger; fails after a minute."""
    path, settings = trigger.serialize()
    assert path == "airflow_kinesis_snowflake.triggers.lag.KinesisDrainedTrigger"
    async with asyncio.timeout(60):
        return await anext(aiter(KinesisDrainedTrigger(**settings).run()))


def test_a_stream_that_was_drained_since_the_run_began_needs_no_waiting(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline(2)
    pipeline.drain().run()
    assert sensor(pipeline).execute(context(began=datetime.now(UTC) - HOUR)) is None


def test_the_sensor_goes_on_when_a_drain_has_caught_up(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline(2)
    pipeline.drain(stop_at=datetime.now(UTC) - HOUR).run()
    waiting = sensor(pipeline, poke_interval=0.01)
    deferral = deferred(waiting)

    pipeline.drain().run()
    event = asyncio.run(event_of(deferral.trigger))

    assert deferral.method_name == "execute_complete"
    waiting.execute_complete(context(), event.payload)


def test_lag_is_measured_against_the_clock(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline()
    pipeline.drain(stop_at=datetime.now(UTC) - HOUR).run()
    assert sensor(pipeline, max_lag=2 * HOUR).execute(context()) is None
    deferred(sensor(pipeline, max_lag=HOUR / 2))


def test_an_application_that_has_not_begun_is_waited_for(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    deferred(sensor(make_pipeline(), until="2020-01-01T00:00:00Z"))


def test_a_sensor_can_wait_on_its_worker(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline()
    pipeline.drain().run()
    began = datetime.now(UTC) - HOUR
    assert sensor(pipeline, until=began, deferrable=False).poke(context()) is True
    assert sensor(pipeline, until=began + 2 * HOUR, deferrable=False).poke(context()) is False


def test_what_waiting_does_not_mend_fails_the_task(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
) -> None:
    pipeline = make_pipeline()
    pipeline.drain().run()
    deferral = deferred(sensor(pipeline))
    assert isinstance(deferral.trigger, KinesisDrainedTrigger)
    deferral.trigger.source.settings["aws_conn_id"] = "nowhere"
    event = asyncio.run(event_of(deferral.trigger))
    with pytest.raises(AirflowFailException, match="nowhere"):
        sensor(pipeline).execute_complete(context(), event.payload)


@pytest.mark.parametrize(
    "wrong",
    [{"until": "2026-01-01T00:00:00Z", "max_lag": HOUR}, {"until": "yesterday"}],
    ids=["both", "text"],
)
def test_a_moment_that_makes_no_sense_is_refused(
    make_pipeline: Callable[..., Pipeline],  # noqa: F811
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(InvalidSettingError):
        sensor(make_pipeline(), **wrong)
