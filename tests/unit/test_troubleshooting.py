"""The page for those whose task has failed knows every error, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"


def tree(error: type[Exception]) -> set[str]:
    return {error.__name__}.union(*map(tree, error.__subclasses__()))


def test_each_error_has_its_heading_and_each_heading_its_error() -> None:
    errors = {name for name in tree(KinesisSnowflakeError) if not name.startswith("_")}
    assert sorted(re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE)) == sorted(errors)


def test_each_error_is_explained() -> None:
    _, *sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)
    assert [section.split("\n")[0] for section in sections if len(section.split()) < 10] == []
