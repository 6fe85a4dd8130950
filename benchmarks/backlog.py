"""Canned backlogs: what the shards of a replayed stream hold."""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
from dataclasses import asdict, dataclass
from typing import Literal

STREAM = "replayed"
FIRST_SEQUENCE_NUMBER = 10**55
SMALL = 60
"""Bytes of a record that is hardly more than its keys."""
LARGE = 1300
"""Bytes of a record of twice the usual size."""
_IN_AGGREGATE = 50


Kind = Literal["plain", "kpl", "gzip", "lines", "gzip lines", "logs"]


@dataclass(frozen=True)
class Backlog:
    """A stream whose shards all hold the same records, so that little memory serves much data.

    :param shards: number of open shards
    :param records: user records that each shard holds
    :param size: bytes of a user record, a JSON object; at least 600, or exactly 60
    :param kind: ``plain``; ``kpl`` for aggregates of 50 user records each; ``gzip`` for one compressed;
        ``lines`` for 50 with a line end behind each; ``gzip lines`` for these compressed; ``logs`` for
        messages of CloudWatch Logs with 50 each
    """

    shards: int = 8
    records: int = 50_000
    size: int = 650
    kind: Kind = "plain"

    @property
    def total_records(self) -> int:
        """User records in the stream."""
        return self.shards * self.records

    @property
    def total_bytes(self) -> int:
        """Their payload bytes."""
        return self.total_records * self.size

    def dumps(self) -> str:
        """The backlog as text for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Backlog:
        """Read what :meth:`dumps` wrote."""
        return cls(**json.loads(text))


def kinesis_records(backlog: Backlog) -> list[bytes]:
    """The records of a shard, each as GetRecords sends it. They arrived within the last hour, in order."""
    generator = random.Random(0)
    payloads = documents(backlog, generator)
    if backlog.kind == "gzip":
        payloads = [gzip.compress(payload, mtime=0) for payload in payloads]
    elif backlog.kind != "plain":
        together = {"kpl": aggregate, "lines": lines, "gzip lines": gzip_lines, "logs": logs}[backlog.kind]
        payloads = [
            together(payloads[first : first + _IN_AGGREGATE])
            for first in range(0, len(payloads), _IN_AGGREGATE)
        ]
    began, step = time.time() - 3600, 3600 / len(payloads)
    return [
        f'{{"ApproximateArrivalTimestamp":{began + number * step:.12E},'
        f'"Data":"{base64.b64encode(data).decode()}",'
        f'"PartitionKey":"key-{generator.getrandbits(40):012x}",'
        f'"SequenceNumber":"{FIRST_SEQUENCE_NUMBER + number}"}}'.encode()
        for number, data in enumerate(payloads)
    ]


def lines(payloads: list[bytes]) -> bytes:
    """Documents with a line end behind each."""
    return b"".join(payload + b"\n" for payload in payloads)


def gzip_lines(payloads: list[bytes]) -> bytes:
    """Documents with a line end behind each, compressed together."""
    return gzip.compress(lines(payloads), mtime=0)


def logs(payloads: list[bytes]) -> bytes:
    """A message of a CloudWatch Logs subscription, whose events are the documents."""
    events = [
        {"id": f"{number:056d}", "timestamp": 1764000000000 + number, "message": payload.decode()}
        for number, payload in enumerate(payloads)
    ]
    message = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/shop",
        "logStream": "2025/06/15/[$LATEST]0123456789abcdef",
        "subscriptionFilters": ["to-kinesis"],
        "logEvents": events,
    }
    return gzip.compress(json.dumps(message).encode(), mtime=0)


def number_of(sequence_number: str) -> int:
    """Which record of its shard has a sequence number, counted from 0."""
    return int(sequence_number) - FIRST_SEQUENCE_NUMBER


def documents(backlog: Backlog, generator: random.Random) -> list[bytes]:
    """The payloads of a shard: events of a web shop, ended by text so that each has the size asked for."""
    return [document(backlog.size, index, generator) for index in range(backlog.records)]


def document(size: int, index: int, generator: random.Random) -> bytes:
    """One event as JSON, of exactly so many bytes."""
    choose, number = generator.choice, generator.randrange
    if size == SMALL:
        return f'{{"id":"{generator.getrandbits(128):032x}","n":{number(10**6, 10**7)},"ok":true}}'.encode()
    event = {
        "id": f"{generator.getrandbits(128):032x}",
        "at": f"2025-06-15T14:{index // 60 % 60:02d}:{index % 60:02d}.{number(1000):03d}Z",
        "kind": choose(["view", "click", "order", "refund"]),
        "session": f"{generator.getrandbits(64):016x}",
        "user": {"id": number(10**7), "country": choose(["DE", "FR", "PL", "US"]), "new": number(10) == 0},
        "page": {
            "path": f"/{choose(_WORDS)}/{choose(_WORDS)}/{number(10**5)}",
            "referrer": choose(_REFERRERS),
        },
        "device": {"agent": choose(_AGENTS), "width": choose([360, 1280, 1920]), "touch": number(2) == 1},
        "items": [
            {"sku": f"SKU-{number(10**6):06d}", "quantity": number(1, 5), "price": number(10**5) / 100}
        ],
        "total": number(10**6) / 100,
        "coupon": None,
        "note": "",
    }
    text = json.dumps(event, separators=(",", ":"))
    note = " ".join(generator.choices(_WORDS, k=(size - len(text)) // 3 + 1))[: size - len(text)]
    return f'{text[:-2]}{note}"}}'.encode()


_WORDS = [
    "and",
    "blue",
    "by",
    "coat",
    "cotton",
    "fast",
    "for",
    "free",
    "from",
    "garden",
    "green",
    "gift",
    "hat",
    "in",
    "large",
    "light",
    "long",
    "new",
    "of",
    "on",
    "open",
    "order",
    "red",
    "return",
    "sale",
    "shipping",
    "shirt",
    "shoes",
    "size",
    "small",
    "soft",
    "store",
    "summer",
    "table",
    "tea",
    "the",
    "to",
    "today",
    "warm",
    "white",
    "with",
]
_REFERRERS = (
    None,
    "https://www.example.com/search",
    "https://news.example.org/",
    "https://shop.example.net/home",
)
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
)


def aggregate(payloads: list[bytes]) -> bytes:
    """User records as one KPL aggregate, each with a partition key of its own."""
    from aws_kinesis_agg.aggregator import RecordAggregator

    aggregator = RecordAggregator()
    for index, payload in enumerate(payloads):
        aggregator.add_user_record(f"key-{index:012x}", payload)
    contents: bytes = aggregator.clear_and_get().get_contents()[2]
    return contents
