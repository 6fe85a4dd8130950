"""What a drain knows about its landing table: the columns that exist, and those that it will create."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.cells import EPOCH_UNITS
from airflow_kinesis_snowflake.formats.column_types import (
    MAX_DIGITS,
    TIMES,
    Column,
    ColumnType,
    DataType,
    parse_types,
)
from airflow_kinesis_snowflake.formats.envelope import METADATA, own_columns
from airflow_kinesis_snowflake.formats.inference import NUMBERS, ObservedTypes
from airflow_kinesis_snowflake.formats.names import NAMES, column_name
from airflow_kinesis_snowflake.identifiers import quote
from airflow_kinesis_snowflake.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

BESIDE = "__VARIANT"
"""How the name of the column beside another one ends."""
MAX_COLUMNS = 2_000
MAX_KEYS = 10_000
_MAX_DECODED_KEYS = 500
_MAX_NAME_LENGTH = 255
# A rule of names may leave out so much of a longer key that it is short enough for a name.
_MAX_KEY_LENGTH = 4 * _MAX_NAME_LENGTH
_NOT_IN_A_STRUCT = re.compile(r'[\x00-\x1f"\\]')
_INSTANT = ColumnType.of(DataType.TIMESTAMP_LTZ)
JSON_NULL = msgspec.Raw(b"null")


CHOICES = {
    "unknown_keys": ("ignore", "dead_letter"),
    "numbers": NUMBERS,
    "names": NAMES,
    "on_type_conflict": ("dead_letter", "rescue", "column"),
}


@dataclass(frozen=True, kw_only=True)
class ColumnsSettings:
    """Settings of the ``columns`` mapping. Keys and columns are matched without regard to case.

    :param columns: types of columns, by name, for when the drain creates them:
        ``{"AMOUNT": "NUMBER(12, 2)"}``. A column that exists keeps its type, and one that is named here is
        never widened
    :param epochs: columns of times whose numbers are epochs, with the unit (``s``, ``ms``, ``us``, ``ns``):
        ``{"TS": "ms"}``. Without a type in ``columns`` they are created as TIMESTAMP_LTZ
    :param rename: column names, by key
    :param include: keys that land; ``None``: all
    :param exclude: keys that don't land
    :param schema_evolution: add columns for new keys, drop NOT NULL if a value is missing, widen NUMBER.
        Without it, the table must exist, unless ``columns`` says what to create
    :param unknown_keys: what becomes, without ``schema_evolution``, of a key that has no column: ``ignore``
        it, or make the record a ``dead_letter``
    :param infer_timestamps: make TIMESTAMP_NTZ or TIMESTAMP_TZ of new keys whose values are all ISO-8601
    :param numbers: what numbers of new keys become: a ``wide`` NUMBER, with room for 18 decimals as far as
        the digits before the point allow; an ``exact`` one, with the decimals that were seen; or a ``double``
    :param on_type_conflict: what becomes of a value that can't land in its column: its record is a
        ``dead_letter``; or the record lands without it, and the value lands in one column for all keys
        (``rescue``), or in a ``column`` beside its own
    :param rescue_column: the VARIANT column for ``on_type_conflict="rescue"``
    :param names: how new columns are named after keys: see :data:`~formats.names.NAMES`. With ``as_is``,
        names that differ in case are different, and a key matches only a column that is written the same way
    :param metadata_columns: facts about a record that get columns of their own
    :param iceberg: the landing table is an Iceberg table
    :raises InvalidSettingError: a type or name is invalid, or a choice is unknown
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    epochs: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    schema_evolution: bool = True
    unknown_keys: str = "ignore"
    infer_timestamps: bool = False
    numbers: str = "wide"
    on_type_conflict: str = "dead_letter"
    rescue_column: str = "_RESCUED"
    names: str = "upper"
    metadata_columns: tuple[str, ...] = ()
    iceberg: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidSettingError(f"{name} must be one of {choices}, not {getattr(self, name)!r}")
        for name, unit in self.epochs.items():
            if unit not in EPOCH_UNITS:
                raise InvalidSettingError(
                    f"column {name}: the unit of epochs must be one of {', '.join(EPOCH_UNITS)}, not {unit!r}"
                )
        self._check_names()
        pins = self.pins
        for name in self.units:
            if pins[name].kind not in TIMES - {DataType.TIME}:
                raise InvalidSettingError(
                    f"column {name}: leave it out of epochs, or give it the type of a date or timestamp; "
                    f"epochs can't fill {pins[name].sql}"
                )

    def _check_names(self) -> None:
        quote(self.rescue_column)
        for name in (*self.columns, *self.epochs, *self.rename.values()):
            quote(name)
            if self.folded(name) in self.reserved:
                raise InvalidSettingError(
                    f"use another name than {self.folded(name)}: the drain fills that column itself"
                )
        columns = [[self.folded(name) for name in names] for names in (self.columns, self.epochs)]
        keys = [[key.upper() for key in names] for names in (self.rename, self.include or (), self.exclude)]
        for names in (*columns, *keys):
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise InvalidSettingError(
                    f"leave one spelling of {', '.join(doubled)}: names that differ only in case are the same"
                )

    @cached_property
    def aside(self) -> tuple[str, ...]:
        """The column that takes what lands nowhere else, if there is one."""
        return (self.folded(self.rescue_column),) if self.on_type_conflict == "rescue" else ()

    @cached_property
    def reserved(self) -> frozenset[str]:
        """Columns that the drain fills itself, folded."""
        return frozenset((*map(self.folded, self.metadata), *self.aside))

    @cached_property
    def metadata(self) -> tuple[str, ...]:
        """Columns that say where a record came from."""
        return METADATA, *(name for name, _ in own_columns(self.metadata_columns))

    def folded(self, name: str) -> str:
        """A column's name as it is compared with others."""
        return name if self.names == "as_is" else name.upper()

    @cached_property
    def pins(self) -> dict[str, ColumnType]:
        """The types that columns are created with, by their folded names."""
        types = {self.folded(name): found for name, found in parse_types(self.columns).items()}
        for name, found in types.items():
            if self.iceberg and found.refused_by_iceberg:
                raise InvalidSettingError(
                    f"column {name}: use TIMESTAMP_LTZ for moments, VARCHAR or BINARY without a length, "
                    f"VARIANT for objects and arrays; an Iceberg table can't have {found.sql}"
                )
        return {
            name: self.made(found) for name, found in (dict.fromkeys(self.units, _INSTANT) | types).items()
        }

    def made(self, wanted: ColumnType) -> ColumnType:
        """The type that a column is created with."""
        return wanted.in_iceberg if self.iceberg else wanted

    @cached_property
    def decimals_of_times(self) -> int | None:
        """How many decimals of a second times in new columns may have; ``None``: they are text."""
        return self.made(ColumnType.of(DataType.TIMESTAMP_NTZ)).scale if self.infer_timestamps else None

    @cached_property
    def units(self) -> dict[str, str]:
        """``epochs``, by folded name."""
        return {self.folded(name): unit for name, unit in self.epochs.items()}

    @cached_property
    def renames(self) -> dict[str, str]:
        """``rename``, keys in upper case, names folded."""
        return {key.upper(): self.folded(name) for key, name in self.rename.items()}

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
    :param epoch: the unit of numbers, in a column of times that takes them
    """

    name: str
    number: int
    type: ColumnType | None
    seen: ObservedTypes | None = None
    widens: bool = False
    epoch: str | None = None


@dataclass(frozen=True)
class IgnoredKey:
    """A key that lands nowhere, as the settings say."""


@dataclass(frozen=True)
class RefusedKey:
    """A key that no record may have; it makes the record a dead letter.

    :param wanted: the settings refuse it, whatever they say about values that can't land
    """

    reason: str
    column: str | None = None
    wanted: bool = False


Verdict = Target | IgnoredKey | RefusedKey


@dataclass(frozen=True)
class SchemaDelta:
    """What the records of a page add to the schema.

    :param keys: those that are new
    :param seen: values of columns that don't exist yet
    :param widened: columns that need more digits
    :param aside: columns that are needed for values that don't fit those of their keys
    """

    keys: frozenset[str] = frozenset()
    seen: Mapping[str, ObservedTypes] = field(default_factory=dict)
    widened: Mapping[str, ColumnType] = field(default_factory=dict)
    aside: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.keys or self.seen or self.widened or self.aside)


@dataclass(frozen=True)
class AddColumn:
    """A column to create."""

    column: str
    type: ColumnType

    def __str__(self) -> str:
        return f"new column {printable(quote(self.column))} {self.type.sql}"


@dataclass(frozen=True)
class WidenColumn:
    """A NUMBER column to widen; its scale stays, because Snowflake can't change it."""

    column: str
    type: ColumnType

    def __str__(self) -> str:
        return f"column {printable(quote(self.column))} widened to {self.type.sql}"


@dataclass(frozen=True)
class DropNotNull:
    """A column that must accept NULL."""

    column: str

    def __str__(self) -> str:
        return f"column {printable(quote(self.column))} no longer NOT NULL"


Change = AddColumn | WidenColumn | DropNotNull


@dataclass(frozen=True)
class Schema:
    """The table as it is, and its pending changes: an immutable value, replaced with every change.

    :param actual: columns of the table, ``KINESISMETADATA`` left out
    :param seen: of columns to be created, what their types are inferred from
    :param decided: types of columns that are just being created
    :param widened: types of columns that are being widened
    :param spellings: every key met so far, and the column it fills
    :param numbers: of all columns ever met
    :param aside: columns for values that don't fit those of their keys; VARIANT, if they must be created
    """

    settings: ColumnsSettings
    actual: Mapping[str, Column]
    seen: Mapping[str, ObservedTypes] = field(default_factory=dict)
    decided: Mapping[str, ColumnType] = field(default_factory=dict)
    widened: Mapping[str, ColumnType] = field(default_factory=dict)
    spellings: Mapping[str, str | IgnoredKey | RefusedKey] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    aside: frozenset[str] = frozenset()

    @classmethod
    def begin(cls, settings: ColumnsSettings, actual: Mapping[str, Column]) -> Schema:
        """The schema before the first record."""
        return cls(settings, actual)._merge_aside(settings.aside)

    # --- questions ---

    @cached_property
    def keys(self) -> Mapping[str, Verdict]:
        """What becomes of every key met so far."""
        return {
            key: self._targets[found] if isinstance(found, str) else found
            for key, found in self.spellings.items()
        }

    def verdict(self, key: str) -> Verdict | None:
        """The target of a key; ``None`` if it isn't known yet."""
        known = self.keys.get(key)
        if known is not None or (len(self.spellings) < MAX_KEYS and self._may_name_a_column(key)):
            return known
        found = self._resolve(key, self._names)
        if isinstance(found, str):
            return self._targets.get(found) or self._forgotten(key)
        return found

    def _forgotten(self, key: str) -> RefusedKey:
        """Why a key that isn't remembered gets no column."""
        if self._may_name_a_column(key):
            return RefusedKey(f"the drain met more than {MAX_KEYS:,} different keys")
        return RefusedKey(f"rename or exclude the key: it has more than {_MAX_KEY_LENGTH:,} characters")

    def _may_name_a_column(self, key: str) -> bool:
        """Whether a key is worth remembering: ten thousand that are too long would fill the memory."""
        return len(key) <= _MAX_KEY_LENGTH or key.upper() in self.settings.renames

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """The columns that records met so far fill, by name."""
        filled = {found.name: found for found in self.keys.values() if isinstance(found, Target)}
        return filled | {name: self._targets[name] for name in self.aside}

    def beside(self, name: str) -> str | RefusedKey:
        """The column for what doesn't fit another one, existing or to be created."""
        beside = self._names.get(self.settings.folded(name + BESIDE), name + BESIDE)
        column = self.actual.get(beside)
        if beside in self.aside or (column is not None and not column.computed):
            return beside
        if column is not None or not self.settings.schema_evolution:
            return RefusedKey("")
        return _new_column(beside, full=len(self._names) >= MAX_COLUMNS)

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
    def row(self) -> RowDecoder | None:
        """How to decode records fast; ``None`` if no key is known yet, or too many are.

        Records with other keys than these are judged one by one.
        """
        landing = {
            key: found
            for key, found in self.keys.items()
            if not isinstance(found, RefusedKey) and not _NOT_IN_A_STRUCT.search(key)
        }
        return RowDecoder(landing) if 0 < len(landing) <= _MAX_DECODED_KEYS else None

    @cached_property
    def _targets(self) -> Mapping[str, Target]:
        return {name: self._target(name) for name in self.numbers}

    def _target(self, name: str) -> Target:
        number, column = self.numbers[name], self.actual.get(name)
        folded = self.settings.folded(name)
        unit = self.settings.units.get(folded)
        if column is not None:
            return Target(
                name,
                number,
                self.widened.get(name, column.type),
                widens=self.settings.schema_evolution and folded not in self.settings.pins,
                epoch=unit if column.type.kind in TIMES else None,
            )
        planned = self._planned(name)
        if planned is not None:
            return Target(name, number, planned, epoch=unit)
        seen = self.seen.get(name, ObservedTypes())
        checked = seen.checked(self.settings.numbers)
        return Target(name, number, checked and self.settings.made(checked), seen)

    def _planned(self, name: str) -> ColumnType | None:
        """The type of a column to be created, if it doesn't depend on further values."""
        pin = self.settings.pins.get(self.settings.folded(name)) or self.decided.get(name)
        return pin or (ColumnType.of(DataType.VARIANT) if name in self.aside else None)

    # --- steps ---

    def merge(self, delta: SchemaDelta) -> Schema:
        """The schema with the additions of a page."""
        known = self._merge_keys(delta.keys)._merge_aside(delta.aside)
        seen = {
            name: known.seen.get(name, ObservedTypes()) | what
            for name, what in delta.seen.items()
            if name not in known.actual
        }
        widened = {name: wider for name, wider in delta.widened.items() if name in known.actual}
        return replace(known, seen={**known.seen, **seen}, widened={**known.widened, **widened})

    def _merge_keys(self, keys: Iterable[str]) -> Schema:
        spellings, numbers, names = dict(self.spellings), dict(self.numbers), dict(self._names)
        for key in sorted(keys)[: MAX_KEYS - len(spellings)]:
            found = spellings[key] = self._resolve(key, names)
            if isinstance(found, str):
                names.setdefault(self.settings.folded(found), found)
                numbers.setdefault(found, len(numbers))
        return replace(self, spellings=spellings, numbers=numbers)

    def _merge_aside(self, names: Iterable[str]) -> Schema:
        numbers = dict(self.numbers)
        for name in sorted(names):
            numbers.setdefault(name, len(numbers))
        return replace(self, numbers=numbers, aside=self.aside.union(names))

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """Columns of the table and those to be created, by their folded names; of several, the one that is
        written like that."""
        names = [
            *self.actual,
            *self.seen,
            *self.aside,
            *(name for name in self.spellings.values() if isinstance(name, str)),
        ]
        folded = self.settings.folded
        return {folded(name): name for name in names} | {name: name for name in names if name == folded(name)}

    def _resolve(self, key: str, names: Mapping[str, str]) -> str | IgnoredKey | RefusedKey:
        """The column that a key fills, existing or to be created."""
        if self.settings.ignores(key):
            return IgnoredKey()
        renamed = self.settings.renames.get(key.upper())
        folded = renamed or column_name(key, self.settings.names)
        if folded in self.settings.reserved:
            return RefusedKey(f"rename or exclude the key: the drain itself fills column {folded}", folded)
        # Of columns that differ in case, the one that is written as the key is.
        found = key if renamed is None and key in self.actual else names.get(folded)
        if found is not None:
            column = self.actual.get(found)
            computed = column is not None and column.computed
            return (
                RefusedKey("rename or exclude the key: the column is computed from others", found)
                if computed
                else found
            )
        if self.settings.schema_evolution or folded in self.settings.pins:
            return _new_column(folded, full=len(names) >= MAX_COLUMNS)
        if self.settings.unknown_keys == "ignore":
            return IgnoredKey()
        reason = "a key has no column, and schema_evolution is off"
        return RefusedKey(reason, folded[:_MAX_NAME_LENGTH], wanted=True)

    def found(self, actual: Mapping[str, Column]) -> Schema:
        """The schema after the table was read again. Keys are matched again if it has changed.

        Numbers stay as they are: files that wait to be loaded were written with them.
        """
        widened = {
            name: wider
            for name, wider in self.widened.items()
            if name in actual and not actual[name].type.covers(wider) and wider.covers(actual[name].type)
        }
        if actual == self.actual and widened == self.widened and not self.decided:
            return self
        seen = {name: what for name, what in self.seen.items() if name not in actual}
        fresh = Schema(
            self.settings, actual, seen=seen, widened=widened, numbers=self.numbers, aside=self.aside
        )
        return fresh._merge_keys(self.spellings)

    def changes(self, used: Iterable[str], missing: Iterable[str]) -> tuple[list[Change], Schema]:
        """What to do to the table before rows that fill these columns are loaded.

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
        """The type of a column to be created."""
        inferred = self.seen.get(name, ObservedTypes()).type(self.settings.numbers)
        return self._planned(name) or (inferred and self.settings.made(inferred))


def _new_column(name: str, *, full: bool) -> str | RefusedKey:
    try:
        quote(name)
        name.encode()
    except (InvalidSettingError, UnicodeEncodeError):
        return RefusedKey("rename or exclude the key: it can't be a column's name (1 to 255 characters)")
    if full:
        return RefusedKey(
            "use include or exclude, or the envelope mapping: a new key would give the table more than "
            f"{MAX_COLUMNS:,} columns"
        )
    return name


class RowDecoder:
    """A struct that msgspec decodes a record into: a field per known key, none for others.

    :param targets: what becomes of each key
    """

    def __init__(self, targets: Mapping[str, Target | IgnoredKey]) -> None:
        fields: list[Any] = []
        self.attributes: dict[str, list[str]] = {}
        self.targets: dict[str, Target] = {}
        self.ignores = any(isinstance(target, IgnoredKey) for target in targets.values())
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


_DECODED: dict[DataType, Any] = {
    DataType.NUMBER: int,
    DataType.FLOAT: float,
    DataType.BOOLEAN: bool,
    DataType.VARCHAR: str,
    DataType.BINARY: str,
    DataType.DATE: str,
    DataType.TIME: str,
    DataType.TIMESTAMP_NTZ: str,
    DataType.TIMESTAMP_LTZ: str,
    DataType.TIMESTAMP_TZ: str,
}


def decoded_raw(target: Target | IgnoredKey) -> bool:
    """Whether values for a target are kept as JSON text, as no Python type keeps them as they were sent."""
    if (
        isinstance(target, IgnoredKey)
        or target.epoch
        or target.type is None
        or target.type.kind not in _DECODED
    ):
        return True
    return target.type.kind is DataType.NUMBER and target.type.scale > 0


def widest(number: ColumnType) -> ColumnType:
    """The widest NUMBER that another can be altered to."""
    return ColumnType.number(MAX_DIGITS, number.scale)
