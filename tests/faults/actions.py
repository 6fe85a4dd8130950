"""What can happen to a request: each is an action of a rule, or makes one."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tests.faults.proxy import Answer, ConnectionCut

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tests.faults.proxy import Action, Forward, Request

# --- connections -------------------------------------------------------------------------------------------


async def cut(request: Request, forward: Forward) -> NoReturn:
    """Close the connection; the service never sees the request."""
    raise ConnectionCut


async def lose_answer(request: Request, forward: Forward) -> NoReturn:
    """Close the connection after the service has done what was asked."""
    await forward(request)
    raise ConnectionCut


async def truncate(request: Request, forward: Forward) -> NoReturn:
    """Close the connection in the middle of the answer."""
    raise ConnectionCut(await forward(request))


class Hold:
    """Holds requests back until the test lets them go: all that come until then, in no fixed order.

    A request whose sender is gone meanwhile goes on to the service all the same, as one that was long under
    way would. A context manager that releases at the end of the block.

    :param answer: let requests through at once and hold their answers back
    """

    def __init__(self, *, answer: bool = False) -> None:
        self._answer = answer
        self._reached = threading.Event()
        self._released: Future[None] = Future()

    async def __call__(self, request: Request, forward: Forward) -> Answer:
        if not self._answer:
            await self._hold()
            return await forward(request)
        answer = await forward(request)
        await self._hold()
        return answer

    async def _hold(self) -> None:
        self._reached.set()
        await asyncio.shield(asyncio.wrap_future(self._released))

    def wait(self, timeout: float = 30) -> None:
        """Return when it holds something.

        :raises TimeoutError: nothing came in so many seconds
        """
        if not self._reached.wait(timeout):
            raise TimeoutError(f"nothing to hold in {timeout:g} s")

    def release(self) -> None:
        """Let everything go, now and from now on."""
        if not self._released.done():
            self._released.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


# --- AWS ---------------------------------------------------------------------------------------------------

THROTTLED = "ProvisionedThroughputExceededException"
EXPIRED_ITERATOR = "ExpiredIteratorException"
ACCESS_DENIED = "AccessDeniedException"
INTERNAL_FAILURE = "InternalFailure"
SERVICE_UNAVAILABLE = "ServiceUnavailable"
_STATUS = {INTERNAL_FAILURE: 500, "InternalServerError": 500, SERVICE_UNAVAILABLE: 503}


def aws_error(code: str, message: str = "injected") -> Action:
    """Answer as AWS does when it refuses or fails; the service never sees the request.

    :param code: such as :data:`THROTTLED`; says the HTTP status too
    """
    body = json.dumps({"__type": code, "message": message}).encode()
    return _answering(_STATUS.get(code, 400), "application/x-amz-json-1.1", body)


def iterator_older_than(requests: int) -> Callable[[Request], bool]:
    """Condition: the iterator was handed out more than so many GetRecords requests ago. Goes with
    ``aws_error(EXPIRED_ITERATOR)``; ``iterator_older_than(0)`` is true of every iterator.
    """
    return lambda request: (request.iterator_age or 0) > requests


def edit(change: Callable[[dict[str, Any]], object]) -> Action:
    """Forward the request, and change the JSON of a good answer in place."""

    async def action(request: Request, forward: Forward) -> Answer:
        answer = await forward(request)
        if answer.status != 200:
            return answer
        body = answer.json
        change(body)
        return answer.with_json(body)

    return action


def without_shards(*shard_ids: str) -> Action:
    """Leave shards out of ListShards, as when all their records have aged out."""

    def change(body: dict[str, Any]) -> None:
        body["Shards"] = [shard for shard in body["Shards"] if shard["ShardId"] not in shard_ids]

    return edit(change)


def created_at(moment: datetime) -> Action:
    """Date the stream in DescribeStreamSummary, as when it was deleted and made again."""

    def change(body: dict[str, Any]) -> None:
        body["StreamDescriptionSummary"]["StreamCreationTimestamp"] = moment.timestamp()

    return edit(change)


def forget_up_to(sequence_number: str) -> Action:
    """Age out a shard's records up to and including one that it holds. Goes with the condition ``shard_id``.

    As in Kinesis, iterators that would begin at or before it begin behind it.
    """
    bound = int(sequence_number)

    def drop(body: dict[str, Any]) -> None:
        body["Records"] = [record for record in body["Records"] if int(record["SequenceNumber"]) > bound]

    async def action(request: Request, forward: Forward) -> Answer:
        if request.operation == "GetShardIterator" and _begins_by(request.json, bound):
            behind = {
                **request.json,
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": sequence_number,
            }
            return await forward(request.with_json(behind))
        return await (edit(drop) if request.operation == "GetRecords" else _forward)(request, forward)

    return action


def _begins_by(asked: dict[str, Any], bound: int) -> bool:
    kind = asked["ShardIteratorType"]
    return kind == "TRIM_HORIZON" or int(asked.get("StartingSequenceNumber", bound + 1)) <= bound


async def _forward(request: Request, forward: Forward) -> Answer:
    return await forward(request)


# --- Snowflake ---------------------------------------------------------------------------------------------

LOCK_WAITERS = ("000625", "57014", "Statement has locked table in another transaction: too many waiters")
CANCELLED = ("000604", "57014", "SQL execution canceled")
SESSION_EXPIRED = ("390112", "08001", "Your session has expired. Please login again.")
SESSION_GONE = ("390111", "08001", "Session no longer exists. New login required to access the service.")
LOGIN_EXPIRED = ("390114", "08001", "Authentication token has expired. Authenticate again.")
ALREADY_MADE = ("002002", "42710", "SQL compilation error: Object already exists.")
NO_WAREHOUSE = ("000606", "57P03", "No active warehouse selected in the current session.")


def snowflake_error(code: str, sql_state: str = "42601", message: str = "injected") -> Action:
    """Answer as Snowflake does when a statement fails; the service never sees it.

    ``snowflake_error(*LOCK_WAITERS)``

    :param code: six digits
    """
    body = {
        "data": {"errorCode": code, "sqlState": sql_state, "queryId": "01234567-0000-0000-0000-000000000000"},
        "code": code,
        "message": message,
        "success": False,
    }
    return _answering(200, "application/json", json.dumps(body).encode())


def http_error(status: int) -> Action:
    """Answer with a bare HTTP status, as a gateway in between does."""
    return _answering(status, "text/html", b"<html>injected</html>")


async def renew_session(request: Request, forward: Forward) -> Answer:
    """Renew the session. Goes with ``operation="token-request"``, which fakesnow doesn't know."""
    body = {
        "data": {
            "sessionToken": request.json["oldSessionToken"],
            "validityInSecondsST": 3600,
            "masterToken": "renewed",
            "masterValidityInSeconds": 14400,
            "validityInSecondsMT": 14400,
            "sessionId": 1,
        },
        "success": True,
    }
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())


def _answering(status: int, content_type: str, body: bytes) -> Action:
    async def action(request: Request, forward: Forward) -> Answer:
        return Answer(status, {"Content-Type": content_type}, body)

    return action
