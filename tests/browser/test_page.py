"""The page in a browser, on made-up applications: what it shows at any size, in any theme, by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.stage import HOSTILE, REASON, shard_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Dialog, Page, ViewportSize

    from tests.browser.stage import Stage

    OpenPage = Callable[..., Page]
    Picture = Callable[[Page, str], None]

pytestmark = pytest.mark.browser


def application(stage: Stage, name: str) -> str:
    return f"{stage.url}/?{urlencode({'application': name, 'stream': 'any'})}"


def test_the_list_puts_what_needs_somebody_first(stage: Stage, open_page: OpenPage, picture: Picture) -> None:
    page = open_page()
    page.goto(stage.url)
    expect(page.locator("tbody th a")).to_have_text(
        [
            "orders-to-snowflake",
            "refunds-to-snowflake",
            "telemetry-to-snowflake",
            "clicks-to-snowflake",
            "fraud",
            "legacy-to-snowflake",
            "payments",
            "prices-to-snowflake",
            "audit",
        ]
    )
    expect(page.locator(".lead")).to_have_text("9 applications: 7 need a look, 1 draining, 1 caught up")
    picture(page, "list")


def test_a_stuck_shard_is_chosen_and_told_with_its_family(
    stage: Stage, open_page: OpenPage, picture: Picture
) -> None:
    page = open_page()
    page.goto(application(stage, "orders-to-snowflake"))
    expect(page.locator(".sentence")).to_have_text(f"1 shard stuck, 2 h 10 min behind: {shard_id(5)}")
    details = page.get_by_role("complementary", name="The chosen shard")
    expect(details).to_contain_text("3 drains in a row loaded nothing from it")
    expect(details).to_contain_text("Shard 1")
    expect(page.locator(".lineage .line.near")).to_have_count(4)
    expect(page.locator(".drain")).to_have_count(27)
    page.locator("h2", has_text="Shards").scroll_into_view_if_needed()
    page.locator(".drawing").evaluate("each => each.closest('section').scrollIntoView()")
    picture(page, "shards")


def test_the_page_works_by_keyboard_alone(stage: Stage, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(application(stage, "orders-to-snowflake"))
    chosen = page.locator(".shard.selected")
    expect(chosen).to_have_attribute("data-shard", shard_id(5))
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.shard"):
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(chosen).to_have_attribute("data-shard", shard_id(7))
    expect(page.locator(":focus")).to_have_attribute("data-shard", shard_id(7))
    page.get_by_role("button", name="Reset…", exact=True).press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_form_of_a_reset_is_filled_in_and_asks_for_what_its_method_needs(
    stage: Stage, open_page: OpenPage, picture: Picture
) -> None:
    page = open_page()
    page.goto(application(stage, "orders-to-snowflake"))
    page.get_by_role("button", name="Reset this shard…").click()
    expect(page.get_by_label("Shards", exact=True)).to_have_value(shard_id(5))
    expect(page.get_by_label("Landing table", exact=True)).to_have_value("RAW.KINESIS.EVENTS")
    expect(page.get_by_label("New application name", exact=True)).to_be_hidden()
    picture(page, "reset-form")
    page.get_by_label("Method", exact=True).select_option("rename")
    expect(page.get_by_label("New application name", exact=True)).to_be_visible()
    expect(page.get_by_label("Shards", exact=True)).to_be_hidden()


def test_five_hundred_shards_fit_and_can_be_searched(
    stage: Stage, open_page: OpenPage, picture: Picture
) -> None:
    page = open_page("dark")
    page.goto(application(stage, "telemetry-to-snowflake"))
    expect(page.locator(".cells .shard")).to_have_count(500)
    expect(page.locator(".shards tbody tr")).to_have_count(60)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator(".drawing").evaluate("each => each.closest('section').scrollIntoView()")
    picture(page, "500-shards")
    page.get_by_role("searchbox").press_sequentially("0333")
    expect(page.locator(".shards tbody tr")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Show all 500").click()
    expect(page.locator(".shards tbody tr")).to_have_count(500)


def test_one_shard_is_drawn_too(stage: Stage, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(application(stage, "audit"))
    expect(page.locator(".sentence")).to_have_text("Caught up 3 min ago")
    expect(page.locator(".boxes .shard")).to_have_count(1)


def test_without_dynamodb_the_page_says_so_and_shows_what_drains_said(
    stage: Stage, open_page: OpenPage
) -> None:
    page = open_page()
    page.goto(application(stage, "payments"))
    expect(page.locator(".sentence")).to_contain_text("its state in DynamoDB can't be read")
    expect(page.locator(".notice.bad")).to_contain_text("Could not connect to the endpoint")
    expect(page.locator(".drain")).to_have_count(12)


def test_an_empty_airflow_says_what_to_do(
    stage: Stage, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "listed", [])
    page = open_page()
    page.goto(stage.url)
    expect(page.get_by_role("heading", level=2)).to_have_text("Nothing has been drained yet")


def test_names_are_text_whatever_they_hold(
    stage: Stage, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "listed", [HOSTILE])
    page = open_page()
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto(stage.url)
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator("img")).to_have_count(0)
    assert dialogs == []


def test_the_theme_follows_airflows_choice_else_the_system(stage: Stage, open_page: OpenPage) -> None:
    page = open_page("dark")
    background = "getComputedStyle(document.body).backgroundColor"
    page.goto(stage.url)
    dark = page.evaluate(background)
    page.evaluate("localStorage.setItem('theme', 'light')")
    page.reload()
    assert page.evaluate(background) != dark


VIEWS = (
    "", "orders-to-snowflake", "telemetry-to-snowflake", "clicks-to-snowflake", "refunds-to-snowflake",
    "fraud", "legacy-to-snowflake", "payments", "prices-to-snowflake", "audit", HOSTILE,
)  # fmt: skip
PHONE: ViewportSize = {"width": 400, "height": 800}


def opened(
    stage: Stage, open_page: OpenPage, name: str, *, scheme: str = "light", phone: bool = False
) -> Page:
    page = open_page(scheme)
    if phone:
        page.set_viewport_size(PHONE)
    page.goto(application(stage, name) if name else stage.url)
    page.locator("h1").wait_for()
    if name not in {"", "orders-to-snowflake"}:
        page.locator(".drains tbody tr").first.wait_for()
    return page


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS, ids=lambda name: name or "list")
def test_axe_finds_nothing(stage: Stage, open_page: OpenPage, scheme: str, name: str, phone: bool) -> None:
    page = opened(stage, open_page, name, scheme=scheme, phone=phone)
    for details in page.locator("details").all():
        details.locator("summary").click()
    assert violations(page) == []


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("button", ["Run now…", "Reset…", "Clean up tables…", "Replay…"])
def test_axe_finds_nothing_in_a_form(stage: Stage, open_page: OpenPage, button: str, phone: bool) -> None:
    page = opened(stage, open_page, "refunds-to-snowflake", phone=phone)
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []


def test_axe_finds_nothing_where_there_is_nothing(
    stage: Stage, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "listed", [])
    assert violations(opened(stage, open_page, "")) == []


def test_axe_would_find_something(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "audit")
    page.evaluate("document.querySelector('label').replaceWith(document.querySelector('label select'))")
    assert any(found.startswith("select-name: ") for found in violations(page))


@pytest.mark.parametrize("name", VIEWS, ids=lambda name: name or "list")
def test_on_a_phone_nothing_is_cut_or_out_of_sight(stage: Stage, open_page: OpenPage, name: str) -> None:
    page = opened(stage, open_page, name, phone=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(OUT_OF_SIGHT) == []


# Cells, labels and texts of drawings that stand beyond the window's edges, or don't fit their own place.
OUT_OF_SIGHT = """() => [...document.querySelectorAll("td, th, .fact, p, button, label, svg text")]
  .filter((each) => each.checkVisibility())
  .filter((each) => {
    const { left, right } = each.getBoundingClientRect();
    const cut = each.clientWidth && each.scrollWidth > each.clientWidth + 1;
    return left < 0 || right > window.innerWidth || cut;
  })
  .map((each) => each.textContent.slice(0, 60))"""


def test_every_column_is_there_on_a_phone_with_its_name(stage: Stage, open_page: OpenPage) -> None:
    wide = opened(stage, open_page, "refunds-to-snowflake").locator(".drains thead th").all_inner_texts()
    row = opened(stage, open_page, "refunds-to-snowflake", phone=True).locator(".drains tbody tr").first
    labels = row.locator("td, th").evaluate_all("cells => cells.map((each) => each.dataset.label)")
    assert labels == wide
    for cell in row.locator("td, th").all():
        expect(cell).to_be_visible()


def test_a_failure_says_why_and_leads_to_its_log(stage: Stage, open_page: OpenPage, picture: Picture) -> None:
    page = opened(stage, open_page, "refunds-to-snowflake")
    box = page.locator(".state.bad")
    expect(box.locator(".reason")).to_contain_text(REASON)
    log = box.get_by_role("link", name="Open the log of drain[2]")
    expect(log).to_have_attribute("href", "/dags/drain_refunds/runs/scheduled__now/tasks/drain/mapped/2")
    expect(box.locator(".since")).to_contain_text(f"There is something to drain: {shard_id(0)} has records.")
    picture(page, "failure")


def test_times_are_of_airflows_time_zone_which_is_named(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "audit")
    expect(page.locator("#foot")).to_contain_text("Times are of UTC")
    page.evaluate("""localStorage.setItem("timezone", '"Asia/Tokyo"')""")
    page.reload()
    expect(page.locator("#foot")).to_contain_text(
        "As of 09:00:00, refreshed every 15 s. Times are of Asia/Tokyo"
    )
    expect(page.locator(".drains tbody th").first).to_have_text("1 Jan, 08:56:20")


def test_a_drain_that_follows_says_until_when_in_that_zone(
    stage: Stage, open_page: OpenPage, picture: Picture
) -> None:
    page = opened(stage, open_page, "prices-to-snowflake")
    expect(page.locator(".sentence")).to_have_text("Following until 00:30, 12,345 records so far")
    picture(page, "following")
    page.evaluate("""localStorage.setItem("timezone", '"Asia/Tokyo"')""")
    page.goto(stage.url)
    expect(page.get_by_role("row", name="prices-to-snowflake")).to_contain_text("Following until 09:30")


def test_the_list_can_be_sorted_searched_and_filtered(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "")
    names = page.locator("tbody th a")
    page.get_by_role("button", name="Dead letters").click()
    expect(names.first).to_have_text("refunds-to-snowflake")
    expect(page.get_by_role("columnheader", name="Dead letters")).to_have_attribute("aria-sort", "descending")
    page.get_by_role("button", name="Application").click()
    expect(names.first).to_have_text("audit")
    page.get_by_role("searchbox").fill("clicks lease")
    expect(names).to_have_text(["clicks-to-snowflake"])
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox", name="Show").select_option("good")
    expect(names).to_have_text(["audit"])
    names.first.click()
    page.get_by_role("link", name="← All applications").click()
    expect(page.locator("tbody th a")).to_have_text(["audit"])


def test_what_is_gone_can_be_dismissed_and_shown_again(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "")
    assert page.get_by_role("button", name="Dismiss").count() == 1
    page.get_by_role("button", name="Dismiss legacy-to-snowflake").click()
    gone = page.get_by_role("link", name="legacy-to-snowflake")
    expect(gone).to_have_count(0)
    page.reload()
    page.get_by_role("button", name="Show 1 dismissed").click()
    expect(gone).to_have_count(1)
    page.get_by_role("button", name="Show it again").click()
    expect(page.get_by_role("button", name="Dismiss legacy-to-snowflake")).to_be_visible()


def test_dead_letters_show_their_reasons_sql_to_copy_and_a_replay(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "refunds-to-snowflake")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    card = page.locator("section", has=page.get_by_role("heading", name="Dead letters"))
    expect(card.locator("tbody tr").first).to_contain_text("not JSON: it begins with 0x1f, as gzip does")
    card.get_by_text("SQL: how many of which reason").click()
    card.get_by_role("button", name="Copy the SQL for reasons").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert 'FROM "RAW"."KINESIS"."KINESIS_DEAD_LETTERS"' in copied
    assert """WHERE "APPLICATION" = 'refunds-to-snowflake' AND "STREAM" = 'refunds'""" in copied
    card.get_by_role("button", name="Replay these…").first.click()
    page.get_by_role("button", name="Replay", exact=True).click()
    expect(page.get_by_text("The run has begun.")).to_be_visible()
    _, path, body = stage.asked[-1]
    assert path == "/api/v2/dags/kinesis_dead_letter_replay/dagRuns"
    assert body["conf"]["reason"] == "not JSON: it begins with 0x1f, as gzip does"
    assert body["conf"]["application_name"] == "refunds-to-snowflake"


def test_without_a_clipboard_copying_works_as_by_hand(stage: Stage, open_page: OpenPage) -> None:
    page = open_page()
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(application(stage, "audit"))
    button = page.get_by_role("button", name="Copy the application's name")
    button.click()
    expect(button).to_have_text("Copied")


def test_the_dag_can_be_started_with_the_settings_of_the_last_run_and_paused(
    stage: Stage, open_page: OpenPage
) -> None:
    page = opened(stage, open_page, "audit")
    page.get_by_role("button", name="Run now…").click()
    settings = page.get_by_label("Settings", exact=True)
    expect(settings).to_have_value('{\n  "workers": 2\n}')
    settings.fill("[1]")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("The settings must be an object")).to_be_visible()
    settings.fill('{"workers": 3}')
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("The run has begun.")).to_be_visible()
    started: tuple[str, str, Any] = (
        "POST",
        "/api/v2/dags/drain_audit/dagRuns",
        {"logical_date": None, "conf": {"workers": 3}},
    )
    assert stage.asked[-1] == started
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Pause the DAG").click()
    expect(page.locator(".told")).to_have_text("drain_audit is paused. A run that has begun goes on.")
    assert stage.asked[-1] == ("PATCH", "/api/v2/dags/drain_audit", {"is_paused": True})


def test_a_week_of_runs_is_shown_by_spans_of_time(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "audit")
    page.get_by_role("combobox", name="Show").select_option("7")
    expect(page.locator(".drain")).to_have_count(96)
    expect(page.get_by_text("1,008 runs, as of")).to_be_visible()
    expect(page.get_by_text("The newest 200 of 1,008 runs.")).to_be_visible()
    expect(page.locator(".drain.failed")).to_have_count(1)
    page.locator(".drain.failed").hover()
    expect(page.locator(".readout")).to_contain_text("1 failed")
    page.get_by_role("combobox", name="Show").select_option("days")
    page.locator("input[type=date]").first.fill("2025-12-01")
    page.locator("input[type=date]").last.fill("2025-12-31")
    expect(page.locator(".drain")).to_have_count(96)
    page.get_by_role("combobox", name="Show").select_option("")
    expect(page.locator(".drain")).to_have_count(12)


def test_who_else_holds_shards_is_told_when_a_drain_found_nothing(stage: Stage, open_page: OpenPage) -> None:
    page = opened(stage, open_page, "fraud")
    expect(page.locator(".sentence")).to_have_text(
        "The last drain found nothing new in the free shards; 3 shards were held by openflow-6f1c"
    )
