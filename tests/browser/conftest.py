"""A headless Chromium, and what it looks at: the stage, and a whole Airflow."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import expect, sync_playwright

from local.airflow import LocalAirflow
from tests.browser.stage import on_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

    from local.services import LocalServices
    from tests.browser.stage import Stage

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
SIZE: ViewportSize = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium: playwright's own needs a download."""
    chromium = shutil.which("chromium")
    assert chromium, "install the Debian package chromium"
    # Two cores that also run an Airflow take their time.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        # Chromium's own sandbox doesn't work as root; only local pages are opened.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Function that opens an empty page, of a given colour scheme; at the end no script may have failed."""
    contexts: list[BrowserContext] = []
    failures: list[str] = []

    def open_it(scheme: Literal["dark", "light"] = "light") -> Page:
        context = browser.new_context(viewport=SIZE, color_scheme=scheme)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert failures == []


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with on_stage() as stage:
        yield stage


@pytest.fixture(scope="session")
def airflow(services: LocalServices) -> Iterator[LocalAirflow]:
    env = {**services.airflow_connections(), "KINESIS_TO_SNOWFLAKE_SCHEDULE": "none"}
    with LocalAirflow(env=env) as airflow:
        yield airflow


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], None]:
    """Function that takes a picture of a page; with ``KEEP_PICTURES`` set, those of README and docs."""
    folder = PICTURES if os.environ.get("KEEP_PICTURES") else tmp_path

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return keep
