"""Where the hooks call, as whom, and how they name the stream."""

from __future__ import annotations

import json
import re
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from airflow_kinesis_snowflake.exceptions import AccessDeniedError, InvalidSettingError
from airflow_kinesis_snowflake.hooks.aws import parameters_of_state
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ARN = "arn:aws:kinesis:eu-west-1:222222222222:stream/orders"
ROLE = "arn:aws:iam::222222222222:role/reader"
SHARD = {
    "ShardId": "shardId-000000000000",
    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
    "SequenceNumberRange": {"StartingSequenceNumber": "1"},
}
CREDENTIALS = (
    "<AccessKeyId>of-role</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
    "<Expiration>2100-01-01T00:00:00Z</Expiration>"
)
ANSWERS = {
    "DescribeStreamSummary": {
        "StreamDescriptionSummary": {
            "StreamName": "orders",
            "StreamARN": ARN,
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": 1_700_000_000,
            "OpenShardCount": 1,
            "EnhancedMonitoring": [],
        }
    },
    "ListShards": {"Shards": [SHARD]},
    "GetShardIterator": {"ShardIterator": "iterator"},
    "GetRecords": {"Records": [], "MillisBehindLatest": 0},
    "Query": {"Items": []},
}


@dataclass
class Service:
    """A service of AWS that answers, and remembers who asked for what."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    access_keys: list[str] = field(default_factory=list)
    external_id: str | None = None

    def answer(self, headers: Any, body: bytes) -> tuple[int, bytes]:
        key = re.search("Credential=([^/]+)/", headers.get("Authorization", ""))
        self.access_keys.append(key[1] if key else "")
        target = headers.get("X-Amz-Target", "").rpartition(".")[2]
        if target:
            self.requests.append({"call": target, **json.loads(body)})
            return 200, json.dumps(ANSWERS[target]).encode()
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.requests.append(asked)
        if asked.get("ExternalId") != self.external_id:
            return 403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        result = f"<AssumeRoleResult><Credentials>{CREDENTIALS}</Credentials></AssumeRoleResult>"
        return 200, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode()


@contextmanager
def served(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = service.answer(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service
        server.shutdown()
        thread.join()


@pytest.fixture
def services() -> Iterator[dict[str, Service]]:
    """Kinesis, DynamoDB and STS, each at an address of its own."""
    with ExitStack() as stack:
        names = ("kinesis", "dynamodb", "sts")
        yield {name: stack.enter_context(served(Service())) for name in names}


@pytest.fixture
def connect(services: dict[str, Service], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Function that defines an Airflow connection with the endpoint of each service, and more extras."""

    def define(conn_id: str, **extra: Any) -> None:
        endpoints = {name: {"endpoint_url": service.url} for name, service in services.items()}
        extra = {"region_name": "eu-west-1", "service_config": endpoints, **extra}
        connection = {"conn_type": "aws", "login": f"of-{conn_id}", "password": "secret", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))

    return define


def call_all(kinesis: KinesisStreamHook) -> None:
    kinesis.describe()
    kinesis.list_shards()
    kinesis.get_page(kinesis.get_iterator("shardId-000000000000", TRIM_HORIZON))


def test_each_service_is_called_at_its_endpoint(
    services: dict[str, Service], connect: Callable[..., None]
) -> None:
    connect("own")
    call_all(KinesisStreamHook("orders", aws_conn_id="own"))
    CheckpointStoreHook("application", aws_conn_id="own").read_state("orders")
    assert [len(services[name].requests) for name in ("kinesis", "dynamodb", "sts")] == [4, 1, 0]


def test_a_role_of_another_account_is_assumed_with_its_external_id_for_the_stream_alone(
    services: dict[str, Service], connect: Callable[..., None]
) -> None:
    services["sts"].external_id = "agreed"
    connect("own")
    connect("theirs", role_arn=ROLE, assume_role_kwargs={"ExternalId": "agreed"})
    aws = {"aws_conn_id": "theirs", "region_name": None}
    call_all(KinesisStreamHook(ARN, **aws))
    CheckpointStoreHook("application", **parameters_of_state(aws, "own")).read_state("orders")

    assert {(each["RoleArn"], each["ExternalId"]) for each in services["sts"].requests} == {(ROLE, "agreed")}
    assert set(services["sts"].access_keys) == {"of-theirs"}
    assert set(services["kinesis"].access_keys) == {"of-role"}
    assert services["dynamodb"].access_keys == ["of-own"]


def test_a_role_that_wants_another_external_id_is_an_action_that_is_not_allowed(
    services: dict[str, Service], connect: Callable[..., None]
) -> None:
    services["sts"].external_id = "agreed"
    connect("theirs", role_arn=ROLE)
    with pytest.raises(AccessDeniedError, match=r"Allow AssumeRole in"):
        KinesisStreamHook(ARN, aws_conn_id="theirs").describe()
    assert services["kinesis"].requests == []


@pytest.mark.parametrize(
    ("stream", "named"), [("orders", {"StreamName": "orders"}), (ARN, {"StreamARN": ARN})]
)
def test_every_call_names_the_stream_as_it_was_named(
    services: dict[str, Service], connect: Callable[..., None], stream: str, named: dict[str, str]
) -> None:
    connect("own")
    call_all(KinesisStreamHook(stream, aws_conn_id="own"))
    names = [
        {name: value for name, value in request.items() if name in {"StreamName", "StreamARN"}}
        for request in services["kinesis"].requests
    ]
    # An iterator takes no name.
    assert names == [named, named, named, {} if "StreamName" in named else named]


def test_the_region_is_that_of_the_arn_whatever_the_connection_says(connect: Callable[..., None]) -> None:
    connect("own", region_name="us-east-1")
    assert KinesisStreamHook(ARN, aws_conn_id="own").place() == ("eu-west-1", "aws")
    assert KinesisStreamHook("orders", aws_conn_id="own").place() == ("us-east-1", "aws")
    with pytest.raises(InvalidSettingError, match="region_name"):
        KinesisStreamHook(ARN, aws_conn_id="own", region_name="us-east-1")


def test_what_stream_an_arn_may_be_is_told_without_a_call(
    services: dict[str, Service], connect: Callable[..., None]
) -> None:
    connect("own")
    of_another_account = ARN.replace("2222", "3333", 1)
    of_another_region = ARN.replace("eu-west-1", "us-east-1")
    by_arn, by_name = (KinesisStreamHook(stream, aws_conn_id="own") for stream in (ARN, "orders"))
    arns = (ARN, of_another_account, of_another_region)
    assert [by_arn.may_be(arn) for arn in arns] == [True, False, False]
    assert [by_name.may_be(arn) for arn in arns] == [True, True, False]
    assert services["kinesis"].requests == []


def test_state_lies_where_its_connection_leads_or_else_where_the_stream_is(
    connect: Callable[..., None],
) -> None:
    connect("own", region_name="us-east-1")
    connect("theirs")
    aws = {"aws_conn_id": "theirs", "region_name": "eu-west-1"}
    assert CheckpointStoreHook("application", **parameters_of_state(aws, "own")).place()[0] == "us-east-1"
    for same in (None, "", "theirs"):
        assert parameters_of_state(aws, same) == aws


def test_without_an_endpoint_an_arn_leads_to_the_names_of_its_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": {}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    hosts: list[str] = []

    def stop(request: Any, **_: Any) -> SimpleNamespace:
        hosts.append(re.sub("https://|/$", "", request.url))
        body = json.dumps(ANSWERS[request.headers["X-Amz-Target"].decode().rpartition(".")[2]])
        headers = {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return SimpleNamespace(status_code=200, headers=headers, content=body.encode(), text=body)

    for stream in (ARN, "orders"):
        kinesis = KinesisStreamHook(stream, region_name="eu-west-1")
        for client in (kinesis._client_for_control(), kinesis._client_for_records()):
            client.meta.events.register("before-send", stop)
        call_all(kinesis)
    # The next page is asked for by its token alone, which says which stream it is of.
    monkeypatch.setitem(ANSWERS, "ListShards", {"Shards": [SHARD], "NextToken": "token"})
    kinesis = KinesisStreamHook(ARN, region_name="eu-west-1")
    asked: list[str] = []

    def stop_at_second(request: Any, **_: Any) -> SimpleNamespace:
        asked.append(request.body.decode())
        monkeypatch.setitem(ANSWERS, "ListShards", {"Shards": [SHARD]}) if len(asked) == 2 else None
        return stop(request)

    kinesis._client_for_control().meta.events.register("before-send", stop_at_second)
    assert len(kinesis.list_shards()) == 2
    assert [json.loads(body) for body in asked] == [{"StreamARN": ARN}, {"NextToken": "token"}]
    *hosts, of_first, of_second = hosts
    control, data = (f"222222222222.{plane}-kinesis.eu-west-1.amazonaws.com" for plane in ("control", "data"))
    assert hosts == [control, control, data, data, *["kinesis.eu-west-1.amazonaws.com"] * 4]
    assert (of_first, of_second) == (control, "kinesis.eu-west-1.amazonaws.com")
