"""The page in the UI of a whole Airflow: from the login to a reset that a person approved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

from local import flights
from local.airflow import USER
from local.transfer import DAG_ID, transfer
from tests.browser.conftest import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_kinesis import KinesisClient
    from playwright.sync_api import Page

    from local.airflow import LocalAirflow
    from local.services import LocalServices

pytestmark = pytest.mark.browser

RESET = "kinesis_state_reset"
RECORDS = 1_500


def test_a_resharded_stream_is_seen_reset_and_drained_again(
    services: LocalServices, airflow: LocalAirflow, kinesis: KinesisClient, table: str,
    open_page: Callable[..., Page], picture: Callable[[Page, str], None], tmp_path: Path,
) -> None:  # fmt: skip
    flights.put(kinesis, "flights", flights.january().head(RECORDS))
    conf = {"stream_name": "flights", "application_name": "flights-to-snowflake", "table": table}
    api = airflow.api()
    transfer(api, services, conf=conf)
    api.wait_for_dag(RESET)
    page = open_page()

    log_in(page, airflow)
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Kinesis to Snowflake").click()
    shown = page.frame_locator("iframe")
    expect(shown.locator(".lead")).to_have_text("1 application: 1 caught up")

    shown.get_by_role("link", name="flights-to-snowflake").click()
    expect(shown.locator(".sentence")).to_contain_text("Caught up")
    expect(shown.locator(".boxes .shard")).to_have_count(flights.SHARDS + 2)
    expect(shown.locator(".lineage .line")).to_have_count(2)
    expect(shown.locator(".shard.ended")).to_have_count(1)
    shown.get_by_role("button", name="Check with Kinesis").click()
    expect(shown.get_by_text("with Kinesis", exact=True)).to_be_visible()
    shown.locator(".shard.ended").click()
    page.set_viewport_size({"width": SIZE["width"], "height": 1180})
    expect(shown.locator(".since")).to_be_visible()
    shown.locator("h1").scroll_into_view_if_needed()
    picture(page, "application")
    page.set_viewport_size(SIZE)

    page.goto(f"{airflow.url}/plugin/kinesis-snowflake?application=flights-to-snowflake&stream=flights")
    expect(shown.locator("h1")).to_have_text("flights-to-snowflake")
    shown.get_by_role("button", name="Reset…", exact=True).click()
    expect(shown.get_by_label("Stream", exact=True)).to_have_value("flights")
    expect(shown.get_by_label("Landing table")).to_have_value(table)
    shown.get_by_label("Position", exact=True).fill("TRIM_HORIZON")
    shown.get_by_label("Backup folder").fill(str(tmp_path))
    shown.get_by_role("button", name="Make the plan").click()
    shown.get_by_role("link", name="Look at the plan, then approve or reject it").click()
    page.wait_for_url("**/required_actions")
    approve = page.get_by_role("button", name="Approve")
    expect(approve).to_be_visible(timeout=120_000)
    expect(page.get_by_text("Reset flights-to-snowflake on flights?").first).to_be_visible()
    picture(page, "approval")
    run_id = unquote(page.url.partition("/runs/")[2].partition("/")[0])
    airflow.wait_until_noticed(RESET, run_id, "approve")
    approve.click()
    api.wait_for_run(RESET, run_id)

    again = transfer(api, services, conf=conf)
    assert again.records == RECORDS
    page.goto(f"{airflow.url}/plugin/kinesis-snowflake?application=flights-to-snowflake&stream=flights")
    expect(shown.locator(".drain")).to_have_count(2)
    expect(shown.locator(".readout")).to_contain_text(f"{RECORDS:,} records")


def test_a_drain_is_started_and_its_dag_paused_from_the_page(
    services: LocalServices, airflow: LocalAirflow, kinesis: KinesisClient, make_stream: Callable[..., str],
    application_name: str, table: str, open_page: Callable[..., Page],
) -> None:  # fmt: skip
    stream = make_stream()
    kinesis.put_record(StreamName=stream, Data=b"{}", PartitionKey="k")
    conf = {"stream_name": stream, "application_name": application_name, "table": table}
    api = airflow.api()
    transfer(api, services, conf=conf)
    page = open_page()
    log_in(page, airflow)
    address = f"{airflow.url}/plugin/kinesis-snowflake?application={application_name}&stream={stream}"
    page.goto(address)
    shown = page.frame_locator("iframe")
    expect(shown.locator(".since")).to_contain_text("No new records.")

    shown.get_by_role("button", name="Run now…").click()
    assert json.loads(shown.get_by_label("Settings", exact=True).input_value()) == conf
    shown.get_by_role("button", name="Run", exact=True).click()
    shown.get_by_role("link", name="Look at the run").click()
    page.wait_for_url("**/runs/**")
    api.wait_for_run(DAG_ID, unquote(page.url.partition("/runs/")[2].partition("/")[0]))

    page.goto(address)
    expect(shown.locator(".drain")).to_have_count(2)
    shown.get_by_role("button", name="Pause the DAG").click()
    expect(shown.get_by_role("button", name="Unpause the DAG")).to_be_visible()
    expect(shown.locator(".sentence")).to_contain_text("Paused")


def log_in(page: Page, airflow: LocalAirflow) -> None:
    page.goto(airflow.url)
    page.locator("input[name=username]").fill(USER)
    page.locator("input[name=password]").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Browse").wait_for()
