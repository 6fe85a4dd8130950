"""Faults between the workers and the services, and in Snowflake; some at a time, for some seconds each."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from tests.faults.actions import (
    CANCELLED,
    EXPIRED_ITERATOR,
    INTERNAL_FAILURE,
    LOCK_WAITERS,
    SERVICE_UNAVAILABLE,
    SESSION_EXPIRED,
    SESSION_GONE,
    THROTTLED,
    aws_error,
    cut,
    http_error,
    lose_answer,
    renew_session,
    snowflake_error,
    truncate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from tests.faults.proxy import Action, Answer, FaultProxy, Forward, Request, Rule
    from tests.faults.snowflake import NastySnowflake, SnowflakeFault
    from tests.faults.streaming import NastyStreaming, StreamingFault
    from tests.torture.journal import Journal

MOST_AT_A_TIME = 5
PAGE = 40


def slow(seconds: float, *, answer: bool = False) -> Action:
    """Hold a request back, or its answer."""

    async def action(request: Request, forward: Forward) -> Answer:
        if not answer:
            await asyncio.sleep(seconds)
            return await forward(request)
        held = await forward(request)
        await asyncio.sleep(seconds)
        return held

    return action


def done_but(failing: Action) -> Action:
    """Do what is asked, and answer as another action does: the answer is lost for good."""

    async def action(request: Request, forward: Forward) -> Answer:
        await forward(request)
        return await failing(request, forward)

    return action


async def small_pages(request: Request, forward: Forward) -> Answer:
    """Give few records at a time, so that a backlog takes many pages."""
    return await forward(request.with_json({**request.json, "Limit": PAGE}))


@dataclass(frozen=True)
class Fault:
    """Something that may happen to requests for a while.

    :param service: ``kinesis``, ``dynamodb`` or ``snowflake``
    :param operation: see :attr:`tests.faults.proxy.Request.operation`; ``None``: any
    """

    service: str
    name: str
    action: Action
    operation: str | None = None
    probability: float = 0.2

    def __str__(self) -> str:
        return f"{self.service} {self.operation or 'any'}: {self.name}"


_AWS = (
    Fault("kinesis", "throttled", aws_error(THROTTLED), "GetRecords", 0.4),
    Fault("kinesis", "iterator expired", aws_error(EXPIRED_ITERATOR), "GetRecords", 0.3),
    Fault("kinesis", "internal failure", aws_error(INTERNAL_FAILURE), "GetRecords"),
    Fault("kinesis", "cut", cut),
    Fault("kinesis", "answer lost", lose_answer),
    Fault("kinesis", "answer cut short", truncate, "GetRecords"),
    Fault("kinesis", "slow", slow(1.0), "GetRecords"),
    Fault("kinesis", "unavailable", aws_error(SERVICE_UNAVAILABLE), "ListShards"),
    Fault("dynamodb", "throttled", aws_error(THROTTLED)),
    Fault("dynamodb", "internal failure", aws_error("InternalServerError"), "UpdateItem"),
    Fault("dynamodb", "cut", cut),
    Fault("dynamodb", "answer lost", lose_answer, "UpdateItem", 0.3),
    Fault("dynamodb", "answer lost", lose_answer, "DeleteItem", 0.3),
    Fault("dynamodb", "slow", slow(1.5), "UpdateItem", 0.3),
    Fault("dynamodb", "answer slow", slow(4.0, answer=True), "UpdateItem", 0.1),
    Fault("snowflake", "cut", cut, "login-request"),
)
_COPY = (
    Fault("snowflake", "too many waiters", snowflake_error(*LOCK_WAITERS), "UPDATE", 0.3),
    Fault("snowflake", "cancelled", snowflake_error(*CANCELLED), "COPY"),
    Fault("snowflake", "cut", cut, "UPDATE"),
    Fault("snowflake", "cut", cut, "COMMIT", 0.3),
    Fault("snowflake", "cut", cut, "UPLOAD"),
    Fault("snowflake", "answer lost", lose_answer, "COMMIT", 0.4),
    Fault("snowflake", "answer lost", lose_answer, "UPDATE", 0.3),
    Fault("snowflake", "answer lost", lose_answer, "COPY", 0.3),
    Fault("snowflake", "answer lost", lose_answer, "MERGE", 0.3),
    Fault("snowflake", "answer cut short", truncate, "COPY"),
    Fault("snowflake", "done, session gone", done_but(snowflake_error(*SESSION_GONE)), "COMMIT", 0.5),
    Fault("snowflake", "done, too many waiters", done_but(snowflake_error(*LOCK_WAITERS)), "COMMIT", 0.3),
    Fault("snowflake", "session expired", snowflake_error(*SESSION_EXPIRED), "COMMIT", 0.3),
    Fault("snowflake", "session gone", snowflake_error(*SESSION_GONE), "UPDATE"),
    Fault("snowflake", "session gone", snowflake_error(*SESSION_GONE), "COMMIT"),
    Fault("snowflake", "unavailable", http_error(503), "SELECT"),
    Fault("snowflake", "slow", slow(2.0), "COMMIT", 0.3),
    Fault("snowflake", "answer slow", slow(4.0, answer=True), "COMMIT", 0.3),
    Fault("snowflake", "slow", slow(2.0), "UPDATE", 0.3),
)


@dataclass(frozen=True)
class Mood:
    """Something that Snowflake itself may do to sessions, statements, calls and channels for a while.

    :param method: of :class:`~tests.faults.snowflake.NastySnowflake`, or of
        :class:`~tests.faults.streaming.NastyStreaming`
    :param options: of that method
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    probability: float = 0.2

    def __str__(self) -> str:
        return f"snowflake itself: {self.name}"


def refused(call: str, status: int, code: str) -> Mapping[str, Any]:
    """Options of a call that is refused."""
    return {"call": call, "status": status, "code": code}


_COPY_MOODS = (
    Mood("ends transactions", "end_transaction", {"before": "^(COPY|UPDATE|SELECT|COMMIT)"}, 0.1),
    Mood("ends transactions before UPDATE", "end_transaction", {"before": "^UPDATE"}, 0.4),
    Mood("ends transactions before COMMIT", "end_transaction", {"before": "^COMMIT"}, 0.4),
    Mood("ends sessions", "end_session", {"before": "^(COPY|UPDATE|SELECT|COMMIT)"}, 0.1),
    Mood("runs statements twice", "deliver_twice", {"statement": "^(COPY|MERGE|UPDATE|COMMIT)"}),
    Mood(
        "runs statements twice, second answer",
        "deliver_twice",
        {"statement": "^(COPY|MERGE|UPDATE|COMMIT)", "answer": "second"},
    ),
    Mood("runs statements late", "deliver_late", {"statement": "^(COPY|UPDATE)", "after": 2}),
    Mood("runs a COMMIT late", "deliver_late", {"statement": "^COMMIT", "after": 2}),
    Mood("loses answers for good", "lose_answer", {"statement": "^(COPY|UPDATE|COMMIT)", "for_good": True}),
    Mood("never looks again", "never_look_again", probability=0.5),
    Mood("purges at COMMIT", "purge_at_commit", probability=0.5),
)
_ROWS = "POST .*/(rows|filebuffer)"
_STATUS = "POST :bulk-channel-status"
_STREAMING_MOODS = (
    Mood("loses answers to rows", "lose_answer", {"call": _ROWS}, 0.3),
    Mood("loses answers to openings", "lose_answer", {"call": "PUT .*"}, 0.3),
    Mood("loses answers about channels", "lose_answer", {"call": _STATUS}),
    Mood("cuts rows off", "cut", {"call": _ROWS}),
    Mood("cuts openings off", "cut", {"call": "PUT .*"}),
    Mood("gets rows twice", "repeat", {"call": _ROWS}, 0.4),
    Mood("gets openings twice", "repeat", {"call": "PUT .*"}, 0.3),
    Mood("gets rows late", "arrive_late", {"call": _ROWS, "seconds": 1.5}, 0.3),
    Mood("gets rows after a lease's time", "arrive_late", {"call": _ROWS, "seconds": 5.0}, 0.3),
    Mood("gets openings late", "arrive_late", {"call": "PUT .*", "seconds": 1.5}, 0.3),
    Mood("has channels opened by others", "fence", probability=0.3),
    Mood("commits late", "commit_late", {"seconds": 1.5}, 0.4),
    Mood("commits too late", "commit_late", {"seconds": 8.0}),
    Mood("throttles rows", "answer_error", refused(_ROWS, 429, "RECEIVER_SATURATED"), 0.5),
    Mood("is unavailable", "answer_error", refused(".*", 503, "SERVICE_UNAVAILABLE"), 0.3),
    Mood(
        "refuses continuation tokens",
        "answer_error",
        refused(_ROWS, 400, "STALE_CONTINUATION_TOKEN_SEQUENCER"),
    ),
    Mood("misses rows", "answer_error", refused(_ROWS, 400, "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER")),
    Mood(
        "says it has forgotten channels",
        "answer_error",
        refused(_ROWS, 404, "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"),
        0.1,
    ),
)
FAULTS: dict[str, tuple[Fault | Mood, ...]] = {
    COPY: (*_AWS, *_COPY, *_COPY_MOODS),
    STREAMING: (*_AWS, *_STREAMING_MOODS),
}
"""What may happen to drains, by their sink."""


class Weather:
    """Changes which faults happen.

    :param faults: which there are
    :param proxies: by service
    :param snowflake: the server behind its proxy
    """

    def __init__(
        self,
        faults: Sequence[Fault | Mood],
        proxies: dict[str, FaultProxy],
        snowflake: NastySnowflake | NastyStreaming,
        *,
        random: Random,
        journal: Journal,
    ) -> None:
        self._faults = faults
        self._proxies = proxies
        self._snowflake = snowflake
        self._random = random
        self._journal = journal
        self._present: list[tuple[Fault | Mood, Rule | SnowflakeFault | StreamingFault]] = []
        self._past: Counter[str] = Counter()
        proxies["kinesis"].add(small_pages, operation="GetRecords")
        proxies["snowflake"].add(renew_session, operation="token-request")

    def act(self) -> float:
        """Let some faults end and others begin, and say when to do so again."""
        for present in self._random.sample(self._present, self._random.randint(0, len(self._present))):
            self._end(*present)
        for _ in range(self._random.randint(0, MOST_AT_A_TIME - len(self._present))):
            fault = self._random.choice(self._faults)
            rule = self._begin(fault)
            self._journal.write("fault begins", fault=str(fault))
            self._present.append((fault, rule))
        return self._random.uniform(0.5, 4)

    def clear(self) -> None:
        """End all faults."""
        for present in list(self._present):
            self._end(*present)

    @property
    def faults(self) -> Counter[str]:
        """How many requests met a fault that is past, by kind."""
        return self._past

    def _begin(self, fault: Fault | Mood) -> Rule | SnowflakeFault | StreamingFault:
        limits: dict[str, Any] = {"probability": fault.probability, "seed": self._random.getrandbits(32)}
        if isinstance(fault, Fault):
            proxy = self._proxies[fault.service]
            return proxy.add(fault.action, operation=fault.operation, **limits)
        fault_in_force: SnowflakeFault | StreamingFault = getattr(self._snowflake, fault.method)(
            **fault.options, **limits
        )
        return fault_in_force

    def _end(self, fault: Fault | Mood, rule: Rule | SnowflakeFault | StreamingFault) -> None:
        rule.remove()
        self._present.remove((fault, rule))
        self._past[str(fault)] += rule.hits
        self._journal.write("fault ends", fault=str(fault), hits=rule.hits)
