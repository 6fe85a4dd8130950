"""The attributes of state rows: their names, what they may hold, and how writes change them.

Checkpoint, lease, time of the last update and the rows of nodes are as Snowflake's Openflow connector writes
them; all others are a drain's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow_kinesis_snowflake.exceptions import CorruptStateError
from airflow_kinesis_snowflake.state.items import number_of
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import Position, StartAt, decode_position, encode_position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
COPY = "copy"
Value = dict[str, Any]

KEYS = {"HASH": "streamName", "RANGE": "shardId"}
NODE = "__node__#"
# Shard ids start with "shardId-"; rows with this prefix are other software's notes about the table.
RESERVED = "__"
# What a drain relies on, and its notes about the shard; the rest of a row is the lease, or somebody else's.
OF_A_DRAIN = (
    "sequenceNumber",
    "subSequenceNumber",
    "subSequenceOf",
    "startAt",
    "shardEnded",
    "parentShardIds",
    "incarnation",
    "streamCreated",
    "streamArn",
    "unsettled",
    "committedOffset",
    "caughtUpAt",
    "millisBehindLatest",
    "othersUntil",
    "sinks",
    "committedOffset_streaming",
    "committedAt_streaming",
)
LEASE = ("leaseOwner", "leaseExpiry")
_UPDATED = "lastUpdateTimestamp"


def is_restored(item: Mapping[str, Value], found: Mapping[str, Value]) -> bool:
    """Whether a row is as restoring a backup leaves it."""
    return is_as_wanted(found, {**restored(item), _UPDATED: found.get(_UPDATED)})


def restored(item: Mapping[str, Value]) -> dict[str, Value | None]:
    """What a backup holds of a row, except key and lease; ``None`` for what a drain must not rely on."""
    kept = {*KEYS.values(), *LEASE}
    said = {name: value for name, value in item.items() if name not in kept}
    return dict.fromkeys(OF_A_DRAIN) | said


def is_as_wanted(item: Mapping[str, Value], wanted: Mapping[str, Value | None]) -> bool:
    """Whether attributes are as a write would have left them, where ``None`` means that there is none."""
    return all(_comparable(item.get(name)) == _comparable(value) for name, value in wanted.items())


def _comparable(value: Value | None) -> object:
    """Members of a set come in any order."""
    if value is None:
        return None
    return {kind: frozenset(held) if kind in {"SS", "NS", "BS"} else held for kind, held in value.items()}


def checkpoint_attributes(checkpoint: Position) -> dict[str, Value | None]:
    sub = checkpoint.sub_sequence_number
    return {
        "sequenceNumber": text_value(checkpoint.sequence_number),
        "subSequenceNumber": None if sub is None else number_value(sub),
        "subSequenceOf": None if sub is None else text_value(checkpoint.sequence_number),
    }


def not_beyond(checkpoint: Position) -> tuple[str, dict[str, Value]]:
    """Return the condition that the saved checkpoint is at or before another, and the values in it.

    Sequence numbers differ in length; only those of the same length compare as text.
    """
    values = {
        ":digits": number_value(len(checkpoint.sequence_number)),
        ":sequence": text_value(checkpoint.sequence_number),
    }
    if checkpoint.sub_sequence_number is None:
        same_length = "sequenceNumber <= :sequence"
    else:
        same_length = (
            "(sequenceNumber < :sequence OR (sequenceNumber = :sequence AND subSequenceNumber <= :sub "
            "AND (attribute_not_exists(subSequenceOf) OR subSequenceOf = :sequence)))"
        )
        values[":sub"] = number_value(checkpoint.sub_sequence_number)
    condition = (
        "attribute_not_exists(sequenceNumber) OR size(sequenceNumber) < :digits "
        f"OR (size(sequenceNumber) = :digits AND {same_length})"
    )
    return condition, values


def known_facts(
    *,
    ended: bool = False,
    unsettled: bool = False,
    millis_behind: int | None = None,
    caught_up_at: int | None = None,
) -> dict[str, Value | None]:
    """Return the attributes that a worker reports."""
    known: dict[str, Value | None] = {}
    if ended:
        known["shardEnded"] = {"BOOL": True}
    if unsettled:
        known["unsettled"] = {"BOOL": True}
    if millis_behind is not None:
        known["millisBehindLatest"] = number_value(millis_behind)
    if caught_up_at is not None:
        known["caughtUpAt"] = number_value(caught_up_at)
    return known


def update_expression(
    changes: Mapping[str, Value | None],
    unless_there: Mapping[str, Value],
    *,
    names: Mapping[str, str],
) -> tuple[str, dict[str, Value]]:
    """Return an expression and the values in it.

    :param names: aliases of all attributes, such as ``#a1``
    """
    removed = [names[name] for name, value in changes.items() if value is None]
    set_to = {name: value for name, value in changes.items() if value is not None}
    placeholders = {name: ":" + names[name].lstrip("#") for name in (*set_to, *unless_there)}
    clauses = [f"{names[name]} = {placeholders[name]}" for name in set_to]
    clauses += [
        f"{names[name]} = if_not_exists({names[name]}, {placeholders[name]})" for name in unless_there
    ]
    expression = "SET " + ", ".join(clauses)
    if removed:
        expression += " REMOVE " + ", ".join(removed)
    values = {**set_to, **unless_there}
    return expression, {placeholders[name]: value for name, value in values.items()}


def key_of_row(stream_name: str, shard_id: str) -> dict[str, Value]:
    return {"streamName": text_value(stream_name), "shardId": text_value(shard_id)}


def key_of(item: Mapping[str, Value]) -> tuple[str, str]:
    """Stream and shard id of a row."""
    return item["streamName"]["S"], item["shardId"]["S"]


def is_note(shard_id: str) -> bool:
    """Whether a row isn't a shard's, but reports a live worker or the like."""
    return shard_id.startswith(RESERVED)


def shard_rows(items: Iterable[dict[str, Value]]) -> dict[tuple[str, str], dict[str, Value]]:
    """The rows of shards among those of a table, by their keys."""
    return {key: item for item in items if not is_note((key := key_of(item))[1])}


def worker_of(item: Mapping[str, Value]) -> str | None:
    """The worker that a row reports as alive; ``None``: it isn't such a row."""
    _, shard_id = key_of(item)
    return shard_id.removeprefix(NODE) if shard_id.startswith(NODE) else None


def incarnation_of(item: Mapping[str, Value]) -> str | None:
    """The incarnation that a row names, even if the rest of it is odd."""
    named: str | None = item.get("incarnation", {}).get("S")
    return named


def updated(now: int) -> dict[str, Value | None]:
    return {_UPDATED: number_value(now)}


def lease(*, owner: str, expiry: int, now: int) -> dict[str, Value | None]:
    """Return the attributes of a lease that is taken."""
    return {"leaseOwner": text_value(owner), **renewed(expiry=expiry, now=now)}


def renewed(*, expiry: int, now: int) -> dict[str, Value | None]:
    """Return the attributes of a renewed lease."""
    return {"leaseExpiry": number_value(expiry), **updated(now)}


def released(now: int) -> dict[str, Value | None]:
    """Return the attributes of a lease that nobody holds."""
    return {**dict.fromkeys(LEASE), **updated(now)}


def written(shard: ShardState) -> dict[str, Value | None]:
    """Return the attributes of a row that drains rely on; the counterpart of :meth:`Row.shard_state`."""
    known = {
        "startAt": None if shard.start_at is None else text_value(str(shard.start_at)),
        "incarnation": None if shard.incarnation is None else text_value(shard.incarnation),
        "parentShardIds": texts_value(shard.parents),
        "streamCreated": None if shard.stream_created is None else number_value(shard.stream_created),
        "streamArn": None if shard.stream_arn is None else text_value(shard.stream_arn),
        "othersUntil": None if shard.others_until is None else number_value(shard.others_until),
        **({} if shard.checkpoint is None else checkpoint_attributes(shard.checkpoint)),
        "sinks": texts_value(shard.sinks),
        **{
            offset_attribute(sink): text_value(encode_position(position))
            for sink, position in {COPY: shard.offset, **shard.offsets}.items()
            if position is not None
        },
        **{moment_attribute(sink): number_value(at) for sink, at in shard.committed_at.items()},
        **known_facts(ended=shard.ended, unsettled=shard.unsettled, caught_up_at=shard.caught_up_at),
    }
    return dict.fromkeys(OF_A_DRAIN) | known


def offset_attribute(sink: str | None) -> str:
    """The attribute that holds a sink's committed position; COPY was there first."""
    return "committedOffset" if sink in {None, COPY} else f"committedOffset_{sink}"


def moment_attribute(sink: str) -> str:
    """The attribute that holds when a sink last committed, for sinks that forget."""
    return f"committedAt_{sink}"


def sinks_of(item: Mapping[str, Value]) -> frozenset[str]:
    """Which sinks a row names, even if the rest of it is odd."""
    return frozenset(item.get("sinks", {}).get("SS") or _sinks_of_before(item))


def is_ended(item: Mapping[str, Value]) -> bool:
    """Whether a row says that its shard is read to its end."""
    return item.get("shardEnded") == {"BOOL": True}


def in_doubt_for_none_but(sink: str) -> str:
    """Condition: no other sink may have committed more than the row shows.

    It is settled, or nobody has loaded yet, or it is this sink, ``:sinks``, that left it in doubt.
    """
    nobody = "attribute_exists(streamArn) OR attribute_not_exists(incarnation)"
    unless = "" if sink == COPY else f" AND ({nobody})"
    return f"(attribute_not_exists(unsettled) OR sinks = :sinks OR (attribute_not_exists(sinks){unless}))"


def _sinks_of_before(item: Mapping[str, Value]) -> frozenset[str]:
    """Earlier versions only knew COPY; their rows have an incarnation, and name neither a sink nor an ARN.

    Nobody has loaded yet under an incarnation whose row names an ARN and no sink: a reset has begun it.
    """
    return frozenset({COPY}) if "incarnation" in item and "streamArn" not in item else frozenset()


def asking(item: Mapping[str, Value], sinks: Iterable[str]) -> dict[str, Value]:
    """The row, marked in doubt, so that the next drain also asks these sinks what they have committed."""
    asked = sinks_of(item) | frozenset(sinks)
    return {**item, "sinks": {"SS": sorted(asked)}, "unsettled": {"BOOL": True}}


def text_value(text: str) -> Value:
    return {"S": text}


def number_value(number: int) -> Value:
    return {"N": str(number)}


def texts_value(texts: Iterable[str]) -> Value | None:
    """DynamoDB has no empty sets, so an empty one is left out."""
    unique = sorted(set(texts))
    return {"SS": unique} if unique else None


class Row:
    """A row as DynamoDB returns it; nothing in it is trusted."""

    def __init__(self, table: str, item: Mapping[str, Value]) -> None:
        self._table = table
        self._item = item
        self._oddities: list[str] = []

    @property
    def key(self) -> str:
        return key_of(self._item)[1]

    def shard_state(self) -> ShardState:
        """The row's state; attributes that decide what is read must be valid, others may be odd."""
        return ShardState(
            shard_id=self.key,
            checkpoint=self._checkpoint(),
            start_at=self._read("startAt", "S", StartAt.parse),
            parents=self._read("parentShardIds", "SS", tuple) or (),
            ended=self._read("shardEnded", "BOOL", bool) or False,
            lease_owner=self.text("leaseOwner"),
            # Conditions compare it digit by digit.
            lease_expiry=self._number("leaseExpiry", whole=True),
            incarnation=self.text("incarnation"),
            stream_created=self._read("streamCreated", "N", int),
            stream_arn=self.text("streamArn"),
            last_update=self._number("lastUpdateTimestamp"),
            millis_behind=self._number("millisBehindLatest"),
            unsettled=self._read("unsettled", "BOOL", bool) or False,
            caught_up_at=self._number("caughtUpAt"),
            others_until=self._number("othersUntil"),
            initial_shards=self._read("initialShardIds", "SS", frozenset) or frozenset(),
            initial_start=self._read("initialStartAt", "S", StartAt.parse),
            offset=self._read("committedOffset", "S", decode_position),
            offsets=self._offsets(),
            committed_at=self._moments(),
            sinks=self._read("sinks", "SS", frozenset) or _sinks_of_before(self._item),
            oddities=tuple(self._oddities),
        )

    def _offsets(self) -> dict[str, Position]:
        """Of sinks that came after COPY, by their names."""
        names = [name for name in self._item if name.startswith(offset_attribute(""))]
        read = {name: self._read(name, "S", decode_position) for name in names}
        return {
            name.removeprefix(offset_attribute("")): found
            for name, found in read.items()
            if found is not None
        }

    def _moments(self) -> dict[str, int]:
        prefix = moment_attribute("")
        read = {name: self._number(name) for name in self._item if name.startswith(prefix)}
        return {name.removeprefix(prefix): at for name, at in read.items() if at is not None}

    def text(self, attribute: str) -> str | None:
        return self._read(attribute, "S", str)

    def _number(self, attribute: str, *, whole: bool = False) -> int | None:
        number = number_of(self._item, attribute)
        if attribute in self._item and (
            number is None or (whole and self._item[attribute] != number_value(number))
        ):
            self._oddities.append(f"its {attribute} is {self._item[attribute]!s:.80}")
            return None
        return number

    def _checkpoint(self) -> Position | None:
        whole = self._read("sequenceNumber", "S", Position)
        if whole is None:
            return None
        # The Openflow connector moves the checkpoint and leaves our sub-sequence number where it was.
        if self.text("subSequenceOf") not in {None, whole.sequence_number}:
            return whole
        inside = self._read("subSequenceNumber", "N", lambda sub: Position(whole.sequence_number, int(sub)))
        return inside or whole

    def _read(self, attribute: str, kind: str, parse: Callable[[Any], T]) -> T | None:
        value = self._item.get(attribute)
        if value is None:
            return None
        try:
            return parse(value[kind])
        except (KeyError, ValueError) as error:
            stream, _ = key_of(self._item)
            raise CorruptStateError(
                f"Correct the row ({stream}, {self.key}) in {self._table}, or reset the application's state: "
                f"{attribute} holds {value!s:.80}, which neither a drain nor the Openflow connector "
                "writes."
            ) from error
