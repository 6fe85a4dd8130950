"""What a drain says of itself in the log."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_kinesis_snowflake.engine.intake import Acquisition
from airflow_kinesis_snowflake.engine.reader import ShardReader
from airflow_kinesis_snowflake.engine.report import (
    DrainReport,
    ShardReport,
    beginning,
    summary,
)
from airflow_kinesis_snowflake.engine.settings import DrainSettings
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"


@pytest.mark.parametrize(
    ("is_new", "start"), [(True, "new, from TRIM_HORIZON on"), (False, "known, from its checkpoints on")]
)
def test_the_first_line_says_from_where_until_when_which_shards_and_where_to(
    is_new: bool, start: str
) -> None:
    settings = DrainSettings(
        stream_name="clicks",
        application_name="clicks-to-snowflake",
        initial_position=TRIM_HORIZON,
        stop_at=datetime(2026, 11, 26, 14, tzinfo=UTC),
    )
    report = DrainReport(
        "clicks",
        "clicks-to-snowflake",
        str(TableName.parse("ANALYTICS.RAW.CLICKS")),
        "worker",
        stream_arn=ARN,
    )
    intaken = Acquisition(
        readers=tuple(
            ShardReader(ShardState(f"shardId-{number:012}"), committed=None, shard=None)
            for number in range(10)
        ),
        refused={},
        gaps=(),
        missed={},
        takeovers=(),
        surplus=0,
        left_some=False,
        held_by_others={"one": 2, "other": 1},
        listed=13,
    )
    assert beginning(settings, report, intaken, is_new=is_new, sink="copy") == (
        f'Draining {ARN} into "ANALYTICS"."RAW"."CLICKS" by copy, until 2026-11-26 14:00:00 UTC. '
        f"Application clicks-to-snowflake is {start}. 13 shards are listed, 3 leased by others, 10 by this "
        "worker: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    )


@pytest.mark.parametrize(
    ("held_by_others", "said"),
    [
        ({}, "Stream clicks has nothing new for loads: 1 shards checked in 0.0 s"),
        ({"node": 2, "other": 1}, "nothing new in the free shards for loads: 1 shards checked"),
        (
            {"node": 2, "other": 1},
            "; 3 shards were left to others that have leased them: node (2), other (1)",
        ),
    ],
)
def test_nothing_new_is_said_of_what_was_looked_at_only(held_by_others: dict[str, int], said: str) -> None:
    report = DrainReport("clicks", "loads", "table", "worker", shards={"shard": ShardReport()})
    report.held_by_others = held_by_others

    assert said in summary(report)
