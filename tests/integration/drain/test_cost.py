"""What a drain costs in calls to Kinesis, DynamoDB and Snowflake, for any number of shards."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from benchmarks.backlog import STREAM, Backlog
from benchmarks.contenders import aws_connection
from benchmarks.measuring import calls, replaying

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.services import LocalServices
    from tests.faults.proxy import Action, Answer, FaultProxy, Forward, Request
    from tests.integration.drain.conftest import Pipeline

pytest_plugins = ["tests.faults.fixtures"]

RECORDS_OF_A_SHARD = 2


@pytest.fixture
def statements(snowflake_proxy: FaultProxy) -> Counter[str]:
    """How often each kind of statement reaches Snowflake, by its first word."""
    counted: Counter[str] = Counter()

    async def count(request: Request, forward: Forward) -> Answer:
        # Where storage is reached by presigned URLs, the connector asks for one with a second PUT by itself.
        if not request.sql.startswith("PUT 'file://landing.parquet'"):
            counted[request.sql.split()[0]] += 1
        return await forward(request)

    action: Action = count
    snowflake_proxy.add(action, sql=".")
    return counted


@pytest.mark.parametrize("shards", [1, 16])
def test_a_drain_makes_as_few_calls_as_it_can(
    shards: int,
    statements: Counter[str],
    services: LocalServices,
    make_pipeline: Callable[..., Pipeline],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlog = Backlog(shards=shards, records=RECORDS_OF_A_SHARD)
    pipeline = make_pipeline()
    pipeline.stream = STREAM
    with replaying(backlog, dynamodb=services.dynamodb_url) as url:
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(url))
        first = pipeline.drain().run()
        assert (first.records, first.batches) == (backlog.total_records, 1)
        load = ("PUT", "BEGIN", "COPY", "UPDATE", "COMMIT", "ROLLBACK")
        # The lock and the compare-and-set; the MERGE has a COMMIT of its own.
        assert [statements[name] for name in load] == [1, 1, 1, 2, 2, 0]
        assert statements["MERGE"] == 1
        # Made, taken, confirmed, saved, released; and a heartbeat.
        assert calls(url)["UpdateItem"] == 5 * shards + 1

        statements.clear()
        before = Counter(calls(url))
        idle = pipeline.drain().run()
        made = Counter(calls(url)) - before
        assert (idle.records, len(idle.shards)) == (0, shards)
        assert not statements
        assert made == {
            "DescribeStreamSummary": 1,
            "ListShards": 1,
            "GetShardIterator": shards,
            "GetRecords": shards,
            "DescribeTable": 1,
            "Query": 1,
            "UpdateItem": 2 * shards + 1,
            "DeleteItem": 1,
        }
