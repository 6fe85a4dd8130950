"""Finding streams in a local Kinesis."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.hooks.streams import KinesisStreamsHook

if TYPE_CHECKING:
    from collections.abc import Callable


def test_streams_of_more_than_one_page_are_found(make_stream: Callable[..., str], aws_conn: str) -> None:
    # This Kinesis answers ten at a time, and without NextToken.
    streams = sorted(make_stream() for _ in range(21))

    found = KinesisStreamsHook(aws_conn_id=aws_conn).find(pattern="|".join(map(re.escape, streams)))

    assert found == streams
