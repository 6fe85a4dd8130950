"""Enhanced fan-out in front of a local Kinesis that knows none of it.

``python -m local.fan_out http://127.0.0.1:4567`` answers the calls about consumers, streams SubscribeToShard
in the encoding of AWS, and hands everything else on. Shards are read by GetRecords, so a local stream pushes
no sooner than it can be polled. Of the limits of AWS it has the number of consumers, the five seconds between
two subscriptions and the five minutes that one lasts, but none of throughput; it forgets its consumers when
it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import threading
import time
from base64 import b64encode
from binascii import crc32
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from struct import pack
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from local.services import AWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mypy_boto3_kinesis import KinesisClient

    Alter = Callable[[Iterator[bytes]], Iterable[bytes]]

JSON = "application/x-amz-json-1.1"
EVENT_STREAM = "application/vnd.amazon.eventstream"
POLL_SECONDS = 0.1
_STRING = 7


class CutOffError(Exception):
    """Raised by what a test does to the messages of a subscription: its connection breaks."""


class RefusedError(Exception):
    """An error of AWS.

    :param code: its name, such as ``ResourceInUseException``
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Subscriptions:
    """Of one consumer and shard.

    :param count: how many there were; a subscription that isn't the last of them has ended
    :param since: when the last began
    """

    count: int = 0
    since: float = -1e9


@dataclass
class Rules:
    """What the stand-in does as AWS does it, unless a test wants it otherwise.

    :param most_consumers: of a stream
    :param between_seconds: from one subscription of a shard to the next
    :param lifetime_seconds: of a subscription
    :param event_records: at most so many records come in one event
    :param heartbeat_seconds: from one event to the next while there are no records
    :param denied: operations that are answered with AccessDeniedException
    :param alter: what happens to the messages of each subscription on their way
    """

    most_consumers: int = 20
    between_seconds: float = 5.0
    lifetime_seconds: float = 300.0
    event_records: int = 500
    heartbeat_seconds: float = 5.0
    denied: set[str] = field(default_factory=set)
    alter: Alter = iter


class FanOut:
    """Serves on a free port of 127.0.0.1, on threads of this process; a context manager.

    :param kinesis_url: of the Kinesis behind it
    """

    def __init__(self, kinesis_url: str, *, port: int = 0) -> None:
        self.rules = Rules()
        self.calls: list[str] = []
        self.consumers: dict[tuple[str, str], dict[str, Any]] = {}
        self.subscriptions: dict[tuple[str, str], Subscriptions] = {}
        self.open_subscriptions = self.cuts = 0
        self.lock = threading.Lock()
        self.behind = urlsplit(kinesis_url)
        self.kinesis: KinesisClient = AWS.client("kinesis", endpoint_url=kinesis_url)
        handler = type("Handler", (_Handler,), {"fan_out": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- consumers -----------------------------------------------------------------------------------------

    def register(self, asked: dict[str, Any]) -> dict[str, Any]:
        """RegisterStreamConsumer."""
        stream_arn, name = asked["StreamARN"], asked["ConsumerName"]
        self.kinesis.describe_stream_summary(StreamName=stream_of(stream_arn))
        with self.lock:
            if (stream_arn, name) in self.consumers:
                raise RefusedError("ResourceInUseException", f"Consumer {name} already exists.")
            if sum(arn == stream_arn for arn, _ in self.consumers) >= self.rules.most_consumers:
                raise RefusedError("LimitExceededException", f"Limit exceeded for consumers of {stream_arn}.")
            created = int(time.time())
            consumer = {
                "ConsumerName": name,
                "ConsumerARN": f"{stream_arn}/consumer/{name}:{created}",
                "ConsumerStatus": "CREATING",
                "ConsumerCreationTimestamp": created,
            }
            self.consumers[stream_arn, name] = consumer
        return {"Consumer": consumer}

    def describe(self, asked: dict[str, Any]) -> dict[str, Any]:
        """DescribeStreamConsumer; a consumer is active from its second description on."""
        with self.lock:
            (stream_arn, _), consumer = self._find(asked)
            described = consumer | {"StreamARN": stream_arn}
            consumer["ConsumerStatus"] = "ACTIVE"
        return {"ConsumerDescription": described}

    def list(self, asked: dict[str, Any]) -> dict[str, Any]:
        """ListStreamConsumers."""
        with self.lock:
            consumers = [each for (arn, _), each in self.consumers.items() if arn == asked["StreamARN"]]
        return {"Consumers": consumers}

    def deregister(self, asked: dict[str, Any]) -> dict[str, Any]:
        """DeregisterStreamConsumer."""
        with self.lock:
            key, _ = self._find(asked)
            del self.consumers[key]
        return {}

    def _find(self, asked: dict[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
        for key, consumer in self.consumers.items():
            by_arn = asked.get("ConsumerARN") == consumer["ConsumerARN"]
            if by_arn or key == (asked.get("StreamARN"), asked.get("ConsumerName")):
                return key, consumer
        raise RefusedError("ResourceNotFoundException", "Consumer not found.")

    # --- subscriptions -------------------------------------------------------------------------------------

    def subscribe(self, asked: dict[str, Any]) -> Iterator[bytes]:
        """SubscribeToShard: its messages."""
        arn, shard_id = asked["ConsumerARN"], asked["ShardId"]
        with self.lock:
            (stream_arn, _), consumer = self._find(asked)
            if consumer["ConsumerStatus"] != "ACTIVE":
                raise RefusedError("ResourceInUseException", "The consumer isn't active.")
            state = self.subscriptions.setdefault((arn, shard_id), Subscriptions())
            if time.monotonic() - state.since < self.rules.between_seconds:
                raise RefusedError(
                    "ResourceInUseException", f"Another active subscription exists for this consumer: {arn}."
                )
        cuts = self.cuts
        reading = _Reading(
            self.kinesis,
            stream_of(stream_arn),
            shard_id,
            asked["StartingPosition"],
            limit=self.rules.event_records,
        )
        with self.lock:
            state.count += 1
            state.since = time.monotonic()
            number = state.count

        def current() -> bool:
            if self.cuts > cuts:
                raise CutOffError
            return state.count == number

        return self._messages(reading, current)

    def cut_off(self) -> None:
        """Break the connections of all subscriptions."""
        self.cuts += 1

    def _messages(self, reading: _Reading, current: Callable[[], bool]) -> Iterator[bytes]:
        ends = time.monotonic() + self.rules.lifetime_seconds
        due = 0.0
        yield event("initial-response", {})
        while time.monotonic() < ends and not self.stopping.is_set():
            if not current():
                yield exception("ResourceInUseException", "The consumer has subscribed to the shard again.")
                return
            said = reading.next()
            if said["Records"] or "ChildShards" in said or time.monotonic() >= due:
                due = time.monotonic() + self.rules.heartbeat_seconds
                yield event("SubscribeToShardEvent", said)
            if "ChildShards" in said:
                return
            if not said["MillisBehindLatest"]:
                self.stopping.wait(POLL_SECONDS)


class _Reading:
    """Reads a shard by GetRecords."""

    def __init__(
        self, kinesis: KinesisClient, stream: str, shard_id: str, start: dict[str, Any], *, limit: int
    ) -> None:
        self._kinesis = kinesis
        self._limit = limit
        self._stream = stream
        self._shard_id = shard_id
        answer = self._iterator(start)
        self._continuation = start.get("SequenceNumber") or self._before(start)
        self._next: str | None = answer

    def next(self) -> dict[str, Any]:
        """What an event says."""
        assert self._next is not None
        answer = self._kinesis.get_records(ShardIterator=self._next, Limit=self._limit)
        if "Records" not in answer:
            raise CutOffError  # botocore takes what isn't JSON for an answer without anything.
        self._next = answer.get("NextShardIterator")
        if answer["Records"]:
            self._continuation = answer["Records"][-1]["SequenceNumber"]
        said: dict[str, Any] = {
            "Records": [plain_record(dict(record)) for record in answer["Records"]],
            "MillisBehindLatest": answer["MillisBehindLatest"],
        }
        if self._next is None:
            return said | {"ChildShards": self._children()}
        return said | {"ContinuationSequenceNumber": self._continuation}

    def _iterator(self, start: dict[str, Any]) -> str:
        more = {"SequenceNumber": "StartingSequenceNumber", "Timestamp": "Timestamp"}
        position: dict[str, Any] = {more[name]: value for name, value in start.items() if name in more}
        return self._kinesis.get_shard_iterator(
            StreamName=self._stream, ShardId=self._shard_id, ShardIteratorType=start["Type"], **position
        )["ShardIterator"]

    def _before(self, start: dict[str, Any]) -> str:
        """The last number before a start that isn't one."""
        (found,) = (each for each in self._shards() if each["ShardId"] == self._shard_id)
        number: str = found["SequenceNumberRange"]["StartingSequenceNumber"]
        iterator: str | None = self._iterator({"Type": "TRIM_HORIZON"}) if "Timestamp" in start else None
        while iterator:
            page = self._kinesis.get_records(ShardIterator=iterator)
            for record in page["Records"]:
                if record["ApproximateArrivalTimestamp"].timestamp() >= start["Timestamp"]:
                    return number
                number = record["SequenceNumber"]
            iterator = page.get("NextShardIterator") if page["MillisBehindLatest"] else None
        return number

    def _children(self) -> list[dict[str, Any]]:
        found = []
        for shard in self._shards():
            parents = [shard.get(name) for name in ("ParentShardId", "AdjacentParentShardId")]
            if self._shard_id in parents:
                found.append(
                    {
                        "ShardId": shard["ShardId"],
                        "ParentShards": [parent for parent in parents if parent],
                        "HashKeyRange": shard["HashKeyRange"],
                    }
                )
        return found

    def _shards(self) -> list[dict[str, Any]]:
        return [dict(shard) for shard in self._kinesis.list_shards(StreamName=self._stream)["Shards"]]


class _Handler(BaseHTTPRequestHandler):
    fan_out: ClassVar[FanOut]
    protocol_version = "HTTP/1.1"
    _behind: http.client.HTTPConnection | None = None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        server = self.fan_out
        server.calls.append(operation)
        own: dict[str, Callable[[dict[str, Any]], Any]] = {
            "RegisterStreamConsumer": server.register,
            "DescribeStreamConsumer": server.describe,
            "ListStreamConsumers": server.list,
            "DeregisterStreamConsumer": server.deregister,
            "SubscribeToShard": server.subscribe,
        }
        try:
            if operation in server.rules.denied:
                raise RefusedError(
                    "AccessDeniedException", f"User: me is not authorized: kinesis:{operation}"
                )
            if operation not in own:
                self._hand_on(body)
                return
            answer = own[operation](json.loads(body))
        except RefusedError as error:
            self._answer(400, {"__type": error.code, "message": str(error)})
        except BotoCoreError as error:
            self._answer(503, {"__type": "ServiceUnavailable", "message": str(error)})
        except ClientError as error:
            said = error.response["Error"]
            self._answer(400, {"__type": said["Code"], "message": said["Message"]})
        else:
            if operation == "SubscribeToShard":
                self._stream(answer)
            else:
                self._answer(200, answer)

    def do_GET(self) -> None:
        self._answer(200, {})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, JSON, json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hand_on(self, body: bytes) -> None:
        if self._behind is None:
            self._behind = http.client.HTTPConnection(self.fan_out.behind.netloc)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        try:
            self._behind.request("POST", "/", body, headers)
            answer = self._behind.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._behind.close()
            self._behind, self.close_connection = None, True
        else:
            self._send(answer.status, answer.headers.get("Content-Type", JSON), content)

    def _stream(self, messages: Iterator[bytes]) -> None:
        server = self.fan_out
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", EVENT_STREAM)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        with server.lock:
            server.open_subscriptions += 1
        # A client that has gone is noticed at the next message.
        with contextlib.suppress(ConnectionError, CutOffError, ClientError, BotoCoreError):
            try:
                for each in server.rules.alter(messages):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(each), each))
                self.wfile.write(b"0\r\n\r\n")
            finally:
                with server.lock:
                    server.open_subscriptions -= 1

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        if self._behind is not None:
            self._behind.close()
        with contextlib.suppress(ConnectionError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


# --- the encoding ------------------------------------------------------------------------------------------


def message(headers: dict[str, str], payload: dict[str, Any]) -> bytes:
    """A message of ``application/vnd.amazon.eventstream``.

    Lengths of the whole and of the headers, their checksum, headers, payload, and the checksum of everything.
    """
    encoded = b"".join(
        pack("!B", len(name)) + name.encode() + pack("!BH", _STRING, len(value)) + value.encode()
        for name, value in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = pack("!II", 16 + len(encoded) + len(body), len(encoded))
    front = prelude + pack("!I", crc32(prelude)) + encoded + body
    return front + pack("!I", crc32(front))


def event(kind: str, payload: dict[str, Any]) -> bytes:
    """An event, such as a SubscribeToShardEvent."""
    return message({":message-type": "event", ":event-type": kind, ":content-type": JSON}, payload)


def exception(kind: str, text: str) -> bytes:
    """An error that ends a subscription."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": JSON}
    return message(headers, {"message": text})


def plain_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record as JSON has it."""
    return record | {
        "Data": b64encode(record["Data"]).decode(),
        "ApproximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
    }


def stream_of(arn: str) -> str:
    """The name of a stream by its ARN."""
    return arn.partition(":stream/")[2]


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Enhanced fan-out in front of a local Kinesis.")
    parser.add_argument("kinesis_url", help="of the Kinesis behind it")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), FanOut(asked.kinesis_url, port=asked.port) as server:
        print(f"listening on {server.url.removeprefix('http://')}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
