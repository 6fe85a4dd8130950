"""The page in a browser, on made-up applications: what it shows at any size, in any theme, by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from tests.browser.stage import HOSTILE, shard_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

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
            "telemetry-to-snowflake",
            "clicks-to-snowflake",
            "payments",
            "audit",
        ]
    )
    expect(page.locator(".lead")).to_have_text("5 applications: 4 need a look, 1 caught up")
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
    expect(page.get_by_label("New application", exact=True)).to_be_hidden()
    picture(page, "reset-form")
    page.get_by_label("Method", exact=True).select_option("rename")
    expect(page.get_by_label("New application", exact=True)).to_be_visible()
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
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["", "orders-to-snowflake", "clicks-to-snowflake", "audit"])
def test_text_has_enough_contrast(stage: Stage, open_page: OpenPage, scheme: str, name: str) -> None:
    page = open_page(scheme)
    page.goto(application(stage, name) if name else stage.url)
    page.locator("h1").wait_for()
    assert page.evaluate(CONTRAST) == []


# Every text whose contrast with what is behind it is below 4.5, as WCAG 2 has it for text of this size.
CONTRAST = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parse(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!colour.startsWith("rgba") || parse(colour)[3] === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *:not(svg, svg *)")) {
    const own = [...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!own || element.disabled || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) weak.push(`${element.textContent.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return weak;
}"""
