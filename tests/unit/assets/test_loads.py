"""When DAGs that wait for a table are told that it changed, and what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.assets.loads import assets_of, table_uri, tell_consumers
from airflow_kinesis_snowflake.engine.report import DrainReport, totals
from airflow_kinesis_snowflake.identifiers import TableName

if TYPE_CHECKING:
    from airflow.sdk import AssetAlias

TABLE = TableName("ANALYTICS", "RAW", "CLICKS")
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"


class Events:
    """Outlet events, as the context of a task has them."""

    def __init__(self) -> None:
        self.added: list[tuple[str, str, Any]] = []

    def __getitem__(self, alias: AssetAlias) -> Any:
        events = self

        class Accessor:
            def add(self, asset: Any, extra: Any = None) -> None:
                events.added.append((alias.name, asset.uri, extra))

        return Accessor()


def report(*, records: int, start: str = "1-5f0c", account: str | None = "acme-prod") -> dict[str, Any]:
    made = DrainReport(
        "clicks", "app", str(TABLE), f"dag/run/drain/0#{start}", stream_arn=ARN, records=records, bytes=9
    )
    return made.as_dict() | {"assets": assets_of(made, account=account)}


def told(*reports: dict[str, Any]) -> list[tuple[str, str, Any]]:
    events = Events()
    tell_consumers(events, reports=reports, totals=totals(reports))
    return events.added


def test_a_report_names_its_assets_as_far_as_they_are_known() -> None:
    assert report(records=1)["assets"] == {
        "stream": "kinesis-stream://eu-west-1/123456789012/clicks",
        "table": "snowflake://acme-prod/ANALYTICS/RAW/CLICKS",
    }
    assert report(records=1, account=None)["assets"].keys() == {"stream"}


def test_the_uri_of_a_table_is_the_one_the_snowflake_provider_builds() -> None:
    assets = pytest.importorskip("airflow.providers.snowflake.assets.snowflake", exc_type=ImportError)
    built = assets.create_asset(account="acme-prod", database="ANALYTICS", schema="RAW", table="CLICKS")
    assert table_uri("acme-prod", TABLE) == built.uri


def test_all_workers_together_make_one_event_with_the_totals() -> None:
    [(alias, uri, extra)] = told(report(records=3), report(records=0), report(records=4))
    assert (alias, uri) == ("kinesis_to_snowflake", "snowflake://acme-prod/ANALYTICS/RAW/CLICKS")
    assert extra == {
        "records": 7,
        "bytes": 27,
        "batches": 0,
        "dead_letters": 0,
        "millis_behind_latest": 0,
        "stream_name": "clicks",
        "stream_arn": "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks",
        "application_name": "app",
    }


def test_a_run_that_found_nothing_tells_nobody() -> None:
    assert told(report(records=0), report(records=0)) == []
    assert told() == []


def test_a_retry_tells_of_what_the_try_before_it_may_have_loaded() -> None:
    assert len(told(report(records=0), report(records=0, start="2-77aa"))) == 1
