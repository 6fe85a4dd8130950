"""Mappings with settings of their own, for the setting ``mapping`` of operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 -- fields of dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_kinesis_snowflake.operators import settings as types
from airflow_kinesis_snowflake.operators.settings import SettingGroup, SettingType

EPOCH_UNITS = ("s", "ms", "us", "ns")
MAX_LEVELS = 20
NAMES = ("upper", "as_is", "snake")
NUMBERS = ("wide", "exact", "double")
ON_TYPE_CONFLICT = ("dead_letter", "rescue", "column")


@dataclass(frozen=True, kw_only=True)
class Columns(SettingGroup):
    """``mapping="columns"`` with all its settings, as in ``mapping=Columns(epochs={"TS": "ms"})``.

    Keys and columns are matched without regard to case. All settings may hold templates. *What lands in
    Snowflake* describes their effect on each kind of value.

    :param columns: Snowflake types of columns, by name, for when they are created, as in
        ``{"AMOUNT": "NUMBER(12,2)"}``; a column that exists keeps its type. By default types are inferred
        from the values seen before the column is made
    :param epochs: columns with times that are sent as numbers, with the unit (``s``, ``ms``, ``us``, ``ns``
        since 1970), as in ``{"TS": "ms"}``. Without a type in ``columns`` they are created as TIMESTAMP_LTZ
    :param flatten: how many levels of nested objects become columns of their own, such as
        ``USER_ADDRESS_CITY``; default 0: a nested object lands as VARIANT
    :param paths: nested values that get a key of their own besides the others, with their paths, as in
        ``{"ORDER_ID": "detail.order.id"}``; ``columns``, ``epochs`` and so on can name it
    :param rename: column names, by key
    :param include: the keys that land; by default all
    :param exclude: keys that don't land
    :param schema_evolution: add a column for each new key, drop NOT NULL where a value is missing, and widen
        the precision of NUMBER when a number needs it; nothing is ever narrowed or dropped. Needs OWNERSHIP
        of the table. Default: true
    :param unknown_keys: without ``schema_evolution``, what to do about a key that has no column: ``ignore``
        it, or make the record a ``dead_letter``
    :param infer_timestamps: create TIMESTAMP_NTZ or TIMESTAMP_TZ columns for new keys whose values are all
        ISO-8601; by default they become VARCHAR
    :param numbers: the type for numbers of new keys. ``wide`` (default): NUMBER(38, 18), with fewer decimals
        if there are numbers of more than 20 digits before the point, so that decimals may follow later.
        ``exact``: NUMBER with the decimals that were seen, which Snowflake can't increase later. ``double``:
        FLOAT
    :param on_type_conflict: what happens to a value that can't land in its column. ``dead_letter`` (default):
        its record becomes one. ``rescue``: the record lands without it, and the value lands in
        ``rescue_column``, an object of such values by key. ``column``: it lands in a VARIANT column beside
        its own, whose name ends in ``__VARIANT``
    :param rescue_column: for ``on_type_conflict="rescue"``. Default: ``_RESCUED``
    :param names: how new columns are named after their keys. ``upper`` (default): in upper case. ``snake``:
        in upper case with underscores between words and in place of other characters, so that most names need
        no quotes. ``as_is``: as the key is written; keys and columns then match only if they are written the
        same way
    :raises InvalidSettingError: a value that holds no template is invalid. Values that contradict each other
        are refused when the task begins
    """

    columns: Mapping[str, str] | str | None = None
    epochs: Mapping[str, str] | str | None = None
    flatten: int | str = 0
    paths: Mapping[str, str] | str | None = None
    rename: Mapping[str, str] | str | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] = field(default=())
    schema_evolution: bool | str = True
    unknown_keys: str = "ignore"
    infer_timestamps: bool | str = False
    numbers: str = "wide"
    on_type_conflict: str = "dead_letter"
    rescue_column: str = "_RESCUED"
    names: str = "upper"

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "columns": types.COLUMN_TYPES,
        "epochs": types.choices(*EPOCH_UNITS),
        "flatten": types.whole(0, MAX_LEVELS),
        "paths": types.TEXT_BY_NAME,
        "rename": types.TEXT_BY_NAME,
        "include": types.KEYS_TO_KEEP,
        "exclude": types.KEYS_TO_DROP,
        "schema_evolution": types.TRUTH,
        "unknown_keys": types.choice("ignore", "dead_letter"),
        "infer_timestamps": types.TRUTH,
        "numbers": types.choice(*NUMBERS),
        "on_type_conflict": types.choice(*ON_TYPE_CONFLICT),
        "rescue_column": types.TEXT,
        "names": types.choice(*NAMES),
    }

    def split(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The converted settings: those of documents (``depth`` and ``paths``), and those of columns.

        :raises InvalidSettingError: one is invalid
        """
        columns = self.read_settings()
        return {"depth": columns.pop("flatten"), "paths": columns.pop("paths")}, columns


@dataclass(frozen=True, kw_only=True)
class ChosenMapping(Columns):
    """The settings of :class:`Columns` where another setting decides whether they apply, as in a form.

    :param mapping: ``envelope``, for which the others have no meaning, or ``columns``
    """

    mapping: str = "columns"

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **Columns.setting_types,
        "mapping": types.choice("envelope", "columns"),
    }

    def meant(self) -> str | SettingGroup:
        """The selected mapping.

        :raises InvalidSettingError: a setting is invalid
        """
        settings = self.read_settings()
        return Columns(**settings) if settings.pop("mapping") == "columns" else "envelope"


MAPPING = types.choice_or_group("envelope", "columns", group=Columns)
