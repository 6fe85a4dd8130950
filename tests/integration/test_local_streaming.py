"""The local Snowpipe Streaming serves the genuine SDK, and keeps to the rules that exactly once rests on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.faults.streaming import NastyStreaming
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from snowflake.connector import SnowflakeConnection

    from local.services import LocalServices

STALE = "STALE_CONTINUATION_TOKEN_SEQUENCER"


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def landing(snowflake_connection: SnowflakeConnection, table: str) -> str:
    """A table with columns of several types."""
    run(
        snowflake_connection,
        f"CREATE TABLE {table} "
        "(A NUMBER(38, 0), B VARCHAR, V VARIANT, T TIMESTAMP_TZ, N NUMBER(38, 0) NOT NULL)",
    )
    return table


@pytest.fixture
def nasty(services: LocalServices, landing: str) -> NastyStreaming:
    return NastyStreaming(services, landing)


@pytest.fixture
def connect(
    services: LocalServices, private_key: str, landing: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Function that makes a client of the genuine SDK."""
    monkeypatch.setenv("SSL_CERT_FILE", str(services.streaming_authority))
    monkeypatch.setenv("SS_LOG_LEVEL", "error")
    from snowflake.ingest.streaming import StreamingIngestClient

    clients: list[Any] = []

    def make(table: str = landing, **properties: str) -> Any:
        database, schema, name = table.split(".")
        given = {
            "account": "LOCAL",
            "user": "TEST",
            "private_key": private_key,
            "scheme": "https",
            "host": "127.0.0.1",
            "port": services.streaming_url.rpartition(":")[2],
            "enable_telemetry_reporting": "false",
            "mgmt_retry_total_backoff_seconds": "5",
            "non_scoped_auth_failure_retry_total_backoff_seconds": "1",
            "channel_status_cache_refresh_interval_seconds": "0",
        }
        client = StreamingIngestClient(
            f"client-{len(clients)}", database, schema, f"{name}-STREAMING", properties=given | properties
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close(wait_for_flush=False, timeout_seconds=1)


def run(connection: SnowflakeConnection, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        return fetch(cursor, sql)


def append(channel: Any, first: int, last: int, **more: object) -> str:
    """Append rows whose N counts from one number through another; return the token of the last."""
    rows = [{"N": number, **more} for number in range(first, last + 1)]
    channel.append_rows(rows, f"{first:06d}", f"{last:06d}")
    channel.initiate_flush()
    return f"{last:06d}"


def wait_for(channel: Any, token: str) -> Any:
    until = time.monotonic() + 30
    while (status := channel.get_channel_status()).latest_committed_offset_token != token:
        assert time.monotonic() < until
        time.sleep(0.02)
    return status


def landed(connection: SnowflakeConnection, table: str) -> list[int]:
    return [number for (number,) in run(connection, f"SELECT N FROM {table} ORDER BY N")]


def test_rows_land_with_their_values(
    connect: Callable[..., Any], snowflake_connection: SnowflakeConnection, landing: str
) -> None:
    channel, opened = connect().open_channel("one")
    row = (
        b'{"A":123456789012345678901234567890,"B":"text","V":{"k":[1,null]},"T":"2026-01-02T03:04:05Z","N":1}'
    )

    channel.append_rows([msgspec.Raw(row)], "1", "1")
    status = wait_for(channel, "1")

    assert opened.latest_committed_offset_token is None
    assert (status.rows_inserted_count, status.rows_error_count) == (1, 0)
    found = run(snowflake_connection, f"SELECT A, B, V:k[0]::INT, T::DATE::VARCHAR, N FROM {landing}")
    assert found == [(123456789012345678901234567890, "text", 1, "2026-01-02", 1)]


def test_many_rows_come_through_files(
    connect: Callable[..., Any], snowflake_connection: SnowflakeConnection, landing: str
) -> None:
    channel, _ = connect().open_channel("one")

    wait_for(channel, append(channel, 1, 20_000, B="x" * 200))

    assert landed(snowflake_connection, landing) == list(range(1, 20_001))


def test_rejected_rows_are_counted_and_the_others_land(
    connect: Callable[..., Any], snowflake_connection: SnowflakeConnection, landing: str
) -> None:
    channel, _ = connect().open_channel("one")
    good: list[dict[str, Any]] = [{"N": 1}, {"N": 2, "A": None}]
    bad: list[dict[str, Any]] = [{"N": 3, "X": 1}, {"N": 4, "A": "ten"}, {"A": 5}, {"N": None}]

    channel.append_rows([*good, *bad], "1", "6")
    status = wait_for(channel, "6")

    assert landed(snowflake_connection, landing) == [1, 2]
    assert (status.rows_parsed_count, status.rows_inserted_count, status.rows_error_count) == (6, 2, 4)
    assert status.last_error_offset_token_upper_bound == "6"
    assert "ten" not in status.last_error_message


def test_whoever_opens_a_channel_fences_its_former_owner(
    connect: Callable[..., Any], snowflake_connection: SnowflakeConnection, landing: str
) -> None:
    from snowflake.ingest.streaming import StreamingIngestError

    first, _ = connect().open_channel("one")
    wait_for(first, append(first, 1, 3))

    second, opened = connect().open_channel("one")
    append(first, 4, 6)
    with pytest.raises(StreamingIngestError, match=STALE):
        wait_for(first, "never")
    wait_for(second, append(second, 4, 5))

    assert opened.latest_committed_offset_token == "000003"
    assert landed(snowflake_connection, landing) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("rows", [3, 20_000], ids=["inline", "in files"])
@pytest.mark.parametrize("fault", ["lose_answer", "repeat", "cut"])
def test_rows_land_once_whatever_happens_to_the_request(
    connect: Callable[..., Any],
    snowflake_connection: SnowflakeConnection,
    landing: str,
    nasty: NastyStreaming,
    fault: str,
    rows: int,
) -> None:
    channel, _ = connect().open_channel("one")

    with getattr(nasty, fault)("POST /channels/one/(rows|filebuffer)", times=1) as done:
        wait_for(channel, append(channel, 1, rows, B="x" * 200))

    wait_for(channel, append(channel, rows + 1, rows + 1))
    assert done.hits == 1
    assert landed(snowflake_connection, landing) == list(range(1, rows + 2))


def test_rows_that_arrive_late_were_there_before(
    connect: Callable[..., Any],
    snowflake_connection: SnowflakeConnection,
    landing: str,
    nasty: NastyStreaming,
) -> None:
    channel, _ = connect().open_channel("one")

    with nasty.arrive_late("POST .*/rows", seconds=1, times=1) as late:
        wait_for(channel, append(channel, 1, 3))
        while late.under_way:
            time.sleep(0.02)
    wait_for(channel, append(channel, 4, 6))

    assert late.hits == 1
    assert landed(snowflake_connection, landing) == [1, 2, 3, 4, 5, 6]


def test_rows_are_refused_if_somebody_else_opens_the_channel_right_before(
    connect: Callable[..., Any],
    snowflake_connection: SnowflakeConnection,
    landing: str,
    nasty: NastyStreaming,
) -> None:
    from snowflake.ingest.streaming import StreamingIngestError

    channel, _ = connect().open_channel("one")
    wait_for(channel, append(channel, 1, 3))

    with nasty.fence(times=1) as fence:
        append(channel, 4, 6)
        with pytest.raises(StreamingIngestError, match=STALE):
            wait_for(channel, "never")

    assert fence.hits == 1
    assert landed(snowflake_connection, landing) == [1, 2, 3]


def test_an_error_of_the_service_is_tried_again(
    connect: Callable[..., Any],
    snowflake_connection: SnowflakeConnection,
    landing: str,
    nasty: NastyStreaming,
) -> None:
    channel, _ = connect().open_channel("one")

    with nasty.answer_error("POST /channels/one/rows", status=503, times=1) as fault:
        wait_for(channel, append(channel, 1, 2))

    assert fault.hits == 1
    assert landed(snowflake_connection, landing) == [1, 2]


def test_accepted_rows_that_are_not_committed_hold_up_who_opens_the_channel(
    connect: Callable[..., Any],
    snowflake_connection: SnowflakeConnection,
    landing: str,
    nasty: NastyStreaming,
) -> None:
    first, _ = connect().open_channel("one")

    with nasty.commit_late(seconds=2, times=1) as late:
        append(first, 1, 3)
        first.wait_for_flush(timeout_seconds=10)
        _, opened = connect().open_channel("one")

    assert late.hits == 1
    assert opened.latest_committed_offset_token == "000003"
    assert landed(snowflake_connection, landing) == [1, 2, 3]


def test_accepted_rows_may_never_be_committed(
    connect: Callable[..., Any],
    snowflake_connection: SnowflakeConnection,
    landing: str,
    nasty: NastyStreaming,
) -> None:
    first, _ = connect().open_channel("one")

    with nasty.hold("one"):
        append(first, 1, 3)
        first.wait_for_flush(timeout_seconds=10)
        _, opened = connect(open_channel_409_retry_total_backoff_seconds="1").open_channel("one")

    assert opened.latest_committed_offset_token is None
    assert landed(snowflake_connection, landing) == []


def test_a_channel_that_rested_for_30_days_is_new(connect: Callable[..., Any], nasty: NastyStreaming) -> None:
    from snowflake.ingest.streaming import StreamingIngestError

    channel, _ = connect().open_channel("one")
    wait_for(channel, append(channel, 1, 3))

    nasty.forget("one")

    append(channel, 4, 4)
    with pytest.raises(StreamingIngestError):
        wait_for(channel, "never")
    _, opened = connect().open_channel("one")
    assert opened.latest_committed_offset_token is None


def test_a_dropped_channel_is_gone(connect: Callable[..., Any], nasty: NastyStreaming) -> None:
    client = connect()
    client.open_channel("one")
    client.open_channel("two")

    client.drop_channel("one")

    assert nasty.channels() == ["two"]


def test_no_pipe_without_a_table_and_a_role(
    connect: Callable[..., Any], nasty: NastyStreaming, table: str
) -> None:
    from snowflake.ingest.streaming import StreamingIngestError

    with pytest.raises(StreamingIngestError, match="ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"):
        connect(table.replace("RECORDS", "OTHER"))
    role = table.replace(".", "_")
    with (
        nasty.revoke(role),
        pytest.raises(StreamingIngestError, match="ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHOR"),
    ):
        connect(role=role)
    connect(role=role)


@pytest.mark.parametrize("seconds", [-600, 7200])
def test_a_login_at_another_time_is_refused(
    connect: Callable[..., Any], nasty: NastyStreaming, seconds: float, table: str
) -> None:
    from snowflake.ingest.streaming import StreamingIngestError

    user = table.partition(".")[0]
    with nasty.clock(seconds, user=user), pytest.raises(StreamingIngestError, match="JWT token is invalid"):
        connect(user=user)


def test_a_pipe_has_only_so_many_channels(connect: Callable[..., Any], nasty: NastyStreaming) -> None:
    from snowflake.ingest.streaming import StreamingIngestError

    client = connect()
    client.open_channel("one")
    with nasty.most_channels(1), pytest.raises(StreamingIngestError, match="ERR_CHANNEL_LIMIT"):
        client.open_channel("two")
