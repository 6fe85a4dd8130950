"""The page of promises names tests that exist, and leaves no promise out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text()
_, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
PROMISES = {section.split("\n")[0]: section for section in SECTIONS}
NAME = re.compile(r"`(tests/[\w/]+\.py|test_\w+)`")


def named(section: str) -> list[tuple[str, str]]:
    """Each test that a section names, with the file named before it."""
    found, file = [], ""
    for name in NAME.findall(section):
        if name.startswith("tests/"):
            file = name
        else:
            found.append((file, name))
    return found


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_its_section() -> None:
    assert [heading.split(". ")[0] for heading in PROMISES] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_shown_by_tests_that_exist(promise: str) -> None:
    tests = named(PROMISES[promise])
    assert tests
    assert [f"{file}: {name}" for file, name in tests if name not in functions(ROOT / file)] == []


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_says_what_only_a_real_account_can_show(promise: str) -> None:
    assert PROMISES[promise].count("\nOnly your account: ") == 1


def test_every_folder_and_file_that_is_named_exists() -> None:
    paths = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert [path for path in paths if not (ROOT / path).exists()] == []
