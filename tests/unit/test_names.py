"""A name means one thing in the whole package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "airflow_kinesis_snowflake"
MODULES = {
    path: path.relative_to(PACKAGE).parent.as_posix()
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem != "__init__"
}

# One concern in several layers: the outer ones are named after what they bring to Airflow, to the command
# line, or to AWS.
ONE_CONCERN = {
    "alerts": {"dag_factories", "notifications", "operators"},
    "audit": {"cli", "operators"},
    "aws": {"check", "hooks"},
    "backlog": {"sources", "triggers"},
    "backup": {"cli", "maintenance"},
    "check": {"cli", "dag_factories", "operators"},
    "consumers": {"hooks", "stream"},
    "cost": {"cli", "maintenance"},
    "dead_letters": {"dag_factories", "formats", "operators"},
    "drain": {"dag_factories", "engine"},
    "fan_out": {"hooks", "sources"},
    "iam": {"cli", "maintenance"},
    "kinesis_to_snowflake": {"example_dags", "links", "operators"},
    "lag": {"engine", "sensors", "triggers"},
    "sample": {"cli", "formats"},
    "schema_registry": {"formats", "hooks"},
    "settings": {"dag_factories", "engine", "operators"},
}


def repeated(named: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The names that are given more than once, and by whom."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, place in named:
        places[name].append(place)
    return {name: set(given) for name, given in places.items() if len(given) > 1}


def classes() -> Iterator[tuple[str, str]]:
    for path, layer in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield node.name, f"{layer}/{path.name}:{node.lineno}"


def module(path: Path) -> str:
    """What a module is called; a reset, a cleanup and a takeover have each a plan, and are read with it."""
    return f"{path.parent.name}.{path.stem}" if path.parent.parent.name == "maintenance" else path.stem


def test_no_two_classes_have_the_same_name() -> None:
    assert not repeated(classes())


def test_modules_have_the_same_name_only_for_one_concern_in_several_layers() -> None:
    assert repeated((module(path), layer) for path, layer in MODULES.items()) == ONE_CONCERN
