"""A server that replays a canned backlog as Kinesis would send it, over real HTTP and with little work.

Every record is rendered before the first request. DynamoDB calls go on to a real server; ``GET /`` tells how
often each operation was called. ``python -m benchmarks.replay`` runs it until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.backlog import FIRST_SEQUENCE_NUMBER, STREAM, Backlog, kinesis_records, number_of

if TYPE_CHECKING:
    from collections.abc import Callable

_TARGET = re.compile(rb"(?im)^x-amz-target: *(\S+?)\.(\w+)\r$")
_LENGTH = re.compile(rb"(?im)^content-length: *(\d+)\r$")
_CREATED = 1_700_000_000.0
_PAGE_BYTES = 10 * 2**20


class Replay:
    """Answers the calls of a Kinesis reader.

    :param backlog: what the shards hold
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._records = kinesis_records(backlog)
        self._most_records = max(1, _PAGE_BYTES * 3 // 4 // len(self._records[0]))
        self._shards = [_shard(backlog, number) for number in range(backlog.shards)]
        self.calls: Counter[str] = Counter()
        self._operations: dict[str, Callable[[dict[str, Any]], list[bytes]]] = {
            "GetRecords": self._get_records,
            "GetShardIterator": self._get_shard_iterator,
            "ListShards": lambda asked: [_json({"Shards": self._shards})],
            "DescribeStreamSummary": lambda asked: [_json({"StreamDescriptionSummary": self._summary()})],
        }

    def answer(self, operation: str, body: bytes) -> list[bytes]:
        """The parts of an answer's body."""
        operate = self._operations.get(operation)
        return [b"{}"] if operate is None else operate(json.loads(body))

    def _get_records(self, asked: dict[str, Any]) -> list[bytes]:
        shard, _, text = asked["ShardIterator"].partition(":")
        first = int(text)
        end = min(first + min(asked["Limit"], self._most_records), len(self._records))
        behind = (len(self._records) - end) * 3_600_000 // len(self._records)
        return [
            f'{{"MillisBehindLatest":{behind},"NextShardIterator":"{shard}:{end}","Records":['.encode(),
            b",".join(self._records[first:end]),
            b"]}",
        ]

    def _get_shard_iterator(self, asked: dict[str, Any]) -> list[bytes]:
        first = 0
        if "StartingSequenceNumber" in asked:
            first = number_of(asked["StartingSequenceNumber"])
            first += asked["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"
        return [_json({"ShardIterator": f"{asked['ShardId']}:{first}"})]

    def _summary(self) -> dict[str, Any]:
        return {
            "StreamName": STREAM,
            "StreamARN": f"arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}",
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": _CREATED,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "OpenShardCount": self._backlog.shards,
            "ConsumerCount": 0,
        }


class Connection(asyncio.Protocol):
    """One kept-alive connection: requests in, answers out, in order."""

    def __init__(self, replay: Replay, dynamodb: str | None) -> None:
        self._replay = replay
        self._dynamodb = dynamodb
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the request once it is complete; AWS clients don't pipeline."""
        self._received += data
        head, end, body = bytes(self._received).partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not end or len(body) < (int(length[1]) if length else 0):
            return
        self._received.clear()
        target = _TARGET.search(head + b"\r\n")
        service, operation = (target[1].decode(), target[2].decode()) if target else ("", "")
        if head.startswith(b"GET / "):
            self._send([_json(dict(self._replay.calls))])
            return
        self._replay.calls[operation] += 1
        if service.startswith("DynamoDB") and self._dynamodb:
            self._forwarding = asyncio.ensure_future(self._forward(head, body, self._dynamodb))
        else:
            self._send(self._replay.answer(operation, body))

    async def _forward(self, head: bytes, body: bytes, url: str) -> None:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(head + b"\r\n\r\n" + body)
        answer_head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer_head)
        self._transport.write(answer_head + await reader.readexactly(int(length[1]) if length else 0))
        writer.close()

    def _send(self, parts: list[bytes]) -> None:
        size = sum(map(len, parts))
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nx-amzn-RequestId: replay\r\n"
            f"Date: {formatdate(usegmt=True)}\r\nContent-Length: {size}\r\n\r\n"
        )
        self._transport.writelines([head.encode(), *parts])


def _shard(backlog: Backlog, number: int) -> dict[str, Any]:
    width = 2**128 // backlog.shards
    return {
        "ShardId": f"shardId-{number:012d}",
        "HashKeyRange": {
            "StartingHashKey": str(width * number),
            "EndingHashKey": str(2**128 - 1 if number == backlog.shards - 1 else width * (number + 1) - 1),
        },
        "SequenceNumberRange": {"StartingSequenceNumber": str(FIRST_SEQUENCE_NUMBER - 1)},
    }


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def serve(replay: Replay, dynamodb: str | None) -> None:
    """Listen on a free port of 127.0.0.1 until cancelled, and say on which."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(replay, dynamodb), "127.0.0.1", 0)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve the backlog named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backlog", type=Backlog.loads)
    parser.add_argument("--dynamodb", help="URL of the DynamoDB server that such calls go on to")
    asked = parser.parse_args()
    asyncio.run(serve(Replay(asked.backlog), asked.dynamodb))


if __name__ == "__main__":
    main()
