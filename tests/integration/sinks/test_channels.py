"""Channels over the genuine SDK, against the local Snowpipe Streaming."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ChannelForgottenError,
    ChannelLimitError,
    FencedError,
    RowTooLargeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    ThrottledError,
)
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.channels import ChannelClient, StreamingLogin
from tests.faults.streaming import NastyStreaming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.sinks.snowflake.channels import Channel
    from local.services import LocalServices

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]
GOING_ON = threading.Event()


@pytest.fixture(scope="module")
def private_key() -> bytes:
    """A private key as the Snowflake provider gives it."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture
def landing(snowflake_connection: SnowflakeConnection, table: str) -> TableName:
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (N NUMBER(38, 0), B VARCHAR)")
    return TableName.parse(table)


@pytest.fixture
def nasty(services: LocalServices, landing: TableName) -> NastyStreaming:
    return NastyStreaming(services, f"{landing.database}.{landing.schema}.{landing.name}")


@pytest.fixture
def log_in(
    services: LocalServices, private_key: bytes, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., StreamingLogin]:
    """Function that reads a login from the parameters of a connection."""
    monkeypatch.setenv("SSL_CERT_FILE", str(services.streaming_authority))

    def make(**params: object) -> StreamingLogin:
        given = {"account": "local", "user": "test", "private_key": private_key, "role": "LOADER"}
        return StreamingLogin.from_params(
            given | params, connection="snowflake_default", streaming_url=services.streaming_url
        )

    return make


@pytest.fixture
def connect(
    log_in: Callable[..., StreamingLogin], landing: TableName
) -> Iterator[Callable[..., ChannelClient]]:
    """Function that makes a client."""
    clients = []

    def make(table: TableName = landing, **params: object) -> ChannelClient:
        clients.append(ChannelClient(log_in(**params), table))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def append(channel: Channel, first: int, last: int, padding: int = 0) -> str:
    rows = [b'{"N":%d,"B":"%s"}' % (number, b"x" * padding) for number in range(first, last + 1)]
    channel.append(rows, f"{first:06d}", f"{last:06d}")
    return f"{last:06d}"


def commit(channel: Channel, first: int, last: int, padding: int = 0) -> None:
    token = append(channel, first, last, padding)
    assert channel.wait(token, timeout=60, stopping=GOING_ON) is not None


def landed(connection: SnowflakeConnection, table: TableName) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT N FROM {table.sql} ORDER BY N")
        return [number for (number,) in cursor.fetchall()]


def test_rows_land_and_a_new_owner_goes_on_behind_them(
    connect: Callable[..., ChannelClient], snowflake_connection: SnowflakeConnection, landing: TableName
) -> None:
    channel = connect().open("one")
    commit(channel, 1, 3)
    assert channel.opened.committed is None
    assert channel.committed() == "000003"

    again = connect().open("one")
    commit(again, 4, 5)

    assert again.opened.committed == "000003"
    assert landed(snowflake_connection, landing) == [1, 2, 3, 4, 5]


def test_names_may_have_any_characters(
    connect: Callable[..., ChannelClient], snowflake_connection: SnowflakeConnection, landing: TableName
) -> None:
    table = TableName(landing.database, landing.schema, 'a "table" with/slash ü')
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table.sql} (N NUMBER(38, 0), B VARCHAR)")
    name = "app/arn:aws:kinesis/shardId-000000000000 ü%2F?#"

    commit(connect(table).open(name), 1, 2)

    assert connect(table).open(name).opened.committed == "000002"
    assert landed(snowflake_connection, table) == [1, 2]


def test_many_channels_of_several_clients_commit_side_by_side(
    connect: Callable[..., ChannelClient], snowflake_connection: SnowflakeConnection, landing: TableName
) -> None:
    clients = [connect(), connect()]
    channels = [clients[number % 2].open(f"channel-{number}") for number in range(10)]

    tokens = [
        append(channel, 100 * number, 100 * number + 99, padding=100)
        for number, channel in enumerate(channels)
    ]
    states = [
        channel.wait(token, timeout=60, stopping=GOING_ON)
        for channel, token in zip(channels, tokens, strict=True)
    ]

    assert [state and state.inserted for state in states] == [100] * 10
    assert landed(snowflake_connection, landing) == list(range(1000))
    assert clients[0].states(["channel-0", "nowhere"]).keys() == {"channel-0"}


def test_rejected_rows_are_counted(connect: Callable[..., ChannelClient]) -> None:
    channel = connect().open("one")

    channel.append([b'{"N":1}', b'{"N":"secret"}', b'{"X":1}'], "1", "3")
    state = channel.wait("3", timeout=60, stopping=GOING_ON)

    assert state is not None
    assert (state.inserted, state.rejected, state.rejected_through) == (1, 2, "3")
    assert state.why
    assert "secret" not in state.why


def test_a_former_owner_is_fenced(connect: Callable[..., ChannelClient]) -> None:
    former = connect().open("one")
    connect().open("one")

    token = append(former, 1, 2)

    with pytest.raises(FencedError, match="channel one of"):
        former.wait(token, timeout=60, stopping=GOING_ON)
    with pytest.raises(FencedError):
        append(former, 3, 4)


def test_a_wait_ends_when_told_so(connect: Callable[..., ChannelClient], nasty: NastyStreaming) -> None:
    channel = connect().open("one")
    stopping = threading.Event()
    stopping.set()

    with nasty.hold("one"):
        token = append(channel, 1, 2)
        assert channel.wait(token, timeout=60, stopping=stopping) is None
        assert channel.wait(token, timeout=0, stopping=GOING_ON) is None


def test_a_forgotten_channel_says_so(connect: Callable[..., ChannelClient], nasty: NastyStreaming) -> None:
    channel = connect().open("one")
    commit(channel, 1, 2)

    nasty.forget("one")

    with pytest.raises(ChannelForgottenError):
        channel.wait(append(channel, 3, 4), timeout=60, stopping=GOING_ON)
    assert connect().open("one").opened.committed is None


def test_a_dropped_channel_can_be_dropped_again(
    connect: Callable[..., ChannelClient], nasty: NastyStreaming
) -> None:
    client = connect()
    client.open("one")

    client.drop("one")
    client.drop("one")

    assert nasty.channels() == []


def test_what_is_missing_or_may_not_be_used_is_named(
    connect: Callable[..., ChannelClient], nasty: NastyStreaming, landing: TableName
) -> None:
    with pytest.raises(SnowflakeObjectNotFoundError, match=r"^Create the table, or grant"):
        connect(TableName(landing.database, landing.schema, "OTHER"))
    with nasty.revoke(landing.database), pytest.raises(SnowflakeObjectNotFoundError):
        connect(role=landing.database)


def test_a_clock_that_is_off_is_named(
    connect: Callable[..., ChannelClient], nasty: NastyStreaming, landing: TableName
) -> None:
    with nasty.clock(7200, user=landing.database), pytest.raises(AccessDeniedError, match="clock"):
        connect(user=landing.database)


def test_a_full_pipe_is_named(connect: Callable[..., ChannelClient], nasty: NastyStreaming) -> None:
    client = connect()
    client.open("one")

    with nasty.most_channels(1), pytest.raises(ChannelLimitError, match=r"^Drop the channels"):
        client.open("two")


def test_a_row_that_is_too_large_is_refused_before_it_is_sent(connect: Callable[..., ChannelClient]) -> None:
    with pytest.raises(RowTooLargeError):
        append(connect().open("one"), 1, 1, padding=16 * 2**20)


def test_a_server_that_is_not_there_is_unavailable(
    log_in: Callable[..., StreamingLogin], landing: TableName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kinesis_snowflake.sinks.snowflake.channels._TRYING_SECONDS", 1)
    login = log_in()
    nowhere = StreamingLogin(login.account, login.user, login.private_key, login.role, "https://127.0.0.1:9")

    with pytest.raises(ServiceUnavailableError):
        ChannelClient(nowhere, landing)


def test_closing_does_not_wait_for_what_is_not_committed(
    connect: Callable[..., ChannelClient], nasty: NastyStreaming
) -> None:
    client = connect()
    channel = client.open("one")

    with nasty.answer_error("POST /channels/one/rows", status=503):
        append(channel, 1, 2)
        channel.flush()
        before = time.monotonic()
        client.close()
        assert time.monotonic() - before < 10


def test_a_channel_that_nobody_holds_does_not_wait_for_its_rows(
    services: LocalServices, nasty: NastyStreaming, landing: TableName, private_key: bytes, log_in: object
) -> None:
    program = f"""
from tests.integration.sinks.test_channels import append
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.channels import ChannelClient, StreamingLogin
login = StreamingLogin.from_params(
    {{"account": "local", "user": "test", "private_key": {private_key!r}}},
    connection="c", streaming_url={services.streaming_url!r},
)
client = ChannelClient(login, {landing!r})
dropped, kept = client.open("dropped"), client.open("kept")
for channel in (dropped, kept):
    append(channel, 1, 2)
    channel.flush()
del dropped, channel
"""
    with nasty.answer_error("POST /channels/.*/rows", status=503):
        ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False, timeout=60)

    assert ended.returncode == 0


def test_a_forked_process_is_refused(connect: Callable[..., ChannelClient]) -> None:
    connect()

    reader, writer = os.pipe()
    with warnings.catch_warnings(action="ignore"):
        child = os.fork()
    if not child:
        try:
            connect()
        except ServiceRefusedError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)

    os.set_blocking(reader, False)
    assert os.read(reader, 100) == b"refused"


def test_a_killed_owner_loses_only_what_is_not_committed(
    services: LocalServices,
    connect: Callable[..., ChannelClient],
    snowflake_connection: SnowflakeConnection,
    landing: TableName,
    private_key: bytes,
) -> None:
    owner = f"""
import os, signal, threading
from tests.integration.sinks.test_channels import append, commit
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.channels import ChannelClient, StreamingLogin
login = StreamingLogin.from_params(
    {{"account": "local", "user": "test", "private_key": {private_key!r}}},
    connection="c", streaming_url={services.streaming_url!r},
)
channel = ChannelClient(login, {landing!r}).open("one")
commit(channel, 1, 3)
append(channel, 4, 6)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", owner], cwd=REPOSITORY, check=False, timeout=120)

    channel = connect().open("one")
    committed = int(channel.opened.committed or 0)
    commit(channel, committed + 1, 8)

    assert killed.returncode == -9
    assert committed in {3, 6}
    assert landed(snowflake_connection, landing) == list(range(1, 9))


@pytest.mark.parametrize(
    ("status", "kind"), [(429, ThrottledError), (500, ServiceUnavailableError), (403, AccessDeniedError)]
)
def test_what_the_service_refuses_to_open_is_named(
    connect: Callable[..., ChannelClient],
    nasty: NastyStreaming,
    status: int,
    kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_kinesis_snowflake.sinks.snowflake.channels._TRYING_SECONDS", 1)
    client = connect()

    with nasty.answer_error("PUT /channels/one", status=status) as fault, pytest.raises(kind):
        client.open("one")

    assert fault.hits > 0
