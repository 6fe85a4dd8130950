"""Reads messages of types that are described, not compiled. Imports protobuf, which DAG files mustn't."""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.engine import MAX_OUTPUT_BYTES
from airflow_kinesis_snowflake.formats.looks import hint
from airflow_kinesis_snowflake.formats.schema_registry import MAX_REFERENCES, MAX_SCHEMA_BYTES
from airflow_kinesis_snowflake.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor, FileDescriptor

    from airflow_kinesis_snowflake.formats.schema_registry import RegisteredSchema

Reader: TypeAlias = "Callable[[bytes], bytes]"
"""Turns a message into a document; raises :class:`UndecodableError`."""

_Convert: TypeAlias = "Callable[[Any, _Room], Any]"
# The name of a field, and what converts its value.
_Field: TypeAlias = "tuple[str, _Convert | None]"
_Shape: TypeAlias = frozenset[tuple[str, str, int, int, bool]]

_MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)
_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
# What the library raises on descriptors that don't fit together.
_INVALID_TYPES = (DecodeError, KeyError, LookupError, NotImplementedError, TypeError, ValueError)
# Python's objects for a message, and for each of its fields, besides the text.
_MESSAGE_BYTES, _FIELD_BYTES = 100, 20
_MAX_DEPTH = 100
# Of what a schema says, a reason shows no more: characters of a name, and names.
_SHOWN_CHARACTERS, _SHOWN_NAMES = 120, 3
_ENTRY_OF_A_MAP = [
    ("key", 1, FieldDescriptorProto.LABEL_OPTIONAL),
    ("value", 2, FieldDescriptorProto.LABEL_OPTIONAL),
]
_NANOS = 10**9
_ANY = "google.protobuf.Any"
_DECIMAL = "confluent.type.Decimal"
_STANDARD_FILE = re.compile(r"google/(?:protobuf|type)/[a-z_]+\.proto")


def reader_of_set(content: bytes, message: str, *, strict: bool) -> Reader:
    """The reader of messages of one type.

    :param content: a ``FileDescriptorSet``
    :param message: full name of the type
    :param strict: refuse messages with fields that the type doesn't have
    :raises InvalidSettingError: the content isn't such a set, or the type isn't in it
    """
    try:
        files = FileDescriptorSet.FromString(content).file
        types = Types(_in_order_of_imports(files), strict=strict)
    except (UndecodableError, *_INVALID_TYPES) as error:
        raise InvalidSettingError(
            "Write the Protobuf descriptors with protoc --include_imports --descriptor_set_out: they aren't "
            f"a complete FileDescriptorSet ({type(error).__name__})"
        ) from None
    return types.named(message)


def _in_order_of_imports(files: Iterable[Any]) -> Iterator[Any]:
    """Files of a set, each after those that it imports, whatever their order."""
    by_name = {file.name: file for file in files}
    done: set[str] = set()

    def needed(name: str, depth: int) -> Iterator[Any]:
        if name in done or name not in by_name:
            return
        if depth > MAX_REFERENCES:
            raise UndecodableError("files that import each other")
        done.add(name)
        for dependency in by_name[name].dependency:
            yield from needed(dependency, depth + 1)
        yield by_name[name]

    for name in by_name:
        yield from needed(name, 0)


class Types:
    """Message types that belong together, and the reader of each.

    :param files: ``FileDescriptorProto``, each after those that it imports
    :param strict: refuse messages with fields that a type doesn't have
    :raises UndecodableError: they don't fit together, or import a file that is missing
    """

    def __init__(self, files: Iterable[Any], *, strict: bool) -> None:
        self._strict = strict
        self._pool = DescriptorPool()
        self._added: set[str] = set()
        self._last = ""
        self._plans: dict[str, _Convert] = {}
        self._readers: dict[Any, Reader] = {}
        for file in files:
            self._add(file)

    @classmethod
    def registered(cls, schema: RegisteredSchema, *, strict: bool) -> Types:
        """The types of a schema and of those that it refers to.

        :raises UndecodableError: they can't be used
        """
        return cls(_registered_files(schema), strict=strict)

    def named(self, name: str) -> Reader:
        """The reader of messages of the type with a name.

        :raises InvalidSettingError: there is none
        """
        try:
            return self._reader(self._pool.FindMessageTypeByName(name))
        except KeyError:
            raise InvalidSettingError(
                f"message must be one of the Protobuf descriptors, which have no {name!r}"
            ) from None

    def at(self, index: int | tuple[int, ...]) -> Reader:
        """The reader of messages of the type at an index of the last file.

        :param index: among all messages in the order of their names, as AWS Glue counts them; or in the file
            and then in each message, as Confluent does
        :raises UndecodableError: there is none
        """
        reader = self._readers.get(index)
        if reader is None:
            reader = self._reader(self._at(index))
            self._readers[index] = reader
        return reader

    def _at(self, index: int | tuple[int, ...]) -> Descriptor:
        file = self._pool.FindFileByName(self._last)
        inside: Any = FileDescriptorProto()
        file.CopyToProto(inside)
        try:
            if isinstance(index, int):
                name = sorted(_all_names(inside.message_type, inside.package))[index]
            else:
                first, *others = index
                name = ".".join(_names_down(inside, first, others))
            return self._pool.FindMessageTypeByName(name)
        except (IndexError, KeyError):
            raise UndecodableError("its header names a message that the schema doesn't have") from None

    # --- files ---

    def _add(self, file: Any) -> None:
        """Add a file; imports that are missing are left out, so that it fails only if it uses them."""
        if not all(isinstance(name, str) for name in (file.name, file.package, *file.dependency)):
            raise UndecodableError("not a Protobuf schema that can be used: a name isn't UTF-8")
        for name in file.dependency:
            if name not in self._added and (standard := _standard_file(name)) is not None:
                self._add(standard)
        usable = FileDescriptorProto()
        usable.CopyFrom(file)
        del usable.dependency[:], usable.public_dependency[:], usable.weak_dependency[:]
        usable.dependency.extend(name for name in file.dependency if name in self._added)
        missing = [name for name in file.dependency if name not in self._added]
        try:
            self._pool.AddSerializedFile(usable.SerializeToString())
            added = self._pool.FindFileByName(file.name)
        except _INVALID_TYPES as error:
            why = f"imports {_shown_list(missing)}, which is missing" if missing else type(error).__name__
            raise UndecodableError(f"not a Protobuf schema that can be used: {why}") from None
        _check_maps(usable, added)
        self._added.add(file.name)
        self._last = file.name

    # --- messages ---

    def _reader(self, descriptor: Descriptor) -> Reader:
        convert = self._plan(descriptor)
        parse = self._parser(descriptor)
        encode = msgspec.json.Encoder().encode

        def read(payload: bytes) -> bytes:
            try:
                return encode(convert(parse(payload), _Room()))
            except RecursionError:
                raise UndecodableError("nested too deeply") from None
            except UnicodeError:
                raise UndecodableError("text that isn't UTF-8") from None

        return read

    def _parser(self, descriptor: Descriptor) -> Callable[[bytes], Any]:
        """What parses messages of a type, and refuses all else."""
        of_type = GetMessageClass(descriptor)
        from_string, initialized = of_type.FromString, of_type.IsInitialized
        size, discard = of_type.ByteSize, of_type.DiscardUnknownFields
        name, strict = _shown(descriptor.full_name), self._strict

        def parse(payload: bytes) -> Any:
            try:
                message = from_string(payload)
            except (DecodeError, UnicodeError):
                raise UndecodableError(f"not a Protobuf message {name}{hint(payload)}") from None
            if not initialized(message):
                raise UndecodableError(f"a Protobuf message {name} without a required field")
            if strict:
                whole = size(message)
                discard(message)
                if size(message) != whole:
                    raise UndecodableError(
                        f"update the schema of {name}, or set Protobuf(unknown_fields='ignore'): the message "
                        f"has fields that the schema doesn't have{hint(payload)}"
                    )
            return message

        return parse

    def _plan(self, descriptor: Descriptor) -> _Convert:
        """What turns messages of a type into values; made once, even if the type contains itself."""
        name = descriptor.full_name
        if name not in self._plans:
            special = self._any if name == _ANY else _SPECIAL.get(name)
            standard = special and _shape(descriptor.file) == _standard_shape(name)
            self._plans[name] = special if special and standard else _Fields(self, descriptor)
        return self._plans[name]

    def convert(self, each: FieldDescriptor) -> _Convert | None:
        """What converts each value of a field; ``None``: they stay as they are."""
        if each.type in _MESSAGES:
            return self._plan(each.message_type)
        if each.type == FieldDescriptor.TYPE_ENUM:
            names = {number: value.name for number, value in each.enum_type.values_by_number.items()}
            return _symbol(names)
        if each.type == FieldDescriptor.TYPE_BYTES:
            return _base64
        if each.type in _FLOATS:
            return lambda value, _: values.floating(value)
        return _utf8 if each.type == FieldDescriptor.TYPE_STRING else None

    def _any(self, message: Any, room: _Room) -> Any:
        url = message.type_url
        if not url and not message.value:
            return {}
        try:
            inner = self._pool.FindMessageTypeByName(url.rpartition("/")[2])
        except KeyError:
            return {"@type": url, "value": base64.b64encode(message.value).decode("ascii")}
        room.take(len(message.value))  # The rest of the message, once more at each level.
        with room:
            value = self._plan(inner)(self._parser(inner)(message.value), room)
        special = inner.full_name in _SPECIAL or not isinstance(value, dict)
        return {"@type": url, "value": value} if special else {"@type": url, **value}


class _Room:
    """What is left of the memory that a message may take, and how deeply messages are nested as bytes."""

    def __init__(self) -> None:
        self._left = MAX_OUTPUT_BYTES
        self._depth = 0

    def take(self, size: int) -> None:
        """Take some of it.

        :raises UndecodableError: there isn't that much left
        """
        self._left -= size
        if self._left < 0:
            raise UndecodableError(f"takes more than {MAX_OUTPUT_BYTES >> 20} MiB of memory")

    def __enter__(self) -> None:
        """Enter a message that another one holds as bytes."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UndecodableError("nested too deeply")

    def __exit__(self, *_: object) -> None:
        self._depth -= 1


class _Fields:
    """Turns a message into an object.

    :param types: those of the messages that it may hold
    """

    def __init__(self, types: Types, descriptor: Descriptor) -> None:
        self._types = types
        # Not through the message, where a field may have the name of a method.
        self._list = GetMessageClass(descriptor).ListFields
        self._fields: dict[int, _Field] | None = None
        self._descriptor = descriptor
        self._defaults: dict[str, Any] = {}
        self._cost = 0

    def __call__(self, message: Any, room: _Room) -> dict[str, Any]:
        if self._fields is None:
            self._fields = self._look()
        fields = self._fields
        room.take(self._cost)
        row = self._defaults.copy()
        characters = 0
        for each, value in self._list(message):
            name, convert = fields.get(each.number) or self._extension(each)
            characters += len(name)
            row[name] = value if convert is None else convert(value, room)
        room.take(characters)
        return row

    def _look(self) -> dict[int, _Field]:
        fields = {}
        for each in self._descriptor.fields:
            fields[each.number] = each.name, self._convert(each)
            if _is_map(each):
                self._defaults[each.name] = {}
            elif _is_repeated(each):
                self._defaults[each.name] = ()
            elif not each.has_presence:
                convert = self._types.convert(each)
                default = each.default_value
                self._defaults[each.name] = convert(default, _Room()) if convert else default
        text = sum(len(name) + _FIELD_BYTES for name in self._defaults)
        self._cost = _MESSAGE_BYTES + text
        return fields

    def _extension(self, each: FieldDescriptor) -> _Field:
        return f"[{each.full_name}]", self._convert(each)

    def _convert(self, each: FieldDescriptor) -> _Convert | None:
        if _is_map(each):
            return _map(self._types.convert(each.message_type.fields_by_name["value"]))
        item = self._types.convert(each)
        if not _is_repeated(each):
            return item
        if item is None:
            return lambda found, _: list(found)
        return lambda found, room: [item(value, room) for value in found]


def _map(item: _Convert | None) -> _Convert:
    def convert(found: Any, room: _Room) -> dict[str, Any]:
        made = {}
        for key, value in found.items():
            text = str(key).lower() if isinstance(key, bool) else str(key)
            made[text] = value if item is None else item(value, room)
        return made

    return convert


def _is_repeated(each: FieldDescriptor) -> bool:
    # The newer name; protobuf 7 has removed the older one.
    repeated = getattr(each, "is_repeated", None)
    return bool(each.label == each.LABEL_REPEATED if repeated is None else repeated)


def _holds_entries(each: FieldDescriptor) -> bool:
    return each.type in _MESSAGES and bool(each.message_type.GetOptions().map_entry)


def _is_map(each: FieldDescriptor) -> bool:
    return each.type == FieldDescriptor.TYPE_MESSAGE and _is_repeated(each) and _holds_entries(each)


def _symbol(names: Mapping[int, str]) -> _Convert:
    def convert(number: int, room: _Room) -> str | int:
        name = names.get(number)
        if name is None:
            return number
        room.take(len(name))
        return name

    return convert


def _base64(value: bytes, _: Any) -> str:
    return base64.b64encode(value).decode("ascii")


def _utf8(value: Any, _: Any) -> str:
    if not isinstance(value, str):  # A string of proto2 may hold any bytes, and comes as bytes then.
        raise UndecodableError("text that isn't UTF-8")
    return value


# --- well-known types --------------------------------------------------------------------------------------


def _timestamp(message: Any, _: _Room) -> str:
    if not 0 <= message.nanos < _NANOS:
        raise UndecodableError("a Timestamp whose nanos aren't within a second")
    return values.timestamp(message.seconds * _NANOS + message.nanos, 9)


def _duration(message: Any, _: _Room) -> Any:
    return values.decimal(message.seconds * _NANOS + message.nanos, 9)


def _wrapped(message: Any, _: _Room) -> Any:
    value = message.value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return values.floating(value) if isinstance(value, float) else value


def _struct(message: Any, room: _Room) -> dict[str, Any]:
    room.take(_MESSAGE_BYTES)
    return {key: _value(value, room) for key, value in message.fields.items()}


def _list(message: Any, room: _Room) -> list[Any]:
    room.take(_MESSAGE_BYTES)
    return [_value(value, room) for value in message.values]


def _value(message: Any, room: _Room) -> Any:
    room.take(_FIELD_BYTES)
    kind = message.WhichOneof("kind")
    if kind in (None, "null_value"):
        return None
    value = getattr(message, kind)
    if kind == "number_value":
        return values.floating(value)
    if kind == "struct_value":
        return _struct(value, room)
    return _list(value, room) if kind == "list_value" else value


def _field_mask(message: Any, _: _Room) -> str:
    return ",".join(message.paths)


def _decimal(message: Any, _: _Room) -> Any:
    return values.decimal(int.from_bytes(message.value, signed=True), message.scale)


_SPECIAL: Mapping[str, _Convert] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Value": _value,
    "google.protobuf.FieldMask": _field_mask,
    **{
        f"google.protobuf.{kind}Value": _wrapped
        for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
    },
    _DECIMAL: _decimal,
}


@cache
def _standard_shape(name: str) -> _Shape:
    """The shape of the file that a well-known type is in."""
    words = {"Struct": "struct", "Value": "struct", "ListValue": "struct", "FieldMask": "field_mask"}
    last = name.rpartition(".")[2]
    file = words.get(last, "wrappers" if last.endswith("Value") else last.lower())
    folder = "confluent/type" if name == _DECIMAL else "google/protobuf"
    pool = DescriptorPool()
    pool.AddSerializedFile(_standard_file(f"{folder}/{file}.proto").SerializeToString())
    return _shape(pool.FindFileByName(f"{folder}/{file}.proto"))


def _shape(file: FileDescriptor) -> _Shape:
    """The fields of all messages of a file: a schema may use a well-known name for something else."""
    return frozenset(
        (message.full_name, each.name, each.number, each.type, _is_repeated(each))
        for message in _messages(file)
        for each in message.fields
    )


def _messages(file: FileDescriptor) -> Iterator[Descriptor]:
    """The message types of a file, with those that are inside others."""
    waiting = list(file.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        waiting.extend(message.nested_types)
        yield message


# --- maps that no compiler writes --------------------------------------------------------------------------


def _check_maps(file: Any, added: FileDescriptor) -> None:
    """Refuse entries of maps that the library takes for granted: it would lose them, or end the process.

    :param file: the ``FileDescriptorProto``
    :param added: the same file in a pool, which knows the types of fields
    :raises UndecodableError: an entry isn't a key and a value, or belongs to something else than a map
    """
    messages = list(_messages(added))
    fields = [each for message in messages for each in message.fields]
    extensions = [each for message in messages for each in message.extensions]
    extensions += added.extensions_by_name.values()
    if (
        any(_fields_of(entry) != _ENTRY_OF_A_MAP for entry in _entries(file.message_type))
        or any(_holds_entries(each) and not _is_map(each) for each in fields)
        or any(map(_holds_entries, extensions))
    ):
        raise UndecodableError("not a Protobuf schema that can be used: a map that no compiler writes")


def _entries(messages: Iterable[Any]) -> Iterator[Any]:
    for message in messages:
        if message.options.map_entry:
            yield message
        yield from _entries(message.nested_type)


def _fields_of(message: Any) -> list[tuple[str, int, int]]:
    return [(each.name, each.number, each.label) for each in message.field]


# --- files that schemas import -----------------------------------------------------------------------------


def _standard_file(name: str) -> Any:
    """A file that serializers take for granted, so that no registry has it; ``None`` for others."""
    if name == "confluent/type/decimal.proto":
        return _confluent_decimal(name)
    if not _STANDARD_FILE.fullmatch(name):
        return None
    try:
        module = import_module(f"{name.removesuffix('.proto').replace('/', '.')}_pb2")
    except ImportError:
        return None
    found = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(found)
    return found


def _confluent_decimal(name: str) -> Any:
    file = FileDescriptorProto(name=name, package="confluent.type", syntax="proto3")
    message = file.message_type.add(name="Decimal")
    for number, (part, kind) in enumerate(
        (
            ("value", FieldDescriptorProto.TYPE_BYTES),
            ("precision", FieldDescriptorProto.TYPE_UINT32),
            ("scale", FieldDescriptorProto.TYPE_INT32),
        ),
        start=1,
    ):
        message.field.add(name=part, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    return file


def _registered_files(schema: RegisteredSchema) -> list[Any]:
    """The files of a schema, each after those that it refers to.

    :raises UndecodableError: one isn't a file descriptor
    """
    files: dict[str, Any] = {}

    def add(name: str, each: RegisteredSchema) -> None:
        for inner, reference in each.references.items():
            if inner not in files:
                add(inner, reference)
        files[name] = _file(each.definition, name)

    add("", schema)
    return list(files.values())


def _file(definition: str, name: str) -> Any:
    """A file under the name by which others import it; the last one has a name that nobody imports."""
    try:
        content = base64.b64decode(definition[: 2 * MAX_SCHEMA_BYTES], validate=True)
        file = FileDescriptorProto.FromString(content)
    except (binascii.Error, DecodeError, ValueError):
        raise UndecodableError("not a Protobuf schema that can be used: not a FileDescriptorProto") from None
    file.name = name or "/registered.proto"
    return file


def _shown(name: str) -> str:
    """A name of a schema, as far as a reason shows it."""
    return printable(name[:_SHOWN_CHARACTERS]) + ("…" if len(name) > _SHOWN_CHARACTERS else "")


def _shown_list(names: Sequence[str]) -> str:
    return ", ".join([*map(_shown, names[:_SHOWN_NAMES]), *["…"][: len(names) > _SHOWN_NAMES]])


def _all_names(messages: Iterable[Any], prefix: str) -> Iterator[str]:
    for message in messages:
        name = f"{prefix}.{message.name}" if prefix else message.name
        yield name
        yield from _all_names(message.nested_type, name)


def _names_down(file: Any, first: int, others: Iterable[int]) -> Iterator[str]:
    if file.package:
        yield file.package
    message = file.message_type[_from_front(first)]
    yield message.name
    for index in others:
        message = message.nested_type[_from_front(index)]
        yield message.name


def _from_front(index: int) -> int:
    if index < 0:
        raise IndexError
    return index
