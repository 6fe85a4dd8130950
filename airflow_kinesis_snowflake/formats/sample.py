"""What a sample of documents says about the columns that they need, and why some would not land there.

It keeps names of keys, but no values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.cells import TypeMismatch, fit, kind_of
from airflow_kinesis_snowflake.formats.column_types import ColumnType, DataType
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK, DroppedPayload
from airflow_kinesis_snowflake.formats.envelope import METADATA, refusal
from airflow_kinesis_snowflake.formats.inference import ObservedTypes, observe
from airflow_kinesis_snowflake.formats.names import column_name
from airflow_kinesis_snowflake.identifiers import quote

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder

MAX_KEYS = 1_000
"""Keys that a sample tells apart; others are counted."""
MAX_REASONS = 20

_VARIANT = ColumnType.of(DataType.VARIANT)
_DECIMALS = ColumnType.of(DataType.TIMESTAMP_TZ).scale
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

    def __or__(self, other: KeyStatistics) -> KeyStatistics:
        return KeyStatistics(
            self.documents + other.documents,
            self.kinds + other.kinds,
            self.seen | other.seen,
            self.mismatches + other.mismatches,
            self.units & other.units,
        )

    def add(self, text: str) -> str | None:
        """Take note of a value, as JSON.

        :return: why no column can hold it, if that is so
        """
        kind = kind_of(text)
        self.documents += 1
        self.kinds[kind] += 1
        if kind == "number":
            self.units &= {unit for unit, moments in _EPOCHS.items() if _is_in(text, moments)}
        try:
            self.seen |= observe(text, times=_DECIMALS, numbers="wide")
        except TypeMismatch:
            self.mismatches += 1
        else:
            return None
        try:
            fit(_VARIANT, text)
        except TypeMismatch as mismatch:
            return str(mismatch)
        return None

    @property
    def type(self) -> ColumnType | None:
        """The type of a column for it; ``None`` if there was nothing but null."""
        if self.mismatches:
            return _VARIANT
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
    :param further_keys: how often other keys came, after the first 1,000
    :param conflicts: documents that ``mapping="columns"`` would not land as they are, by reason
    :param names: the rule by which columns are named after keys: see :data:`~formats.names.NAMES`
    """

    records: int = 0
    documents: int = 0
    others: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    keys: dict[str, KeyStatistics] = field(default_factory=dict)
    further_keys: int = 0
    conflicts: Counter[str] = field(default_factory=Counter)
    names: str = "upper"

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
        texts = {name: bytes(raw).decode() for name, raw in members.items()}
        reasons = [self._add_key(name, text) for name, text in texts.items()]
        filled = [self._column(name) for name, text in texts.items() if text != "null"]
        if len(set(filled)) < len(filled):
            reasons.append("several keys of a document fill one column: rename or exclude one")
        self.conflicts.update(dict.fromkeys(filter(None, reasons), 1))

    def _add_key(self, name: str, text: str) -> str | None:
        """Take note of a key and its value; why it can't land, if that is so."""
        if not _can_name_a_column(self._column(name)):
            return "a key can't name a column: rename or exclude it" if text != "null" else None
        if name not in self.keys and len(self.keys) >= MAX_KEYS:
            self.further_keys += 1
            return None
        return self.keys.setdefault(name, KeyStatistics()).add(text)

    def _column(self, key: str) -> str:
        return column_name(key, self.names)

    @property
    def columns(self) -> dict[str, str]:
        """Types to pin, by column. Without possible moments."""
        epochs = self.epochs
        return {name: kind for name, kind in self._types.items() if name not in epochs}

    @property
    def no_epochs(self) -> dict[str, str]:
        """Types to pin if what may be moments are numbers, by column."""
        types = self._types
        return {name: types[name] for name in self.epochs if name in types}

    @property
    def _types(self) -> dict[str, str]:
        return {name: seen.type.sql for name, seen in self._by_column.items() if seen.type is not None}

    @property
    def epochs(self) -> dict[str, str]:
        """The units of numbers that may be moments, by column."""
        return {name: seen.epoch for name, seen in self._by_column.items() if seen.epoch}

    @property
    def _by_column(self) -> dict[str, KeyStatistics]:
        """What was seen of all keys that fill a column."""
        found: dict[str, KeyStatistics] = {}
        for name, seen in self.keys.items():
            column = self._column(name)
            found[column] = found[column] | seen if column in found else seen
        return found

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
            "conflicts": dict(self.conflicts),
            "columns": self.columns,
            "epochs": self.epochs,
        }


def _can_name_a_column(name: str) -> bool:
    try:
        quote(name)
    except InvalidSettingError:
        return False
    return name != METADATA


def _is_in(text: str, moments: range) -> bool:
    return len(text) < 20 and text.isdecimal() and int(text) in moments
