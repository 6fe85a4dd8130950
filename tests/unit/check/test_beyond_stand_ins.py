"""Checks that no stand-in can show, on answers as Snowflake's documentation has them."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_kinesis_snowflake.check.checks import CheckVerdict
from airflow_kinesis_snowflake.check.snowflake_objects import (
    cancelled,
    iceberg,
    session_parameters,
    warehouse,
)
from airflow_kinesis_snowflake.exceptions import ServiceRefusedError, ServiceUnavailableError
from airflow_kinesis_snowflake.hooks.snowflake import SESSION_PARAMETERS
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_kinesis_snowflake.check.bench import Bench
    from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement

PARAMETERS = {**SESSION_PARAMETERS, "AUTOCOMMIT": False}


@dataclass
class Snowflake:
    """A session and what it is asked for through."""

    folder: Path
    parameters: dict[str, Any] = field(default_factory=lambda: dict(PARAMETERS))
    warehouse: str | None = "LOADING"
    state: str = "SUSPENDED"
    wakes: str = "nothing"
    ends: bool = True
    cancelled: bool = False
    target = LandingTarget.beside(TableName("A", "B", "C"))

    @contextmanager
    def session(self) -> Iterator[Snowflake]:
        yield self

    new_session = session

    def rows(self, statement: Statement | str) -> list[tuple[Any, ...]]:
        sql = statement if isinstance(statement, str) else statement.sql
        if "SHOW PARAMETERS" in sql:
            return [(name, str(value).lower()) for name, value in self.parameters.items()]
        if "SHOW WAREHOUSES" in sql:
            return [("ANOTHER", "STARTED"), (self.warehouse, self.state)]
        if re.match("SELECT CURRENT_ROLE", sql):
            return [("LOADER", self.warehouse, "ANALYTICS")]
        return [(self.warehouse,)]

    def value(self, statement: Statement | str) -> Any:
        return self.rows(statement)[0][0]

    def landing_columns(self, _: LandingTarget) -> None:
        self._do("SHOW")

    def upload(self, *_: object, **__: object) -> None:
        self._do("PUT")

    def remove_folder(self, *_: object, **__: object) -> None:
        self._do("REMOVE")

    def _do(self, what: str) -> None:
        if what == self.wakes:
            self.state = "RESUMING"

    def landing(self, *_: object) -> None:
        raise ServiceRefusedError("no external volume")

    def start(self, _: str) -> str:
        return "query"

    def cancel(self) -> None:
        self.cancelled = True

    def finish(self, _: str) -> None:
        if self.cancelled and self.ends:
            raise ServiceUnavailableError("SQL execution canceled")


@pytest.fixture
def snowflake(tmp_path: Path) -> Snowflake:
    return Snowflake(tmp_path)


def bench(snowflake: Snowflake) -> Bench:
    return cast("Bench", snowflake)


def test_a_session_with_all_that_is_asked_for_holds(snowflake: Snowflake) -> None:
    observed = session_parameters(bench(snowflake))
    assert (observed.verdict, observed.text) == (
        CheckVerdict.HELD,
        "role LOADER, warehouse LOADING, database ANALYTICS",
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("AUTOCOMMIT", True, "AUTOCOMMIT is true"),
        ("LOCK_TIMEOUT", 43_200, "LOCK_TIMEOUT is 43200"),
        ("TIMEZONE", "Europe/Berlin", "TIMEZONE is europe/berlin"),
    ],
)
def test_a_parameter_that_is_another_is_named(
    snowflake: Snowflake, name: str, value: object, text: str
) -> None:
    snowflake.parameters[name] = value
    observed = session_parameters(bench(snowflake))
    assert (observed.verdict, observed.text) == (CheckVerdict.FAILED, text)


def test_a_session_without_a_warehouse_fails(snowflake: Snowflake) -> None:
    snowflake.warehouse = None
    assert session_parameters(bench(snowflake)).verdict == CheckVerdict.FAILED


@pytest.mark.parametrize("wakes", ["SHOW", "PUT", "REMOVE"])
def test_what_woke_the_warehouse_is_named(snowflake: Snowflake, wakes: str) -> None:
    snowflake.wakes = wakes
    observed = warehouse(bench(snowflake))
    assert (observed.verdict, observed.text) == (CheckVerdict.FAILED, f"{wakes} woke it")


def test_a_warehouse_that_sleeps_on_holds(snowflake: Snowflake) -> None:
    assert warehouse(bench(snowflake)).verdict == CheckVerdict.HELD


@pytest.mark.parametrize("name", ["LOADING", None])
def test_a_warehouse_that_runs_already_shows_nothing(snowflake: Snowflake, name: str | None) -> None:
    snowflake.warehouse, snowflake.state = name, "STARTED"
    assert warehouse(bench(snowflake)).verdict == CheckVerdict.NOT_SHOWN


@pytest.mark.parametrize(("ends", "verdict"), [(True, CheckVerdict.HELD), (False, CheckVerdict.FAILED)])
def test_a_statement_must_end_when_it_is_cancelled(
    snowflake: Snowflake, ends: bool, verdict: CheckVerdict
) -> None:
    snowflake.ends = ends
    assert cancelled(bench(snowflake)).verdict == verdict


def test_an_account_without_iceberg_shows_nothing(snowflake: Snowflake) -> None:
    observed = iceberg(bench(snowflake))
    assert (observed.verdict, "no external volume" in observed.text) == (CheckVerdict.NOT_SHOWN, True)
