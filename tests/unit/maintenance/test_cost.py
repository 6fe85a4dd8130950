"""What a pipeline costs a day, as docs/cost.md says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.cli import main
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.cost import (
    ONE_FILE_MEGABYTES,
    Volume,
    copy_usd,
    firehose_usd,
    following_state_usd,
    in_usd,
    openflow_usd,
    state_usd,
    streaming_usd,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

COST = Path(__file__).resolve().parents[3] / "docs" / "cost.md"
VOLUMES = [Volume(gb_per_day=gb) for gb in (1, 50, 1_000)]
SMALL = [Volume(gb_per_day=gb, record_kilobytes=0.65) for gb in (1, 50, 1_000)]
ROWS: dict[str, Sequence[float | None]] = {
    "COPY on an XS of its own, one file a batch": [
        copy_usd(volume, megabytes_a_second=ONE_FILE_MEGABYTES) for volume in VOLUMES
    ],
    "COPY, eight files and the vectorized scanner": [copy_usd(volume) for volume in VOLUMES],
    "Snowpipe Streaming": [streaming_usd(volume) for volume in VOLUMES],
    "Openflow on Snowflake": [openflow_usd(volume) for volume in VOLUMES],
    "Firehose, records of 5 KB": [firehose_usd(volume) for volume in VOLUMES],
    "Firehose, records of 0.65 KB": [firehose_usd(volume) for volume in SMALL],
}


@pytest.mark.parametrize("row", ROWS)
def test_the_table_of_the_page_is_what_the_functions_say(row: str) -> None:
    assert f"| {row} | {' | '.join(map(in_usd, ROWS[row]))} |" in COST.read_text()


def test_the_interval_decides_what_a_warehouse_costs_until_it_never_sleeps() -> None:
    costs = [copy_usd(Volume(gb_per_day=1, interval=minutes)) for minutes in (60, 10, 1, 0.5)]
    assert costs == pytest.approx([1.2, 7.2, 72.0, 72.0])


def test_streaming_costs_the_same_at_any_interval() -> None:
    assert streaming_usd(Volume(gb_per_day=7, interval=1)) == streaming_usd(Volume(gb_per_day=7, interval=60))


def test_state_costs_by_shards_and_more_when_a_drain_follows() -> None:
    few, many = Volume(gb_per_day=1, shards=4), Volume(gb_per_day=1, shards=64)
    assert state_usd(few) < state_usd(many) < following_state_usd(few) < following_state_usd(many)


@pytest.mark.parametrize(
    "wrong", [{"gb_per_day": 0}, {"interval": -1}, {"shards": 0}, {"credit": float("nan")}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError, match=next(iter(wrong))):
        Volume(**{"gb_per_day": 1.0} | wrong)


def test_the_command_prints_every_way_with_its_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["cost", "--gb-per-day", "50", "--interval", "10", "--shards", "16", "--output", "json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["usd_per_day"]["COPY, a drain every 10 min"] == pytest.approx(7.2)
    assert answer["volume"]["shards"] == 16
    assert answer["assumptions"]
