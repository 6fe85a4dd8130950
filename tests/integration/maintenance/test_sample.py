"""The command that looks at some records, on the local services."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.cli import main
from tests import shapes
from tests.schema_registry import LOGIN, local_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient


def put(kinesis: KinesisClient, stream: str, *payloads: bytes) -> None:
    kinesis.put_records(
        StreamName=stream,
        Records=[{"Data": payload, "PartitionKey": str(number)} for number, payload in enumerate(payloads)],
    )


@pytest.fixture
def sample(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(stream: str, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(["sample", "--stream", stream, *arguments]), *capsys.readouterr()

    return run


def test_a_sample_of_several_shards_touches_no_state(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    dynamodb: DynamoDBClient,
    sample: Callable[..., tuple[int, str, str]],
) -> None:
    stream = make_stream(3)
    documents = [{"id": number, "ts": 1764000000000 + number, "name": "secret"} for number in range(40)]
    put(kinesis, stream, *(gzip.compress(json.dumps(each).encode()) for each in documents))
    put(kinesis, stream, shapes.aggregated(*(json.dumps(each).encode() for each in documents)))
    before = dynamodb.list_tables()["TableNames"]

    status, out, _ = sample(stream, "--compression", "auto")

    assert status == 0
    assert out.startswith("80 records, 80 documents.\n")
    assert "    'NAME': 'VARCHAR',\n" in out
    assert "    'TS': 'ms',\n" in out
    assert "secret" not in out
    assert dynamodb.list_tables()["TableNames"] == before

    _, out, _ = sample(stream, "--compression", "auto", "--records", "7", "--output", "json")
    assert json.loads(out)["records"] == 7
    _, out, _ = sample(stream, "--since", "2020-01-01T00:00:00Z", "--output", "json")
    answer: dict[str, Any] = json.loads(out)
    assert answer["documents"] == 40
    assert any("looks like gzip" in reason for reason in answer["dead_letters"])


def test_formats_with_schemas_are_read(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    sample: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, headed = make_stream(), make_stream()
    put(kinesis, stream, shapes.message())
    descriptors = tmp_path / "orders.desc"
    descriptors.write_bytes(shapes.DESCRIPTORS)
    _, out, _ = sample(stream, "--descriptors", str(descriptors), "--message", "Order", "--output", "json")
    assert json.loads(out)["columns"] == {"ID": "NUMBER(38, 18)", "NAME": "VARCHAR"}

    with local_registry() as registry:
        login, password = LOGIN
        connection = {"conn_type": "http", "host": registry.url, "login": login, "password": password}
        monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps(connection))
        number = registry.register("orders", {"schema": json.dumps(shapes.ORDER_SCHEMA)})
        put(kinesis, headed, shapes.confluent(number, shapes.datum()))
        arguments = ("--payload-format", "avro", "--registry-conn-id", "registry", "--output", "json")
        _, out, _ = sample(headed, *arguments)
    assert json.loads(out)["columns"] == {"ID": "NUMBER(38, 18)", "AMOUNT": "NUMBER(38, 18)"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--records", "0"), "must be positive"),
        (("--since", "yesterday"), "--since must be ISO-8601"),
        (("--avro-schema", "/no/such/file"), "Name a file that can be read"),
        (("--descriptors", __file__), "together"),
        (("--payload-format", "avro"), "one of avro_schema"),
        (("--registry-conn-id", "nowhere", "--payload-format", "avro"), "Create the Airflow connection"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    sample: Callable[..., tuple[int, str, str]], services: object, arguments: tuple[str, ...], error: str
) -> None:
    status, out, err = sample("stream", *arguments)
    assert status != 0
    assert out == ""
    assert error in err


def test_the_program_of_airflow_has_it() -> None:
    from airflow_kinesis_snowflake.cli import get_cli_commands

    [group] = get_cli_commands()
    assert "sample" in [command.name for command in group.subcommands]  # type: ignore[union-attr]
