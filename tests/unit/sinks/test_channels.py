"""What a connection must have for streaming, and what errors of the SDK mean."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.ingest.streaming import StreamingIngestError, StreamingIngestErrorCode

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ChannelForgottenError,
    ChannelLimitError,
    FencedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    RowTooLargeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    ThrottledError,
)
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.sinks.snowflake.channels import StreamingLogin, translate

if TYPE_CHECKING:
    from pathlib import Path

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PARAMS = {"account": "org-acc_one", "user": "loader", "private_key": b"", "role": "R"}


def pem(passphrase: str | None) -> str:
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption()
    )
    return KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


def login(**params: object) -> StreamingLogin:
    key = KEY.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return StreamingLogin.from_params(PARAMS | {"private_key": key} | params, connection="snowflake_default")


@pytest.mark.parametrize("passphrase", [None, "secret"])
@pytest.mark.parametrize("as_file", [True, False])
def test_every_way_to_give_a_private_key_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, passphrase: str | None, as_file: bool
) -> None:
    extra = {"account": "acc"}
    if as_file:
        (tmp_path / "key.p8").write_text(pem(passphrase))
        extra["private_key_file"] = str(tmp_path / "key.p8")
    else:
        # Older versions of the provider take it in base64 only.
        extra["private_key_content"] = base64.b64encode(pem(passphrase).encode()).decode()
    connection = {"conn_type": "snowflake", "login": "u", "password": passphrase, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SNOWFLAKE_KEY", json.dumps(connection))
    params = SnowflakeLoadHook(snowflake_conn_id="snowflake_key")._checked_params()

    assert params["authenticator"] == "SNOWFLAKE_JWT"
    assert StreamingLogin.from_params(params, connection="snowflake_key").private_key == pem(None)


@pytest.mark.parametrize("missing", ["account", "user", "private_key"])
def test_what_a_connection_lacks_is_named(missing: str) -> None:
    with pytest.raises(InvalidSettingError, match="'snowflake_default'"):
        login(**{missing: None})


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "https://"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettingError, match="streaming_url"):
        StreamingLogin.from_params(
            PARAMS | {"private_key": pem(None)}, connection="snowflake_default", streaming_url=url
        )


def test_the_account_leads_to_its_host() -> None:
    assert login().url == "https://org-acc-one.snowflakecomputing.com"
    assert login(account="abc.eu-central-1").account == "ABC"
    assert login(host="acc.privatelink.snowflakecomputing.com").properties()["port"] == "443"


@pytest.mark.parametrize(
    ("account", "region", "host"),
    [
        ("abc", None, "abc.snowflakecomputing.com"),
        ("abc", "us-west-2", "abc.snowflakecomputing.com"),
        ("abc", "eu-central-1", "abc.eu-central-1.snowflakecomputing.com"),
        ("abc.eu-central-1", None, "abc.eu-central-1.snowflakecomputing.com"),
        ("abc.us-east-1", "eu-central-1", "abc.eu-central-1.snowflakecomputing.com"),
        ("abc", "cn-northwest-1", "abc.cn-northwest-1.snowflakecomputing.cn"),
        ("abc.CN-northwest-1", None, "abc.cn-northwest-1.snowflakecomputing.cn"),
        ("org-acc.privatelink", None, "org-acc.privatelink.snowflakecomputing.com"),
    ],
)
def test_a_region_is_part_of_the_host(account: str, region: str | None, host: str) -> None:
    assert login(account=account, region=region).properties()["host"] == host


def test_a_login_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(login())


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("InvalidChannelError", "HTTP 400, error_code=STALE_CONTINUATION_TOKEN_SEQUENCER, x", FencedError),
        (
            "InvalidChannelError",
            "Channel is invalid in the remote with status: ERR_CHANNEL_MUST_BE_REOPENED",
            FencedError,
        ),
        ("ChannelNotFound", "error_code=ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED", ChannelForgottenError),
        (
            "SfApiNotFoundError",
            "HTTP 404, error_code=ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
            SnowflakeObjectNotFoundError,
        ),
        ("SfApiUserError", "HTTP 400, error_code=ERR_CHANNEL_LIMIT_EXCEEDED", ChannelLimitError),
        ("SfApiAuthError", "HTTP 401, error_code=390144", AccessDeniedError),
        ("InvalidChannelError", "HTTP 413, error_code=ERR_REQUEST_TOO_LARGE", RowTooLargeError),
        ("HttpRetriesExhaustedError", "HTTP 429, error_code=X", ThrottledError),
        ("MemoryThresholdExceeded", "Memory throttling limits reached", ThrottledError),
        ("InvalidChannelError", "HTTP 503, error_code=X", ServiceUnavailableError),
        ("ConfigError", "Failed to process configuration input", ServiceRefusedError),
        ("Fatal", "unexpected", ServiceUnavailableError),
    ],
)
def test_errors_of_the_sdk_have_names(code: str, message: str, kind: type[KinesisSnowflakeError]) -> None:
    status = {"ConfigError": 400, "MemoryThresholdExceeded": 429, "InvalidChannelError": 409}.get(code, 500)
    error = StreamingIngestError(
        StreamingIngestErrorCode(code), f"{message} url=https://x?t=secret", status, "X"
    )

    found = translate(error, doing="append rows to", target="DB.PUBLIC.T")

    assert type(found) is kind
    assert "DB.PUBLIC.T" in str(found)
    assert "secret" not in str(found)
