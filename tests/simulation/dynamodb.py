"""A model of DynamoDB beneath the real checkpoint store hook: one table, its expressions, its answers."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.stream.times import moment
from tests.simulation.machine import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.simulation.ledger import Ledger
    from tests.simulation.machine import Machine
    from tests.simulation.weather import Weather

    Item = dict[str, Any]
    Condition = Callable[[Item, Mapping[str, Any]], bool]

ATTEMPTS = 5
_TOKEN = re.compile(r"\s*(<=|>=|<|>|=|\(|\)|,|[#:]?\w+)")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
}


class Table:
    """The rows of one application.

    :param application: whose, and its name
    :param ledger: is told each row that was written
    """

    def __init__(self, application: str, ledger: Ledger) -> None:
        self.application = application
        self.items: dict[str, Item] | None = None
        self.created = moment(EPOCH * 1000)
        self._ledger = ledger

    def update(self, request: Mapping[str, Any], *, writer: str) -> Item:
        """Carry out an UpdateItem; the row as it is then."""
        rows = self.rows
        key = request["Key"]["shardId"]["S"]
        before = rows.get(key, {})
        self._check(request, before)
        after = {**request["Key"], **before}
        names = request["ExpressionAttributeNames"]
        values = request["ExpressionAttributeValues"]
        sets, _, removals = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
        for assignment in re.split(r", (?=#a\d+ =)", sets):
            target, _, value = assignment.partition(" = ")
            if not value.startswith("if_not_exists"):
                after[names[target]] = values[value]
            elif names[target] not in before:
                after[names[target]] = values[value.partition(", ")[2].rstrip(")")]
        for alias in filter(None, removals.split(", ")):
            after.pop(names[alias], None)
        rows[key] = after
        self._ledger.row_written(self.application, writer, before, after)
        return after

    def delete(self, request: Mapping[str, Any], *, writer: str) -> None:
        """Carry out a DeleteItem."""
        key = request["Key"]["shardId"]["S"]
        self._check(request, self.rows.get(key, {}))
        if (before := self.rows.pop(key, None)) is not None:
            self._ledger.row_written(self.application, writer, before, {})

    def drop(self, *, writer: str) -> None:
        """Carry out a DeleteTable."""
        before, self.items = self.rows, None
        self._ledger.table_dropped(self.application, writer, list(before))

    @property
    def rows(self) -> dict[str, Item]:
        """The rows of a table that is there."""
        if self.items is None:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "AnyOperation")
        return self.items

    def _check(self, request: Mapping[str, Any], item: Item) -> None:
        text = request.get("ConditionExpression")
        if text and not condition(text)(item, request.get("ExpressionAttributeValues", {})):
            answer: Any = {"Error": {"Code": "ConditionalCheckFailedException"}}
            raise ClientError(answer | ({"Item": dict(item)} if item else {}), "UpdateItem")


class Client:
    """What the hook calls of a botocore client, which repeats calls whose answers were lost."""

    def __init__(self, table: Table, machine: Machine, weather: Weather) -> None:
        self._table = table
        self._machine = machine
        self._weather = weather

    def describe_table(self, **_: Any) -> Any:
        return self._call(self._describe)

    def create_table(self, **_: Any) -> Any:
        return self._call(self._create)

    def update_item(self, **request: Any) -> Any:
        return self._call(
            lambda: {"Attributes": dict(self._table.update(request, writer=self._machine.name))}
        )

    def delete_item(self, **request: Any) -> Any:
        return self._call(lambda: self._table.delete(request, writer=self._machine.name))

    def delete_table(self, **_: Any) -> Any:
        return self._call(lambda: self._table.drop(writer=self._machine.name))

    def tag_resource(self, **_: Any) -> Any:
        return self._call(lambda: self._table.rows)

    def get_item(self, **request: Any) -> Any:
        def get() -> Any:
            item = self._table.rows.get(request["Key"]["shardId"]["S"])
            return {"Item": dict(item)} if item else {}

        return self._call(get)

    def get_waiter(self, _: str) -> Client:
        return self

    def wait(self, **_: Any) -> None:
        """Tables are there at once."""

    def get_paginator(self, _: str) -> Client:
        return self

    def paginate(self, *, ScanIndexForward: bool = True, **_: Any) -> Iterator[Any]:  # noqa: N803 -- DynamoDB's
        def rows() -> Any:
            found = sorted(self._table.rows.items(), reverse=not ScanIndexForward)
            return {"Items": [dict(item) for _, item in found]}

        yield self._call(rows)

    def _call(self, effect: Callable[[], Any]) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            if self._weather.hinders("refused", self._machine) and attempt == 1:
                self._weather.call(self._machine, lambda: None)
                raise EndpointConnectionError(endpoint_url="simulated")
            result = self._weather.call(self._machine, effect)
            if not self._weather.strikes("repeated"):
                return result
        return result

    def _describe(self) -> Any:
        if self._table.items is None:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "DescribeTable")
        keys = (("streamName", "HASH"), ("shardId", "RANGE"))
        return {
            "Table": {
                "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in keys],
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
                "TableArn": "arn:aws:dynamodb:eu-west-1:123456789012:table/simulated",
                "CreationDateTime": self._table.created,
                "TableStatus": "ACTIVE",
            }
        }

    def _create(self) -> None:
        if self._table.items is not None:
            raise ClientError({"Error": {"Code": "ResourceInUseException"}}, "CreateTable")
        self._table.items = {}
        self._table.created = moment(int((EPOCH + self._machine.scheduler.now) * 1000))


class SimulatedStore(CheckpointStoreHook):
    """The hook as it is, with another client."""

    def __init__(self, table: Table, machine: Machine, weather: Weather) -> None:
        super().__init__(table.application)
        self.machine = machine
        self._simulated = Client(table, machine, weather)

    def get_conn(self) -> Any:
        """The client."""
        return self._simulated

    @property
    def region_name(self) -> str:
        """A region for messages."""
        return "eu-west-1"


@cache
def condition(text: str) -> Condition:
    """Read a condition expression, as far as the hook uses them."""
    tokens = _TOKEN.findall(text)
    return _Parser(tokens).either()


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def either(self) -> Condition:
        parts = [self._both()]
        while self._take("OR"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda item, values: any(p(item, values) for p in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda item, values: all(p(item, values) for p in parts)

    def _one(self) -> Condition:
        if self._take("("):
            inside = self.either()
            assert self._take(")")
            return inside
        if self._tokens[self._at] in ("attribute_exists", "attribute_not_exists"):
            wanted = self._next() == "attribute_exists"
            name = self._argument()
            return lambda item, _: (name in item) is wanted
        left, comparison, right = self._operand(), _COMPARISONS[self._next()], self._operand()

        def compare(item: Item, values: Mapping[str, Any]) -> bool:
            one, other = left(item, values), right(item, values)
            return one is not None and other is not None and comparison(one, other)

        return compare

    def _operand(self) -> Callable[[Item, Mapping[str, Any]], Any]:
        token = self._next()
        if token == "size":
            name = self._argument()
            return lambda item, _: len(_plain(item[name])) if name in item else None
        if token.startswith(":"):
            return lambda _, values: _plain(values[token])
        return lambda item, _: _plain(item.get(token))

    def _argument(self) -> str:
        assert self._take("(")
        name = self._next()
        assert self._take(")")
        return name

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, token: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at] == token
        self._at += found
        return found


def _plain(value: Mapping[str, Any] | None) -> Any:
    if value is None:
        return None
    ((kind, held),) = value.items()
    return int(held) if kind == "N" else held
