"""What values the settings of operators, sensors and triggers take: said and checked in one place.

What a DAG file writes is checked while it is parsed, as far as it holds no template. Everything is checked
once more when templates are filled in: they make text of numbers and ``None``, and where a DAG renders them
to native objects, numbers and lists of text.

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
    """The values that a setting takes.

    :param expected: what to write, as the end of "must be ..."
    :param convert: gives what a value stands for; a ``ValueError`` says that it can't be meant. The message
        of an ``InvalidSettingError`` is kept
    :param secret: keep the value out of messages
    :param options: the words that it may be, where it is one of some
    :param templated: whether templates in it are filled in
    """

    expected: str
    convert: Callable[[Any], T]
    secret: bool = False
    options: tuple[str, ...] = ()
    templated: bool = True

    def read(self, name: str, value: Any) -> T:
        """What the value of a setting stands for.

        :param name: of the setting
        :raises InvalidSettingError: the value can't be meant; the message names the setting
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
    """A type of settings that may be left out: ``None``, or empty text, or the ``None`` of a template."""
    return _like(of, f"{of.expected}, or None", lambda value: None if _is_blank(value) else of.convert(value))


def given(of: SettingType[T]) -> SettingType[T | None]:
    """A type of settings that may be ``None`` in the DAG's code, while empty text is a mistake."""
    return _like(of, of.expected, lambda value: None if value is None else of.convert(value))


def as_written(of: SettingType[T]) -> SettingType[T]:
    """A type of settings that no template is filled in."""
    return replace(of, templated=False)


def choice(*options: str) -> SettingType[str]:
    """One of some words."""
    return SettingType(_listed(options), lambda value: _require(value in options, value), options=options)


def several(*options: str) -> SettingType[tuple[str, ...]]:
    """Some of some words, each once; text with commas between them too."""
    return SettingType(
        f"a list of some of {', '.join(map(repr, options))}",
        lambda value: _require(
            set(found := () if _is_blank(value) else _words(value)) <= {*options}, tuple(dict.fromkeys(found))
        ),
    )


def choices(*options: str) -> SettingType[dict[str, str]]:
    """One of some words by each of some names."""
    return SettingType(
        f"a dict of {', '.join(map(repr, options))} by name, or JSON of one",
        lambda value: _require(set((found := _text_by_name(value)).values()) <= {*options}, found),
    )


def choice_or_group(*options: str, group: type[SettingGroup]) -> SettingType[str | SettingGroup]:
    """One of some words, or an object with settings of its own."""
    word = choice(*options)

    def convert(value: Any) -> str | SettingGroup:
        return value.meant() if isinstance(value, group) else word.convert(value)

    return _like(word, f"{', '.join(map(repr, options))} or {group.__name__}(...)", convert)


def number(*, minimum: float) -> SettingType[float]:
    """A finite number from a minimum on; text of one too."""
    return SettingType(
        f"a number of {minimum:g} or more", lambda value: _within(_number(value), minimum, math.inf)
    )


def whole(minimum: int, maximum: int) -> SettingType[int]:
    """A whole number within limits, both included; text of one too."""
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
"""The five settings of everything that reaches AWS."""


# --- reading them ------------------------------------------------------------------------------------------


def read(types: Mapping[str, SettingType[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the values of settings stand for.

    :raises InvalidSettingError: one can't be meant
    """
    return {name: types[name].read(name, value) for name, value in values.items()}


def defaults(owner: type[CheckedSettings | SettingGroup]) -> dict[str, Any]:
    """What holds where nothing is written, by setting; those that must be written are missing."""
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
    """What the hook of a stream takes, of the settings in :data:`AWS` and ``stream_name``.

    :raises InvalidSettingError: the stream's ARN and the region contradict each other
    """
    return {
        "aws_conn_id": settings["aws_conn_id"],
        "region_name": region_of(settings["stream_name"], settings["region_name"]),
        "verify": settings["verify"],
        "config": settings["botocore_config"],
    }


class SettingGroup:
    """Settings that belong together and make the value of one setting: base of frozen dataclasses.

    As the settings of an operator they are checked where they are written, as far as they hold no template,
    and once more when templates are filled in, which makes a new object.
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {}

    def __post_init__(self) -> None:
        read(
            self.setting_types,
            {name: value for name, value in vars(self).items() if _is_written_out(value)},
        )

    def read_settings(self) -> dict[str, Any]:
        """What all settings stand for, when templates are filled in.

        :raises InvalidSettingError: one can't be meant
        """
        return read(self.setting_types, vars(self))

    def meant(self) -> str | SettingGroup:
        """What the object stands for: itself, once its settings are checked.

        :raises InvalidSettingError: one can't be meant
        """
        self.read_settings()
        return self

    def rendered(self, render: Callable[[Any], Any]) -> Self:
        """The same settings with templates filled in, yet to be checked by :meth:`read_settings`.

        :param render: fills in the templates of one value
        """
        made = copy(self)
        vars(made).update({name: render(value) for name, value in vars(self).items()})
        return made

    def serialize(self) -> dict[str, Any]:
        """What Airflow shows of them: JSON, as Airflow before 3.3 runs no task with anything else."""
        shown: dict[str, Any] = json.loads(json.dumps(vars(self), default=_as_json))
        return shown


class CheckedSettings(_Operator):
    """Checks the settings of an operator, by the types that its class declares.

    The types say too which settings are ``template_fields``, where a class doesn't.

    An operator of a mapped task is made when it runs, so there the arguments of ``expand`` are checked then;
    those of ``partial`` are checked while the DAG is parsed.
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "template_fields" not in vars(cls):
            templated = (name for name, type_ in cls.setting_types.items() if type_.templated)
            cls.template_fields = tuple(dict.fromkeys((*super(cls, cls).template_fields, *templated)))

    def check_settings(self) -> None:
        """Check what the DAG file wrote; for the end of each ``__init__``.

        :raises InvalidSettingError: a value that holds no template can't be meant
        """
        self._check_written({name: getattr(self, name) for name in self.setting_types if hasattr(self, name)})

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """As every operator has it.

        :raises InvalidSettingError: a value that holds no template can't be meant
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
        """As every operator has it; groups of settings can't be altered, so they are made anew."""
        render = partial(super().render_template, context=context, jinja_env=jinja_env, seen_oids=seen_oids)
        return content.rendered(render) if isinstance(content, SettingGroup) else render(content)

    def setting(self, name: str) -> Any:
        """What a setting stands for, when templates are filled in.

        :raises InvalidSettingError: it can't be meant
        """
        return self.setting_types[name].read(name, getattr(self, name))

    def read_settings(self) -> dict[str, Any]:
        """What all settings stand for, when templates are filled in.

        :raises InvalidSettingError: one can't be meant, or some don't go together
        """
        settings = {name: self.setting(name) for name in self.setting_types}
        self.check_together(settings)
        return settings

    @classmethod
    def check_together(cls, settings: Mapping[str, Any]) -> None:
        """Check what no setting can say alone.

        :param settings: what they stand for; those that aren't known yet are missing
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
    """Whether Airflow will leave a value of a template field as it is."""
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
