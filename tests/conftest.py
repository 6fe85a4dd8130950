"""Fixtures for all tests. Integration and end-to-end tests share one set of local services."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, settings

# Some conftests import these before test modules name them as plugins; pytest rewrites no module after that.
pytest.register_assert_rewrite("tests.faults", "tests.preloaded")

REPOSITORY = Path(__file__).resolve().parents[1]
HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")


def isolate_from_the_developer() -> None:
    """Keep the settings of whoever runs the tests out of them. Must run before Airflow is imported."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "AWS_", "SNOWFLAKE_"))]:
        if name != "AWS_CA_BUNDLE":
            del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": HOME.name,
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "airflow_kinesis_snowflake" / "example_dags"),
        "AIRFLOW__API_AUTH__JWT_ISSUER": "tests",
        "AIRFLOW__API_AUTH__JWT_SECRET": "only for tests" * 5,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SNOWFLAKE_HOME": HOME.name,
    }


def check_keys_once() -> None:
    """Let a private key be checked once, not twice at each login, where that takes most of the time.

    Must run before those who do so are imported.
    """
    for name in ("load_der_private_key", "load_pem_private_key"):
        setattr(serialization, name, functools.cache(getattr(serialization, name)))


def measure_no_time() -> None:
    """Let no property fail because the machine is busy."""
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")


isolate_from_the_developer()
check_keys_once()
measure_no_time()
# What is imported and collected stays, and a third of that time would go to looking through it for garbage.
gc.disable()

import botocore.hooks  # noqa: E402 -- these read the environment when they are imported
import botocore.regions  # noqa: E402
import botocore.session  # noqa: E402
import snowflake.connector  # noqa: E402
from botocore.endpoint_provider import EndpointProvider  # noqa: E402
from botocore.hooks import EventAliaser, HierarchicalEmitter  # noqa: E402

from local.services import LocalServices, wait_until_active  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file, and all that share one Airflow, together on one of several processes."""
    from xdist.scheduler import LoadFileScheduling

    scheduler = LoadFileScheduling(config, log)
    file_of = scheduler._split_scope
    scheduler._split_scope = lambda id_: "tests/e2e" if id_.startswith("tests/e2e/") else file_of(id_)
    return scheduler


def pytest_collection_finish() -> None:
    """Look for garbage again, but never in what was there before the first test."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _airflow_home() -> Iterator[None]:
    yield
    HOME.cleanup()


@pytest.fixture(scope="session", autouse=True)
def _cheap_clients() -> Iterator[None]:
    """Let botocore find out once, not for every hook, what it knows of a service, an event or a handler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        names: Any = EventAliaser(HierarchicalEmitter())
        patch.setattr(
            EventAliaser, "_alias_event_name", staticmethod(functools.cache(names._alias_event_name))
        )
        takes_keywords = functools.cache(botocore.hooks.accepts_kwargs)
        patch.setattr(
            botocore.hooks,
            "accepts_kwargs",
            lambda handler: takes_keywords(getattr(handler, "__func__", handler)),
        )
        providers: dict[int, EndpointProvider] = {}

        def provider(*, ruleset_data: Any, **more: Any) -> EndpointProvider:
            rules = id(ruleset_data)  # of a loader that stays
            if rules not in providers:
                providers[rules] = EndpointProvider(ruleset_data=ruleset_data, **more)
            return providers[rules]

        patch.setattr(botocore.regions, "EndpointProvider", provider)
        yield


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> Iterator[None]:
    """Let Airflow forget what it is to mask.

    It puts all extras of connections that it has ever read into one regular expression, and compiles that
    again for each new one.
    """
    yield
    maskers = sys.modules.get("airflow.sdk._shared.secrets_masker")
    if maskers is not None:
        maskers.reset_secrets_masker()


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's metadata database, in the AIRFLOW_HOME of the tests."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def services() -> Iterator[LocalServices]:
    """The local services; Airflow's default connections lead to them."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    with LocalServices() as services, pytest.MonkeyPatch.context() as patch:
        for name, value in services.airflow_connections().items():
            patch.setenv(name, value)
        # Each hook of the amazon provider looks through the files of the whole stack for it, twice.
        patch.setattr(AwsGenericHook, "_get_caller", lambda *_: "Tests")
        yield services


@pytest.fixture
def aws_conn(services: LocalServices) -> str:
    """Id of the Airflow connection to the local Kinesis and DynamoDB."""
    return "aws_default"


@pytest.fixture
def snowflake_conn(services: LocalServices) -> str:
    """Id of the Airflow connection to the local Snowflake."""
    return "snowflake_default"


@pytest.fixture(scope="session")
def kinesis(services: LocalServices) -> KinesisClient:
    """A plain client of the local Kinesis."""
    return services.kinesis_client()


@pytest.fixture(scope="session")
def dynamodb(services: LocalServices) -> DynamoDBClient:
    """A plain client of the local DynamoDB."""
    return services.dynamodb_client()


@contextlib.contextmanager
def streams_of(kinesis: KinesisClient) -> Iterator[Callable[..., str]]:
    """Function that makes a stream with so many shards (one, unless told otherwise) and returns its name.

    The streams go when the block ends.
    """
    names = []

    def make(shards: int = 1) -> str:
        name = unique("stream")
        kinesis.create_stream(StreamName=name, ShardCount=shards)
        names.append(name)
        wait_until_active(kinesis, name)
        return name

    yield make
    for name in names:
        kinesis.delete_stream(StreamName=name)


@pytest.fixture
def make_stream(kinesis: KinesisClient) -> Iterator[Callable[..., str]]:
    """Function that makes a stream with so many shards (one, unless told otherwise) and returns its name."""
    with streams_of(kinesis) as make:
        yield make


@contextlib.contextmanager
def application_in(dynamodb: DynamoDBClient) -> Iterator[str]:
    """A name no other test uses; tables whose names begin with it go when the block ends."""
    name = unique("application")
    known = dynamodb.exceptions
    yield name
    for page in dynamodb.get_paginator("list_tables").paginate():
        for table in page["TableNames"]:
            if table.startswith(name):
                # One that the test has just deleted may be listed still.
                with contextlib.suppress(known.ResourceNotFoundException, known.ResourceInUseException):
                    dynamodb.delete_table(TableName=table)


@pytest.fixture
def application_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name no other test uses; tables in DynamoDB whose names begin with it go when the test ends."""
    if "services" not in request.fixturenames:
        yield unique("application")
        return
    with application_in(request.getfixturevalue("dynamodb")) as name:
        yield name


@pytest.fixture
def snowflake_connection(services: LocalServices) -> Iterator[SnowflakeConnection]:
    """A plain connection to the local Snowflake."""
    with snowflake.connector.connect(**services.snowflake_parameters()) as connection:
        yield connection


@contextlib.contextmanager
def database_at(connection: SnowflakeConnection) -> Iterator[str]:
    """Name of a fresh database with the schema PUBLIC, which goes when the block ends."""
    name = unique("db").upper().replace("-", "_")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {name}.PUBLIC")
        yield name
        cursor.execute(f"DROP DATABASE {name}")


@pytest.fixture
def database(snowflake_connection: SnowflakeConnection) -> Iterator[str]:
    """Name of a fresh database with the schema PUBLIC."""
    with database_at(snowflake_connection) as name:
        yield name


@pytest.fixture
def table(database: str) -> str:
    """Name of a landing table that doesn't exist yet, in a database of its own."""
    return f"{database}.PUBLIC.RECORDS"


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"
