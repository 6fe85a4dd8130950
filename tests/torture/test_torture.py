"""Some minutes of torture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.sinks.snowflake.factories import STREAMING
from tests.torture.journal import Journal
from tests.torture.torture import Plan, Torture, report

if TYPE_CHECKING:
    from pathlib import Path

    from local.services import LocalServices

pytestmark = pytest.mark.torture


@pytest.mark.parametrize(
    "how", [{}, {"fan_out": True}, {"sink": STREAMING}], ids=["polling", "fan-out", "streaming"]
)
def test_every_record_lands_once_and_in_order_whatever_happens(
    services: LocalServices, tmp_path: Path, how: dict[str, Any]
) -> None:
    plan = Plan(seed=random.SystemRandom().getrandbits(32), seconds=75, **how)
    outcome = Torture(plan, services, Journal(tmp_path / "journal.jsonl")).run()
    assert outcome.good, report(plan, outcome)
    assert outcome.figures["killed"] > 0
    assert outcome.figures["pauses"] > 0
    assert outcome.figures["takeovers"] > 0
    assert any(fault.startswith("snowflake itself") for fault in +outcome.faults)
