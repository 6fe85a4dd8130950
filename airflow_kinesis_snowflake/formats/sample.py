"""What a sample of documents says about the columns that they need. It keeps names of keys, but no values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.cells import TypeMismatch, kind_of
from airflow_kinesis_snowflake.formats.column_types import ColumnType, DataType
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK, DroppedPayload
from airflow_kinesis_snowflake.formats.envelope import METADATA, refusal
from airflow_kinesis_snowflake.formats.inference import ObservedTypes, observe
from airflow_kinesis_snowflake.identifiers import quote

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder

MAX_KEYS = 1_000
"""Keys that a sample tells apart; others are counted."""
MAX_REASONS = 20

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_EPOCHS = {
    unit: range(946_684_800 * of_second, 4_102_444_800 * of_second)
    for unit, of_second in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
}
"""The years 2000 to 2099 in each unit; they don't overlap."""


@dataclass
class KeyStatistics:
    """What was seen of a key.

    :param documents: that have it
    :param kinds: how often each JSON type came, null included
    :param seen: what the type of a column is inferred from
    :param mismatches: values that no column of a type can hold
    :param units: the units in which all its numbers are moments of this century
    """

    documents: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    seen: ObservedTypes = field(default_factory=ObservedTypes)
    mismatches: int = 0
    units: set[str] = field(default_factory=lambda: set(_EPOCHS))

    def add(self, text: str) -> None:
        """Take note of a value, as JSON."""
        kind = kind_of(text)
        self.documents += 1
        self.kinds[kind] += 1
        if kind == "number":
            self.units &= {unit for unit, moments in _EPOCHS.items() if _is_in(text, moments)}
        try:
            self.seen |= observe(text, times=True, numbers="wide")
        except TypeMismatch:
            self.mismatches += 1

    @property
    def type(self) -> ColumnType | None:
        """The type of a column for it; ``None`` if there was nothing but null."""
        if self.mismatches:
            return ColumnType.of(DataType.VARIANT)
        return self.seen.type("wide")

    @property
    def epoch(self) -> str | None:
        """The unit of its numbers, if all may be moments."""
        return next(iter(self.units)) if self.seen.kinds == {"number"} and self.units else None


@dataclass
class Sample:
    """What was seen of some records.

    :param records: user records
    :param documents: that they hold
    :param others: documents that aren't JSON objects, so that they have no keys
    :param dead_letters: records that can't be read, by reason
    :param dropped: records without data, by what they are
    :param keys: by their names
    :param further_keys: how often other keys came: after the first 1,000, or such that can't name a column
    """

    records: int = 0
    documents: int = 0
    others: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    keys: dict[str, KeyStatistics] = field(default_factory=dict)
    further_keys: int = 0

    def add(self, payload: bytes, key: str, decode: Decoder | None) -> None:
        """Take note of a record.

        :param key: its partition key
        :param decode: takes the payload apart; ``None``: it is a document
        """
        self.records += 1
        try:
            documents = [payload] if decode is None else decode(payload, key)
            if isinstance(documents, DroppedPayload):
                self.dropped[documents.what] += 1
                return
            plain = [document.removeprefix(BYTE_ORDER_MARK) for document in documents]
            for reason in filter(None, map(refusal, plain)):
                raise UndecodableError(reason)
        except UndecodableError as error:
            known = str(error) in self.dead_letters or len(self.dead_letters) < MAX_REASONS
            self.dead_letters[str(error) if known else "other reasons"] += 1
            return
        for document in plain:
            self._add_document(document)

    def _add_document(self, document: bytes) -> None:
        self.documents += 1
        try:
            members = _members(document)
        except (msgspec.ValidationError, RecursionError):
            self.others += 1
            return
        for name, raw in members.items():
            if name not in self.keys and (len(self.keys) >= MAX_KEYS or not _can_name_a_column(name)):
                self.further_keys += 1
            else:
                self.keys.setdefault(name, KeyStatistics()).add(bytes(raw).decode())

    @property
    def columns(self) -> dict[str, str]:
        """Types to pin, by column; VARIANT for keys that differ only in case. Without possible moments."""
        epochs = self.epochs
        return {name: kind for name, kind in self._types.items() if name not in epochs}

    @property
    def no_epochs(self) -> dict[str, str]:
        """Types to pin if what may be moments are numbers, by column."""
        types = self._types
        return {name: types[name] for name in self.epochs if name in types}

    @property
    def _types(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, seen in self.keys.items():
            if seen.type is not None:
                column = name.upper()
                found[column] = seen.type.sql if column not in found else ColumnType.of(DataType.VARIANT).sql
        return found

    @property
    def epochs(self) -> dict[str, str]:
        """The units of numbers that may be moments, by column."""
        return {name.upper(): seen.epoch for name, seen in self.keys.items() if seen.epoch}

    def as_dict(self) -> dict[str, Any]:
        """The sample as JSON-compatible data."""
        return {
            "records": self.records,
            "documents": self.documents,
            "not_objects": self.others,
            "dead_letters": dict(self.dead_letters),
            "dropped": dict(self.dropped),
            "keys": [
                {"key": name, "documents": seen.documents, "kinds": dict(seen.kinds)}
                for name, seen in self.keys.items()
            ],
            "further_keys": self.further_keys,
            "columns": self.columns,
            "epochs": self.epochs,
        }


def _can_name_a_column(key: str) -> bool:
    try:
        quote(key.upper())
    except InvalidSettingError:
        return False
    return key.upper() != METADATA


def _is_in(text: str, moments: range) -> bool:
    return len(text) < 20 and text.isdecimal() and int(text) in moments
