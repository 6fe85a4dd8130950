"""The documentation as a folder of files: nothing comes from elsewhere, and its search finds something."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [".venv-docs/bin/mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


@pytest.mark.parametrize("start", ["index.html", "reference/hooks.html"])
def test_the_search_works_in_a_folder(open_page: Callable[..., Page], site: Path, start: str) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto((site / start).as_uri())
    page.get_by_role("textbox", name="Search").click()
    page.get_by_role("textbox", name="Search").press_sequentially("dead letter")
    page.locator(".md-search-result__link", has_text="What becomes a dead letter").first.click()

    page.wait_for_url("**/bad-records.html*")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
