"""A stream whose records are pushed, by a stand-in that does what a test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.fan_out import FanOut
from tests.faults.fixtures import detour, lead_airflow_there

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.services import LocalServices

__all__ = ["detour"]


@pytest.fixture
def fan_out(detour: LocalServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[FanOut]:
    """The stand-in before the local Kinesis; Airflow's connections lead there."""
    with FanOut(detour.kinesis_url) as server:
        detour.kinesis_url = server.url
        lead_airflow_there(detour, monkeypatch)
        yield server
