"""What a drain says of itself in the log."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_kinesis_snowflake.drain.intake import Intaken
from airflow_kinesis_snowflake.drain.report import DrainReport, beginning
from airflow_kinesis_snowflake.drain.settings import DrainSettings
from airflow_kinesis_snowflake.landing.identifiers import TableName
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
        table=TableName.parse("ANALYTICS.RAW.CLICKS"),
        initial_position=TRIM_HORIZON,
        stop_at=datetime(2026, 11, 26, 14, tzinfo=UTC),
    )
    report = DrainReport("clicks", "clicks-to-snowflake", "table", "worker", stream_arn=ARN)
    intaken = Intaken(
        readers=(),
        refused={},
        gaps=(),
        missed={},
        takeovers=0,
        surplus=0,
        left_some=False,
        held_by_others={"one": 2, "other": 1},
        listed=4,
    )
    assert beginning(settings, report, intaken, is_new=is_new) == (
        f'Draining {ARN} into "ANALYTICS"."RAW"."CLICKS" by COPY, until 2026-11-26 14:00:00 UTC. '
        f"Application clicks-to-snowflake is {start}. 4 shards are listed, 0 leased by this worker, "
        "3 by others"
    )
