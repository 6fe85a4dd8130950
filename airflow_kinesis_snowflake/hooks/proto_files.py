"""Compiles Protobuf schemas that a registry has as text. Needs grpcio-tools, the extra ``protobuf``."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.schema_registry import PROTOBUF, RegisteredSchema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAIN = "registered.proto"
_SECONDS = 30
# The machine may have been suspended, and what comes of it is remembered.
_TRIES = 2
_NAME = re.compile(r"(?:[\w-]+/)*[\w.-]+\.proto", re.ASCII)
_MAX_NAME_LENGTH = 200
_MAX_SET_BYTES = 16 * 2**20


def compiled(definition: str, *, imports: Mapping[str, str]) -> RegisteredSchema:
    """A schema as its descriptor.

    The compiler runs in a process of its own, because nobody knows what a registry holds.

    :param definition: the text of a ``.proto`` file
    :param imports: texts by the names that they are imported by
    :raises InvalidSettingError: grpcio-tools isn't installed
    :raises UndecodableError: the text can't be compiled
    """
    if find_spec("grpc_tools") is None:
        raise InvalidSettingError(
            "Install airflow-kinesis-snowflake[protobuf]: the registry has Protobuf schemas as text, which "
            "grpcio-tools compiles"
        )
    with TemporaryDirectory(prefix="proto-") as name:
        folder = Path(name)
        for path, text in {**imports, _MAIN: definition}.items():
            file = folder / "in" / _inside(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode(errors="replace"))
        *others, last = _files(folder)
    return RegisteredSchema(
        PROTOBUF,
        _base64(last),
        {file.name: RegisteredSchema(PROTOBUF, _base64(file)) for file in others},
    )


def _files(folder: Path) -> list[FileDescriptorProto]:
    """The descriptors of all files, that of the main one last."""
    output = folder / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder / 'in'}"]
    command += [f"--proto_path={path}" for path in _standard_paths()]
    command += ["--include_imports", f"--descriptor_set_out={output}", _MAIN]
    content = b""
    for _ in range(_TRIES):
        with suppress(subprocess.TimeoutExpired, FileNotFoundError):
            ended = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
            content = output.read_bytes() if ended.returncode == 0 else b""
            break
    try:
        files = list(FileDescriptorSet.FromString(content).file) if len(content) <= _MAX_SET_BYTES else []
    except DecodeError:
        files = []
    if not files:
        # What the compiler says quotes the schema, which is long.
        raise UndecodableError("not a Protobuf schema that can be compiled")
    return files


def _standard_paths() -> Iterator[Path]:
    """Where the files are that serializers take for granted."""
    tools = find_spec("grpc_tools")
    if tools and tools.submodule_search_locations:
        yield Path(tools.submodule_search_locations[0]) / "_proto"
    common = find_spec("google.type")
    if common and common.submodule_search_locations:
        yield Path(common.submodule_search_locations[0]).parents[1]


def _inside(path: str) -> str:
    """The name of an import, if it leads to nowhere else.

    :raises UndecodableError: it may
    """
    if not _NAME.fullmatch(path) or len(path) > _MAX_NAME_LENGTH:
        raise UndecodableError("imports a file by a name that isn't one of a .proto file")
    return path


def _base64(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode("ascii")
