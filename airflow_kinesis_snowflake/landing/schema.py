"""What a drain knows of its landing table: the columns that are there, and those that are about to be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.landing.column_types import MOST_DIGITS, Column, ColumnType, Kind
from airflow_kinesis_snowflake.landing.envelope import METADATA
from airflow_kinesis_snowflake.landing.identifiers import quote
from airflow_kinesis_snowflake.landing.inference import Seen
from airflow_kinesis_snowflake.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MOST_COLUMNS = 2_000
MOST_KEYS = 10_000
_MOST_DECODED_KEYS = 500
_LONGEST_NAME = 255
_NOT_IN_A_STRUCT = re.compile(r'[\x00-\x1f"\\]')
JSON_NULL = msgspec.Raw(b"null")


@dataclass(frozen=True, kw_only=True)
class ColumnsSettings:
    """Settings of the ``columns`` mapping. Keys and columns are matched without regard to case.

    :param columns: types of columns, by name, for when the drain makes them: ``{"AMOUNT": "NUMBER(12, 2)"}``.
        A column that exists keeps its type, and one that is named here is never widened
    :param rename: column names, by key
    :param include: keys that land; ``None``: all
    :param exclude: keys that don't
    :param schema_evolution: add columns for new keys, drop NOT NULL where a value is missing, widen NUMBER.
        Without it the table must exist, unless ``columns`` says what to make
    :param unknown_keys: what to do without ``schema_evolution`` about a key without a column: ``ignore`` it,
        or make the record a ``dead_letter``
    :param infer_timestamps: make TIMESTAMP_NTZ or TIMESTAMP_TZ of new keys whose values are all ISO-8601
    :raises InvalidSettingError: a type or name can't be one, or a choice is unknown
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    schema_evolution: bool = True
    unknown_keys: str = "ignore"
    infer_timestamps: bool = False

    def __post_init__(self) -> None:
        if self.unknown_keys not in ("ignore", "dead_letter"):
            raise InvalidSettingError(
                f"unknown_keys must be 'ignore' or 'dead_letter', not {self.unknown_keys!r}"
            )
        for name in (*self.columns, *self.rename.values()):
            quote(name)
            if name.upper() == METADATA:
                raise InvalidSettingError(f"{METADATA} is filled by the drain; use another name")
        for names in (self.columns, self.rename, self.include or (), self.exclude):
            folded = [name.upper() for name in names]
            if len(set(folded)) < len(folded):
                raise InvalidSettingError(f"names that differ in nothing but case: {sorted(names)}")
        _ = self.pins

    @cached_property
    def pins(self) -> dict[str, ColumnType]:
        """The types of ``columns``, names in upper case."""
        return {name.upper(): ColumnType.parse(text) for name, text in self.columns.items()}

    @cached_property
    def renames(self) -> dict[str, str]:
        """``rename`` in upper case."""
        return {key.upper(): name.upper() for key, name in self.rename.items()}

    def ignores(self, key: str) -> bool:
        """Whether the user left a key out."""
        folded = key.upper()
        return folded in self._excluded or (self._included is not None and folded not in self._included)

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return frozenset(key.upper() for key in self.exclude)

    @cached_property
    def _included(self) -> frozenset[str] | None:
        return None if self.include is None else frozenset(key.upper() for key in self.include)


@dataclass(frozen=True)
class Target:
    """The column that a key fills.

    :param number: names its fields in files
    :param type: what values are checked against; ``None`` as long as there was nothing but null
    :param seen: of a column that doesn't exist yet, what its type is inferred from
    :param widens: NUMBER may be altered to take more digits
    """

    name: str
    number: int
    type: ColumnType | None
    seen: Seen | None = None
    widens: bool = False


@dataclass(frozen=True)
class Ignored:
    """A key that lands nowhere, as the settings say."""


@dataclass(frozen=True)
class Refused:
    """A key that no record may have; it makes the record a dead letter."""

    reason: str
    column: str | None = None


Verdict = Target | Ignored | Refused


@dataclass(frozen=True)
class Lesson:
    """What records of a page say about the schema that it doesn't know yet.

    :param keys: that were never met before
    :param seen: values of columns that don't exist yet
    :param widened: columns that need more digits
    """

    keys: frozenset[str] = frozenset()
    seen: Mapping[str, Seen] = field(default_factory=dict)
    widened: Mapping[str, ColumnType] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keys or self.seen or self.widened)


@dataclass(frozen=True)
class AddColumn:
    """A column that is to be made."""

    column: str
    type: ColumnType

    def __str__(self) -> str:
        return f"new column {printable(quote(self.column))} {self.type.sql}"


@dataclass(frozen=True)
class WidenColumn:
    """A NUMBER that is to take more digits; its scale stays, because Snowflake can't change it."""

    column: str
    type: ColumnType

    def __str__(self) -> str:
        return f"column {printable(quote(self.column))} widened to {self.type.sql}"


@dataclass(frozen=True)
class DropNotNull:
    """A column that is to take NULL."""

    column: str

    def __str__(self) -> str:
        return f"column {printable(quote(self.column))} no longer NOT NULL"


Change = AddColumn | WidenColumn | DropNotNull


@dataclass(frozen=True)
class Schema:
    """The table as it is, and what is to become of it: a value, made anew with everything learned.

    :param actual: columns of the table, ``KINESISMETADATA`` left out
    :param seen: of columns to be made, what their types are inferred from
    :param decided: types of columns that are just being made
    :param widened: types of columns that are to take more digits
    :param spellings: every key met so far, and the column it fills
    :param numbers: of all columns ever met
    """

    settings: ColumnsSettings
    actual: Mapping[str, Column]
    seen: Mapping[str, Seen] = field(default_factory=dict)
    decided: Mapping[str, ColumnType] = field(default_factory=dict)
    widened: Mapping[str, ColumnType] = field(default_factory=dict)
    spellings: Mapping[str, str | Ignored | Refused] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    # --- questions ---

    @cached_property
    def keys(self) -> Mapping[str, Verdict]:
        """What becomes of every key met so far."""
        return {
            key: self._targets[found] if isinstance(found, str) else found
            for key, found in self.spellings.items()
        }

    def verdict(self, key: str) -> Verdict | None:
        """What becomes of a key; ``None`` if that must be learned first."""
        known = self.keys.get(key)
        if known is not None or len(self.spellings) < MOST_KEYS:
            return known
        found = self._resolve(key, self._names)
        if isinstance(found, str):
            return self._targets.get(found) or Refused(
                f"the drain met more than {MOST_KEYS:,} different keys"
            )
        return found

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """The columns that keys met so far fill, by name."""
        return {found.name: found for found in self.keys.values() if isinstance(found, Target)}

    @cached_property
    def demanding(self) -> tuple[str, ...]:
        """Columns that refuse NULL, and would get it from a record without a value for them."""
        return tuple(
            name
            for name, column in self.actual.items()
            if not column.nullable and (not column.default or name in self.targets)
        )

    @cached_property
    def not_null(self) -> frozenset[str]:
        """Columns that refuse NULL."""
        return frozenset(name for name, column in self.actual.items() if not column.nullable)

    @cached_property
    def row(self) -> Row | None:
        """How to decode records fast; ``None`` if there are too many keys for that.

        Records with other keys than these are judged one by one.
        """
        landing = {
            key: found
            for key, found in self.keys.items()
            if not isinstance(found, Refused) and not _NOT_IN_A_STRUCT.search(key)
        }
        return Row(landing) if 0 < len(landing) <= _MOST_DECODED_KEYS else None

    @cached_property
    def _targets(self) -> Mapping[str, Target]:
        return {name: self._target(name) for name in self.numbers}

    def _target(self, name: str) -> Target:
        number, column = self.numbers[name], self.actual.get(name)
        if column is not None:
            return Target(
                name,
                number,
                self.widened.get(name, column.type),
                widens=self.settings.schema_evolution and name.upper() not in self.settings.pins,
            )
        planned = self.settings.pins.get(name.upper()) or self.decided.get(name)
        if planned is not None:
            return Target(name, number, planned)
        seen = self.seen.get(name, Seen())
        return Target(name, number, seen.checked, seen)

    # --- steps ---

    def learn(self, lesson: Lesson) -> Schema:
        """The schema with what a page taught."""
        known = self._learn_keys(lesson.keys)
        seen = {
            name: known.seen.get(name, Seen()) | what
            for name, what in lesson.seen.items()
            if name not in known.actual
        }
        widened = {name: wider for name, wider in lesson.widened.items() if name in known.actual}
        return replace(known, seen={**known.seen, **seen}, widened={**known.widened, **widened})

    def _learn_keys(self, keys: Iterable[str]) -> Schema:
        spellings, numbers, names = dict(self.spellings), dict(self.numbers), dict(self._names)
        for key in sorted(keys)[: MOST_KEYS - len(spellings)]:
            found = spellings[key] = self._resolve(key, names)
            if isinstance(found, str):
                names.setdefault(found.upper(), found)
                numbers.setdefault(found, len(numbers))
        return replace(self, spellings=spellings, numbers=numbers)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """Columns of the table and those to be made, by their names in upper case; of several the one that
        is written so."""
        names = [
            *self.actual,
            *self.seen,
            *(name for name in self.spellings.values() if isinstance(name, str)),
        ]
        return {name.upper(): name for name in names} | {name: name for name in names if name.isupper()}

    def _resolve(self, key: str, names: Mapping[str, str]) -> str | Ignored | Refused:
        """The column that a key fills, there or to be made."""
        if self.settings.ignores(key):
            return Ignored()
        wanted = self.settings.renames.get(key.upper(), key)
        if wanted in self.actual:
            return wanted
        folded = wanted.upper()
        if folded in names:
            return names[folded]
        if folded == METADATA:
            return Refused(f"a key has the name of the column {METADATA}; rename or exclude it", folded)
        if self.settings.schema_evolution or folded in self.settings.pins:
            return _new_column(folded, full=len(names) >= MOST_COLUMNS)
        if self.settings.unknown_keys == "ignore":
            return Ignored()
        return Refused("a key has no column, and schema_evolution is off", folded[:_LONGEST_NAME])

    def found(self, actual: Mapping[str, Column]) -> Schema:
        """The schema after a look at the table. Keys are matched again if it isn't as it was.

        Numbers stay as they are: files that wait for their load are written with them.
        """
        widened = {
            name: wider
            for name, wider in self.widened.items()
            if name in actual and not actual[name].type.covers(wider) and wider.covers(actual[name].type)
        }
        if actual == self.actual and widened == self.widened and not self.decided:
            return self
        seen = {name: what for name, what in self.seen.items() if name not in actual}
        fresh = Schema(self.settings, actual, seen=seen, widened=widened, numbers=self.numbers)
        return fresh._learn_keys(self.spellings)

    def changes(self, used: Iterable[str], missing: Iterable[str]) -> tuple[list[Change], Schema]:
        """What to do to the table before rows are loaded that fill some columns.

        :param used: columns that are filled
        :param missing: columns that are NULL in some row
        :return: the changes, and the schema that expects them
        """
        if not self.settings.schema_evolution:
            return [], self
        filled = sorted(set(used))
        added = {
            name: wanted
            for name in filled
            if name not in self.actual and (wanted := self._wanted(name)) is not None
        }
        relaxed = [
            name
            for name in sorted(self.not_null.intersection(missing))
            if name in filled or not self.actual[name].default
        ]
        changes: list[Change] = [
            *(AddColumn(name, wanted) for name, wanted in added.items()),
            *(WidenColumn(name, self.widened[name]) for name in filled if name in self.widened),
            *(DropNotNull(name) for name in relaxed),
        ]
        return changes, replace(self, decided={**self.decided, **added})

    def _wanted(self, name: str) -> ColumnType | None:
        """The type of a column that is to be made."""
        pin = self.settings.pins.get(name.upper())
        return pin or self.decided.get(name) or self.seen.get(name, Seen()).type


def _new_column(name: str, *, full: bool) -> str | Refused:
    try:
        quote(name)
        name.encode()
    except (InvalidSettingError, UnicodeEncodeError):
        return Refused("a key can't be the name of a column (1 to 255 characters); rename or exclude it")
    if full:
        return Refused(
            f"a new key would give the table more than {MOST_COLUMNS:,} columns; use include or exclude, "
            "or the envelope mapping"
        )
    return name


class Row:
    """A struct that msgspec decodes a record into: a field per known key, none for others.

    :param targets: what becomes of each key
    """

    def __init__(self, targets: Mapping[str, Target | Ignored]) -> None:
        fields: list[Any] = []
        self.attributes: dict[str, list[str]] = {}
        self.targets: dict[str, Target] = {}
        self.ignores = any(isinstance(target, Ignored) for target in targets.values())
        for number, (key, target) in enumerate(targets.items()):
            attribute = f"f{number}"
            raw = decoded_raw(target)
            kind: Any = msgspec.Raw if raw else _DECODED[target.type.kind] | None  # type: ignore[union-attr]
            default = JSON_NULL if raw else None
            fields.append((attribute, kind, msgspec.field(name=key, default=default)))
            if isinstance(target, Target):
                self.attributes.setdefault(target.name, []).append(attribute)
                self.targets[target.name] = target
        struct = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False)
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode


_DECODED: dict[Kind, Any] = {
    Kind.NUMBER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: bool,
    Kind.VARCHAR: str,
    Kind.DATE: str,
    Kind.TIMESTAMP_NTZ: str,
    Kind.TIMESTAMP_LTZ: str,
    Kind.TIMESTAMP_TZ: str,
}


def decoded_raw(target: Target | Ignored) -> bool:
    """Whether values for a target are kept as JSON text: what no Python type keeps as it was sent."""
    if isinstance(target, Ignored) or target.type is None or target.type.kind not in _DECODED:
        return True
    return target.type.kind is Kind.NUMBER and target.type.scale > 0


def widest(number: ColumnType) -> ColumnType:
    """The widest NUMBER that another can be altered to."""
    return ColumnType.number(MOST_DIGITS, number.scale)
