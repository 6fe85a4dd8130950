"""The forms of the DAGs, as Airflow's UI shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.test_airflow import log_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Request

    from local.airflow import LocalAirflow

pytestmark = pytest.mark.browser

DRAIN, RESET = "kinesis_to_snowflake", "kinesis_state_reset"


def open_form(page: Page, airflow: LocalAirflow, dag_id: str) -> None:
    page.goto(f"{airflow.url}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    expect(page.get_by_role("button", name="Run Parameters")).to_be_visible()


def test_forms_have_sections_marks_and_words(
    airflow: LocalAirflow, open_page: Callable[..., Page], picture: Callable[[Page, str], None]
) -> None:
    for dag_id in (DRAIN, RESET):
        airflow.api().wait_for_dag(dag_id)
    page = open_page()
    log_in(page, airflow)

    open_form(page, airflow, RESET)
    expect(page.get_by_text("This field is required")).to_have_count(2)
    expect(page.get_by_text("rewind: set shards to a position")).to_be_visible()
    picture(page, "reset-form")

    open_form(page, airflow, DRAIN)
    expect(page.get_by_text("Required, here or in the Variable kinesis_to_snowflake_table")).to_be_visible()
    for section in ("Start and end", "Payloads", "Mapping", "Batches", "Dead letters and data loss"):
        page.get_by_role("button", name=section, exact=True).click()
    page.get_by_role("button", name="Mapping", exact=True).click()
    page.locator("#element_unknown_keys").click()
    for shown in ("Default", "Ignore them", "Make the record a dead letter"):
        expect(page.get_by_role("option", name=shown, exact=True)).to_be_visible()
    expect(page.get_by_role("option", name="null")).to_have_count(0)
    picture(page, "drain-form")
    page.get_by_role("option", name="Ignore them", exact=True).click()

    triggered: list[Request] = []
    page.on("request", lambda request: triggered.append(request) if is_trigger(request) else None)
    with page.expect_response(lambda response: is_trigger(response.request)):
        page.get_by_role("button", name="Trigger").last.click()
    [request] = triggered
    conf = json.loads(request.post_data or "{}")["conf"]
    assert {name: value for name, value in conf.items() if value is not None} == {"unknown_keys": "ignore"}


def is_trigger(request: Request) -> bool:
    return bool(request.method == "POST" and request.url.endswith("/dagRuns"))
