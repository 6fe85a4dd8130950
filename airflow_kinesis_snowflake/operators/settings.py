"""The values that settings of operators, sensors and triggers accept, defined and checked in one place.

Settings in a DAG file are checked while it is parsed, unless they contain templates. Everything is checked
again when templates are rendered: they turn numbers and ``None`` into text and, in DAGs that render to native
objects, text into numbers and lists.

Settings whose types aren't light to import, such as Avro schemas, are checked here by their shape only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import dataclass, is_dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.catalog import EXPECTED, NAMED
from airflow_kinesis_snowflake.formats.column_types import parse_types
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.table_options import NEVER, TableOptions
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
from airflow_kinesis_snowflake.stream.consumers import ConsumerArn
from airflow_kinesis_snowflake.stream.positions import parse_timestamp
from airflow_kinesis_snowflake.stream.refs import StreamRef, region_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator as _Operator
    from airflow.sdk import Context
else:
    _Operator = object

T = TypeVar("T")

METADATA_COLUMNS = (
    "arrival_time",
    "stream",
    "shard_id",
    "sequence_number",
    "sub_sequence_number",
    "partition_key",
    "loaded_at",
)

_SEPARATORS = re.compile(r"[\s,]+")
_TEMPLATE = re.compile(r"\{[{%#]")
_MAX_SHOWN_LENGTH = 60


@dataclass(frozen=True)
class SettingType(Generic[T]):
    """The values that a setting accepts.

    :param expected: what to write, as the end of "must be ..."
    :param convert: converts a value; a ``ValueError`` means that it is invalid. The message of an
        ``InvalidSettingError`` is kept
    :param secret: keep the value out of messages
    :param options: the allowed words, if it is a choice
    :param templated: whether templates in it are rendered
    """

    expected: str
    convert: Callable[[Any], T]
    secret: bool = False
    options: tuple[str, ...] = ()
    templated: bool = True

    def read(self, name: str, value: Any) -> T:
        """The converted value of a setting.

        :param name: of the setting
        :raises InvalidSettingError: the value is invalid; the message names the setting
        """
        try:
            return self.convert(value)
        except InvalidSettingError as error:
            raise InvalidSettingError(f"{name}: {error}") from error
        except (ValueError, OverflowError):
            shown = _type(value) if self.secret else _shown(value)
            raise InvalidSettingError(f"{name} must be {self.expected}, not {shown}") from None


# --- types -------------------------------------------------------------------------------------------------


def optional(of: SettingType[T]) -> SettingType[T | None]:
    """The type of an optional setting: ``None``, or empty text, or the ``None`` of a template."""
    return _like(of, f"{of.expected}, or None", lambda value: None if _is_blank(value) else of.convert(value))


def given(of: SettingType[T]) -> SettingType[T | None]:
    """The type of a setting that may be ``None`` in the DAG's code, while empty text is an error."""
    return _like(of, of.expected, lambda value: None if value is None else of.convert(value))


def as_written(of: SettingType[T]) -> SettingType[T]:
    """The type of a setting without template rendering."""
    return replace(of, templated=False)


def choice(*options: str) -> SettingType[str]:
    """A choice of words."""
    return SettingType(_listed(options), lambda value: _require(value in options, value), options=options)


def several(*options: str) -> SettingType[tuple[str, ...]]:
    """Several of some words, each once; also as comma-separated text."""
    return SettingType(
        f"a list of some of {', '.join(map(repr, options))}",
        lambda value: _require(
            set(found := () if _is_blank(value) else _words(value)) <= {*options}, tuple(dict.fromkeys(found))
        ),
    )


def choices(*options: str) -> SettingType[dict[str, str]]:
    """A mapping from given names to a choice of words."""
    return SettingType(
        f"a dict of {', '.join(map(repr, options))} by name, or JSON of one",
        lambda value: _require(set((found := _text_by_name(value)).values()) <= {*options}, found),
    )


def choice_or_group(*options: str, group: type[SettingGroup]) -> SettingType[str | SettingGroup]:
    """A choice of words, or an object with settings of its own."""
    word = choice(*options)

    def convert(value: Any) -> str | SettingGroup:
        return value.meant() if isinstance(value, group) else word.convert(value)

    return _like(word, f"{', '.join(map(repr, options))} or {group.__name__}(...)", convert)


def number(*, minimum: float) -> SettingType[float]:
    """A finite number of at least a minimum; also as text."""
    return SettingType(
        f"a number of {minimum:g} or more", lambda value: _within(_number(value), minimum, math.inf)
    )


def whole(minimum: int, maximum: int) -> SettingType[int]:
    """An integer within inclusive limits; also as text."""
    return SettingType(
        f"a whole number from {minimum:,} to {maximum:,}",
        lambda value: _whole(_within(_number(value), minimum, maximum)),
    )


def _like(of: SettingType[Any], expected: str, convert: Callable[[Any], T]) -> SettingType[T]:
    return replace(of, expected=expected, convert=convert)


def _listed(options: tuple[str, ...]) -> str:
    *others, last = map(repr, options)
    return f"{', '.join(others)} or {last}"


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def _require(right: bool, value: T) -> T:
    if not right:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    return str(_require(isinstance(value, str) and not _is_blank(value), value))


def _stream(value: Any) -> str:
    return str(StreamRef.parse(_text(value)))


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower())
    return bool(_require(isinstance(value, bool), value))


def _number(value: Any) -> float:
    _require(isinstance(value, (int, float, str)) and not isinstance(value, bool), value)
    return _require(math.isfinite(found := float(value)), found)


def _within(value: float, minimum: float, maximum: float) -> float:
    return _require(minimum <= value <= maximum, value)


def _whole(value: float) -> int:
    return int(_require(value.is_integer(), value))


def _moment(value: Any) -> datetime:
    return parse_timestamp(_require(isinstance(value, (str, datetime)), value))


def _names(value: Any) -> tuple[str, ...]:
    listed = isinstance(value, (list, tuple, AbstractSet))
    return tuple(_require(listed and all(isinstance(name, str) for name in value), value))


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(word for word in _SEPARATORS.split(value) if word)
    return () if value is None else _names(value)


def _text_by_name(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        value = json.loads(value)
    texts = isinstance(value, Mapping) and all(
        isinstance(text, str) for pair in value.items() for text in pair
    )
    return dict(_require(texts, value))


def _column_types(value: Any) -> dict[str, str]:
    types = _text_by_name(value)
    parse_types(types)
    return types


def _table(value: Any) -> TableName:
    return LandingTarget.beside(TableName.parse(_text(value))).table


def _table_options(value: Any) -> TableOptions:
    given = None if _is_blank(value) else value
    return TableOptions.parse(_require(given is None or isinstance(given, Mapping) or given == NEVER, given))


def _schema(value: Any) -> dict[str, Any] | list[Any] | str | None:
    if _is_blank(value):
        return None
    return _require(isinstance(value, (dict, list, str)), value)  # type: ignore[no-any-return]


def _consumer_arn(value: Any) -> str:
    return str(ConsumerArn.parse(_text(value)))


def _format(value: Any) -> Any:
    if isinstance(value, str):
        return _require(value in NAMED, value)
    return _require(callable(getattr(value, "decoder", None)), value)


def _verify(value: Any) -> bool | str | None:
    if value is None or isinstance(value, bool):
        return value
    path = _text(value)
    return _require(path.lower() not in ("true", "false"), path)


TEXT = SettingType("text that isn't empty", _text)
STREAM = SettingType("the name of a Kinesis stream, or its ARN", _stream)
TRUTH = SettingType("true or false", _truth)
POSITIVE = SettingType(
    "a number greater than 0", lambda value: _require((found := _number(value)) > 0, found)
)
MOMENT = SettingType(
    "ISO-8601 with a time zone, such as '2026-01-31T06:00:00Z', or a datetime with a time zone", _moment
)
DURATION = SettingType(
    "a timedelta of 0 or more",
    lambda value: _require(isinstance(value, timedelta) and value >= timedelta(0), value),
    templated=False,
)
KEYS_TO_KEEP = SettingType(
    "a list of at least one key, such as ['id'], or None for all keys",
    lambda value: None if value is None else _names(_require(value, value)),
)
KEYS_TO_DROP = SettingType(
    "a list of keys, such as ['id']", lambda value: () if value is None else _names(value)
)
FOLDER = SettingType(
    "an absolute path that all workers share, or s3://bucket/prefix",
    lambda value: _require(_text(value).startswith(("/", "s3://")), value),
)
WORDS = SettingType("a list of names, or their names with commas between them", _words)
TEXT_BY_NAME = SettingType("a dict of text by text, such as {'id': 'ID'}, or JSON of one", _text_by_name)
COLUMN_TYPES = SettingType(
    "a dict of types by column, such as {'AMOUNT': 'NUMBER(12, 2)'}, or JSON of one", _column_types
)
TABLE = SettingType("a table as 'DATABASE.SCHEMA.TABLE'", _table)
TABLE_OPTIONS = SettingType(f"a dict of options, such as {{'transient': True}}, or {NEVER!r}", _table_options)
DEAD_LETTERS = SettingType("a number such as 100, or a share such as '5%'", DeadLetterLimit.parse)
CONSUMER_ARN = SettingType("the ARN of a registered consumer", _consumer_arn)
FORMAT = SettingType(EXPECTED, _format)
SCHEMA = SettingType("an Avro schema: JSON as text, or parsed", _schema)
FUNCTION = SettingType(
    "a function or None", lambda value: _require(value is None or callable(value), value), templated=False
)
VERIFY = SettingType(
    "True or False without quotes, the path of a CA bundle, or None", _verify, templated=False
)
CONFIG = SettingType(
    "a dict of arguments of botocore.config.Config, or None",
    lambda value: _require(value is None or isinstance(value, Mapping), value),
    secret=True,
    templated=False,
)
PLAN = SettingType(
    "what the operator that makes the plan returned",
    lambda value: _require(isinstance(value, Mapping) and "plan" in value, value),
)

AWS: Mapping[str, SettingType[Any]] = {
    "aws_conn_id": optional(TEXT),
    "dynamodb_conn_id": optional(TEXT),
    "region_name": optional(TEXT),
    "verify": VERIFY,
    "botocore_config": CONFIG,
}
"""The five settings of everything that accesses AWS."""


# --- reading them ------------------------------------------------------------------------------------------


def read(types: Mapping[str, SettingType[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The converted values of settings.

    :raises InvalidSettingError: one is invalid
    """
    return {name: types[name].read(name, value) for name, value in values.items()}


def defaults(owner: type[CheckedSettings | SettingGroup]) -> dict[str, Any]:
    """The defaults by setting; required settings are missing."""
    parameters = (
        parameter
        for kind in reversed(owner.__mro__)
        for parameter in signature(vars(kind).get("__init__", object.__init__)).parameters.values()
    )
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name in owner.setting_types and parameter.default is not parameter.empty
    }


def aws_parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a stream's hook, from the settings in :data:`AWS` and ``stream_name``.

    :raises InvalidSettingError: the stream's ARN contradicts the region
    """
    return {
        "aws_conn_id": settings["aws_conn_id"],
        "region_name": region_of(settings["stream_name"], settings["region_name"]),
        "verify": settings["verify"],
        "config": settings["botocore_config"],
    }


class SettingGroup:
    """A group of settings that forms the value of one setting: base of frozen dataclasses.

    Like the settings of an operator, they are checked where they are written, unless they contain templates,
    and again when templates are rendered, which creates a new object.
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {}

    def __post_init__(self) -> None:
        read(
            self.setting_types,
            {name: value for name, value in vars(self).items() if _is_written_out(value)},
        )

    def read_settings(self) -> dict[str, Any]:
        """The converted settings, after templates are rendered.

        :raises InvalidSettingError: one is invalid
        """
        return read(self.setting_types, vars(self))

    def meant(self) -> str | SettingGroup:
        """The object's value: itself, once its settings are checked.

        :raises InvalidSettingError: one is invalid
        """
        self.read_settings()
        return self

    def rendered(self, render: Callable[[Any], Any]) -> Self:
        """The same settings with rendered templates, still to be checked by :meth:`read_settings`.

        :param render: renders the templates of one value
        """
        made = copy(self)
        vars(made).update({name: render(value) for name, value in vars(self).items()})
        return made

    def serialize(self) -> dict[str, Any]:
        """Their representation in Airflow: JSON, because Airflow before 3.3 accepts nothing else."""
        shown: dict[str, Any] = json.loads(json.dumps(vars(self), default=_as_json))
        return shown


class CheckedSettings(_Operator):
    """Checks the settings of an operator against the types declared by its class.

    The types also determine which settings are ``template_fields``, unless the class does.

    The operator of a mapped task is created when it runs, so arguments of ``expand`` are checked then; those
    of ``partial`` are checked while the DAG is parsed.
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "template_fields" not in vars(cls):
            templated = (name for name, type_ in cls.setting_types.items() if type_.templated)
            cls.template_fields = tuple(dict.fromkeys((*super(cls, cls).template_fields, *templated)))

    def check_settings(self) -> None:
        """Check the settings in the DAG file; called at the end of each ``__init__``.

        :raises InvalidSettingError: a value without templates is invalid
        """
        self._check_written({name: getattr(self, name) for name in self.setting_types if hasattr(self, name)})

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As every operator has it.

        :raises InvalidSettingError: a value without templates is invalid
        """
        cls._check_written({name: kwargs[name] for name in cls.setting_types if name in kwargs})
        return super().partial(**kwargs)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Any = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """As in every operator; groups of settings are immutable, so they are recreated."""
        render = partial(super().render_template, context=context, jinja_env=jinja_env, seen_oids=seen_oids)
        return content.rendered(render) if isinstance(content, SettingGroup) else render(content)

    def setting(self, name: str) -> Any:
        """The converted value of a setting, after templates are rendered.

        :raises InvalidSettingError: it is invalid
        """
        return self.setting_types[name].read(name, getattr(self, name))

    def read_settings(self) -> dict[str, Any]:
        """The converted settings, after templates are rendered.

        :raises InvalidSettingError: one is invalid, or some don't go together
        """
        settings = {name: self.setting(name) for name in self.setting_types}
        self.check_together(settings)
        return settings

    @classmethod
    def check_together(cls, settings: Mapping[str, Any]) -> None:
        """Check combinations of settings.

        :param settings: their converted values; those not known yet are missing
        :raises InvalidSettingError: they don't go together
        """
        region_of(settings.get("stream_name"), settings.get("region_name"))

    @classmethod
    def _check_written(cls, values: Mapping[str, Any]) -> None:
        known = {
            name: value
            for name, value in values.items()
            if name not in cls.template_fields or _is_written_out(value)
        }
        cls.check_together(read(cls.setting_types, known))


def _is_written_out(value: Any) -> bool:
    """Whether Airflow will leave a value of a template field unchanged."""
    if isinstance(value, str):
        return _TEMPLATE.search(value) is None
    if isinstance(value, Mapping):
        return all(map(_is_written_out, value.values()))
    if isinstance(value, (list, tuple, AbstractSet)):
        return all(map(_is_written_out, value))
    if isinstance(value, SettingGroup):
        return all(map(_is_written_out, vars(value).values()))
    if is_dataclass(value):
        return True  # Airflow renders no objects, and a pattern may well hold what looks like a template.
    return value is None or isinstance(value, (bool, int, float, date, timedelta))


def _as_json(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, AbstractSet) else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= _MAX_SHOWN_LENGTH else f"{value[:_MAX_SHOWN_LENGTH]}...")
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, (int, float)):
        return f"the number {value}" if abs(value) < 10**_MAX_SHOWN_LENGTH else "a number as large as that"
    if isinstance(value, (list, tuple, AbstractSet)) and not value:
        return f"an empty {_type(value)}"
    return f"a {_type(value)}"


def _type(value: Any) -> str:
    return type(value).__name__
