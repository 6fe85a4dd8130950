"""Drains that ask a schema registry for the schemas of what they read, on the local services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import AccessDeniedError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.hooks.schema_registry import open_schema_registry
from tests import shapes
from tests.schema_registry import LOGIN, LocalRegistry, local_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.engine.drain import Drain
    from tests.integration.drain.conftest import Pipeline


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalRegistry]:
    with local_registry() as found:
        login, password = LOGIN
        connection = {"conn_type": "http", "host": found.url, "login": login, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps(connection))
        yield found


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline], registry: LocalRegistry) -> Pipeline:
    """A stream with a record of a schema that is registered, and one of a schema that isn't."""
    made = make_pipeline()
    number = registry.register("orders", {"schema": json.dumps(shapes.ORDER_SCHEMA)})
    made.send_payloads([("a", shapes.confluent(number, shapes.datum())), ("b", shapes.confluent(7, b"\2"))])
    return made


def drain(pipeline: Pipeline, payload_format: str = "avro") -> Drain:
    registry = open_schema_registry("registry")
    return pipeline.drain(decoder=payload_decoder(payload_format, registry=registry))


def failing(status: int, times: int) -> Callable[[str], tuple[int, bytes] | None]:
    """Answers of a registry that fails so many times."""
    left = [times]

    def answer(_: str) -> tuple[int, bytes] | None:
        left[0] -= 1
        return (status, b"") if left[0] >= 0 else None

    return answer


def ids(pipeline: Pipeline) -> list[Any]:
    return [int(row[0]) for row in pipeline.query('SELECT "RECORD_CONTENT":id::NUMBER FROM {table}')]


def reasons(pipeline: Pipeline) -> list[str]:
    return [row[0] for row in pipeline.query('SELECT "REASON" FROM {dead_letters}')]


def test_while_a_registry_does_not_answer_nothing_becomes_a_dead_letter(
    pipeline: Pipeline, registry: LocalRegistry
) -> None:
    # Three tries make one failure for the drain, which tries again.
    registry.instead = failing(503, times=5)

    report = drain(pipeline).run()

    assert ids(pipeline) == [7]
    assert reasons(pipeline) == ["the registry has no schema 7"]
    assert (report.records, report.dead_letters) == (2, 1)


def test_a_login_that_is_refused_fails_the_drain_and_loses_nothing(
    pipeline: Pipeline, registry: LocalRegistry
) -> None:
    registry.instead = failing(401, times=1)
    with pytest.raises(AccessDeniedError, match="Check the login and password of the schema registry"):
        drain(pipeline).run()

    report = drain(pipeline).run()

    assert ids(pipeline) == [7]
    assert report.dead_letters == 1


def test_a_schema_that_cannot_be_used_makes_dead_letters_and_is_asked_for_once(
    make_pipeline: Callable[..., Pipeline], registry: LocalRegistry
) -> None:
    pipeline = make_pipeline()
    number = registry.register("orders", {"schema": "message {", "schemaType": "PROTOBUF"})
    pipeline.send_payloads([(key, shapes.confluent(number, b"\0")) for key in "abcdef"])

    report = drain(pipeline, "protobuf").run()

    assert (report.records, report.dead_letters) == (6, 6)
    assert set(reasons(pipeline)) == {
        f"schema {number} of the registry: not a Protobuf schema that can be compiled"
    }
    assert registry.asked == [
        f"GET /schemas/ids/{number}",
        f"GET /schemas/ids/{number}?format=serialized",
    ]
