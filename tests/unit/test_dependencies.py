"""The package declares the libraries that it imports, and no others."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_kinesis_snowflake"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {
    requirement.name: requirement
    for requirement in map(
        Requirement,
        [*PROJECT["dependencies"], *chain.from_iterable(PROJECT["optional-dependencies"].values())],
    )
}
# Airflow's own requirements, which work with the version that Airflow chooses.
OF_AIRFLOW = {
    "apache-airflow-core",
    "apache-airflow-task-sdk",
    "asgiref",
    "fastapi",
    "packaging",
    "rich",
    "sqlalchemy",
}
# Optional everywhere: imported only where Airflow has them.
WHERE_INSTALLED = {"apache-airflow-providers-common-compat", "apache-airflow-providers-openlineage"}


def imported() -> set[str]:
    """Names of the modules that the package imports from elsewhere."""
    names: set[str] = set()
    for file in (ROOT / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return {name for name in names if name.partition(".")[0] not in {PACKAGE, *sys.stdlib_module_names}}


@pytest.fixture(scope="module")
def used() -> set[str]:
    """Distributions of which the package imports modules."""
    # Looks at every file that is installed, which takes seconds.
    found = packages_distributions()
    return {distribution(module, found) for module in imported() if not module.startswith("mypy_boto3")}


def distribution(module: str, found: Mapping[str, list[str]]) -> str:
    """The distribution that a module is of.

    :param found: distributions of each topmost module that is installed
    """
    parts = module.split(".")
    if parts[:2] == ["airflow", "providers"]:
        return f"apache-airflow-providers-{'-'.join(parts[2:4] if parts[2] == 'common' else parts[2:3])}"
    if parts[:2] in (["snowflake", "connector"], ["google", "protobuf"]):
        return {"snowflake": "snowflake-connector-python", "google": "protobuf"}[parts[0]]
    if parts[:2] == ["snowflake", "ingest"]:
        return "snowpipe-streaming"
    if parts[0] == "airflow":
        return "apache-airflow-core"
    [name] = {name.lower() for name in found[parts[0]]}
    return {"botocore": "boto3"}.get(name, name)  # boto3 brings botocore of its own age


def test_every_library_that_is_imported_is_declared(used: set[str]) -> None:
    assert used - {*DECLARED, *OF_AIRFLOW, *WHERE_INSTALLED} == set()


def test_every_library_that_is_declared_is_imported(used: set[str]) -> None:
    # The compiler is run.
    assert DECLARED.keys() - used == {"apache-airflow", "grpcio-tools"}


@pytest.mark.parametrize(
    ("version", "allowed"),
    [
        ("4.25.7", False),
        ("4.25.8", True),
        ("5.26.1", False),
        ("5.28.3", False),
        ("5.29.4", False),
        ("5.29.5", True),
        ("6.30.2", False),
        ("6.31.0", False),
        ("6.31.1", True),
        ("6.33.6", True),
        ("7.36.2", True),
    ],
)
def test_versions_of_protobuf_that_recurse_without_a_bound_are_refused(version: str, allowed: bool) -> None:
    """CVE-2025-4565."""
    assert DECLARED["protobuf"].specifier.contains(version) is allowed
