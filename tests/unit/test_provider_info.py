"""The provider's description is one that Airflow accepts, and what it names exists."""

from __future__ import annotations

import importlib
import importlib.util
import json
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

from airflow_kinesis_snowflake.get_provider_info import get_provider_info
from airflow_kinesis_snowflake.links.kinesis_to_snowflake import LINKS

INFO = get_provider_info()
MODULES = [
    module
    for kind in ("hooks", "operators", "triggers", "sensors")
    for entry in INFO[kind]
    for module in entry["python-modules"]
]


def test_the_description_is_valid_for_airflow() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    jsonschema.validate(INFO, schema)


def test_airflow_finds_the_description_under_the_name_of_the_distribution() -> None:
    entries = entry_points(group="apache_airflow_provider")
    [entry] = [entry for entry in entries if entry.module == get_provider_info.__module__]

    assert entry.dist is not None
    assert entry.dist.name == INFO["package-name"]
    assert entry.load() is get_provider_info


def test_every_link_of_the_drain_is_named() -> None:
    links = {f"{type(link).__module__}.{type(link).__qualname__}" for link in LINKS}
    assert set(INFO["extra-links"]) == links


def test_airflow_loads_every_link() -> None:
    assert set(INFO["extra-links"]) <= set(ProvidersManager().extra_links_class_names)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("hooks", BaseHook),
        ("operators", BaseOperator),
        ("triggers", BaseTrigger),
        ("sensors", BaseSensorOperator),
    ],
)
def test_every_module_with_a_class_for_airflow_is_named(kind: str, base: type[Any]) -> None:
    room = importlib.import_module(f"airflow_kinesis_snowflake.{kind}")
    names = [f"{room.__name__}.{info.name}" for info in iter_modules(room.__path__)]
    modules = map(importlib.import_module, names)
    [entry] = INFO[kind]
    assert set(entry["python-modules"]) == {
        module.__name__
        for module in modules
        if any(
            issubclass(each, base) and each.__module__ == module.__name__
            for each in vars(module).values()
            if isinstance(each, type)
        )
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_module_named_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None
