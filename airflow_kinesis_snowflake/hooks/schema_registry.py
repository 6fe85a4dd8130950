"""Clients of schema registries, behind Airflow connections: Confluent's REST API, and AWS Glue."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
from airflow.sdk import BaseHook
from botocore.exceptions import ClientError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
    UndecodableError,
)
from airflow_kinesis_snowflake.formats.schema_registry import (
    AVRO,
    MAX_REFERENCES,
    MAX_SCHEMA_BYTES,
    PROTOBUF,
    RegisteredSchema,
    SchemaId,
    SchemaRegistry,
    Unusable,
    WeightedCache,
    weight_of,
)
from airflow_kinesis_snowflake.hooks.aws import AwsHook, error_code, translated
from airflow_kinesis_snowflake.hooks.proto_files import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONNECT_SECONDS, _READ_SECONDS = 5, 10
_MAX_ANSWER_SECONDS = 20
_TRIES = 3
_PAUSE_BETWEEN_TRIES = 0.2
_PAUSE_AFTER_FAILURE, _MAX_PAUSE = 0.5, 30.0
_UNKNOWN_SECONDS = 30.0
# A character may be written as six.
_MAX_ANSWER_BYTES = 4 * MAX_SCHEMA_BYTES
_PIECE = 2**16
_NOT_FOUND = (40401, 40402, 40403)
# Confluent's registry takes a larger id for no id, and answers as to a wrong address.
_LARGEST_ID = 2**31 - 1


def open_schema_registry(registry_conn_id: str) -> SchemaRegistry:
    """The registry behind an Airflow connection.

    :param registry_conn_id: of type ``http`` for the REST API that Confluent's registry has and others speak
        too: ``host`` (with or without ``https://`` and a path), ``port``, ``schema`` (``http`` or ``https``),
        ``login`` and ``password``; in the extra perhaps ``verify`` (the path of a CA bundle) and ``headers``
        (such as ``{"Authorization": "Bearer ..."}``). Or of type ``aws``, for the AWS Glue Schema Registry in
        the connection's account and region, which needs ``glue:GetSchemaVersion``
    :raises InvalidSettingError: there is no such connection, or it is of another type
    """
    try:
        connection = BaseHook.get_connection(registry_conn_id)
    except AirflowNotFoundException:
        raise InvalidSettingError(
            f"Create the Airflow connection {registry_conn_id!r} of the schema registry: there is none"
        ) from None
    if connection.conn_type == "aws":
        return CachedSchemaRegistry(GlueSchemaRegistryHook(aws_conn_id=registry_conn_id).fetch)
    if connection.conn_type in ("http", "https"):
        return CachedSchemaRegistry(ConfluentSchemaRegistryHook(registry_conn_id).fetch)
    raise InvalidSettingError(
        "Set registry_conn_id to a connection of type http (Confluent) or aws (Glue): the type of "
        f"{registry_conn_id!r} is {connection.conn_type!r}"
    )


@dataclass(frozen=True)
class _Unknown:
    """In the place of a schema that the registry didn't have at some time."""

    until: float


class CachedSchemaRegistry:
    """A registry that is called once for each schema, whether it can be used or not, by one thread at a time.

    An id that it doesn't have is asked for again after 30 s. After a failure it isn't called for half a
    second, and longer each time, up to 30 s; calls meanwhile fail at once.

    :param fetch: asks the registry
    :param monotonic: a clock, in seconds
    """

    def __init__(
        self,
        fetch: Callable[[SchemaId], RegisteredSchema],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = Lock()
        self._kept: WeightedCache[SchemaId, RegisteredSchema | Unusable | _Unknown] = WeightedCache()
        self._failures = 0
        self._ask_again_at = 0.0

    def schema(self, schema_id: SchemaId, /) -> RegisteredSchema:
        """The schema of an id, as :class:`SchemaRegistry` has it."""
        with self._lock:
            found = self._kept.get(schema_id)
            if isinstance(found, _Unknown) and found.until <= self._monotonic():
                found = None
            if found is None:
                found = self._ask(schema_id)
                self._kept.put(schema_id, found, weight=weight_of(found))
        if isinstance(found, _Unknown):
            raise LookupError(schema_id)
        if isinstance(found, Unusable):
            raise UndecodableError(found.why)
        return found

    def _ask(self, schema_id: SchemaId) -> RegisteredSchema | Unusable | _Unknown:
        if self._monotonic() < self._ask_again_at:
            raise ServiceUnavailableError("Try again: the schema registry failed a moment ago.")
        try:
            found: RegisteredSchema | Unusable | _Unknown = self._fetch(schema_id)
        except LookupError:
            found = _Unknown(self._monotonic() + _UNKNOWN_SECONDS)
        except UndecodableError as error:
            found = Unusable(str(error))
        except ServiceUnavailableError:
            pause = min(_MAX_PAUSE, _PAUSE_AFTER_FAILURE * 2**self._failures)
            self._failures += 1
            self._ask_again_at = self._monotonic() + pause
            raise
        self._failures = 0
        return found


class ConfluentSchemaRegistryHook(BaseHook):
    """Reads schemas by the REST API of Confluent's Schema Registry.

    :param http_conn_id: see :func:`open_schema_registry`
    """

    def __init__(self, http_conn_id: str) -> None:
        super().__init__()
        self.http_conn_id = http_conn_id
        self._session: requests.Session | None = None
        self._url = ""

    def fetch(self, schema_id: SchemaId) -> RegisteredSchema:
        """Ask for a schema, and for those that it refers to.

        :raises LookupError: there is none
        :raises UndecodableError: what there is can't be used
        :raises ServiceUnavailableError: no answer, or one that isn't a registry's
        :raises AccessDeniedError: the login is refused
        :raises ServiceRefusedError: another answer that another try won't change
        """
        if isinstance(schema_id, str) or schema_id > _LARGEST_ID:
            raise LookupError(schema_id)
        return self._schema(f"schemas/ids/{schema_id}")

    def _schema(self, path: str) -> RegisteredSchema:
        found = self._get(path)
        kind = _text(found, "schemaType", AVRO)
        texts = self._referred_to(found)
        if kind != PROTOBUF:
            return _nested(kind, found, texts)
        return self._protobuf(path, found, texts)

    def _protobuf(
        self, path: str, found: Mapping[str, Any], texts: Mapping[str, Mapping[str, Any]]
    ) -> RegisteredSchema:
        """The same, serialized: a registry that can't do that gives the text again, which is compiled."""
        answers = {"": found, **texts}
        for name, answer in answers.items():
            if not _is_descriptor(_text(answer, "schema")):
                get = partial(self._get_reference, _path(answer)) if name else partial(self._get, path)
                answers[name] = {**answer, **get(format="serialized")}
        if all(_is_descriptor(_text(answer, "schema")) for answer in answers.values()):
            return _nested(PROTOBUF, answers.pop(""), answers)
        sources = {"": found, **texts}
        return compiled(
            _text(sources.pop(""), "schema"),
            imports={name: _text(answer, "schema") for name, answer in sources.items()},
        )

    def _referred_to(self, schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """What a schema refers to, directly or not, by name, each behind what it refers to itself."""
        found: dict[str, Mapping[str, Any]] = {}
        begun: set[str] = set()

        def add(references: Any) -> None:
            if not isinstance(references, list) or len(references) > MAX_REFERENCES:
                raise UndecodableError("not what a registry says of a schema")
            for reference in references:
                name, path = _text(reference, "name"), _path(reference)
                if path in begun:
                    continue
                begun.add(path)
                if len(begun) > MAX_REFERENCES:
                    raise UndecodableError(f"refers to more than {MAX_REFERENCES} schemas")
                answer = self._get_reference(path)
                add(answer.get("references") or [])
                found[name] = {**answer, **reference}

        add(schema.get("references") or [])
        return found

    def _get_reference(self, path: str, **parameters: str) -> Mapping[str, Any]:
        """A schema that another one refers to, deleted or not. Who wrote that one may refer to anything."""
        try:
            return self._get(path, deleted="true", **parameters)
        except (LookupError, ServiceRefusedError):
            raise UndecodableError("refers to a schema that the registry doesn't have") from None

    def _get(self, path: str, **parameters: str) -> Mapping[str, Any]:
        session = self._connected()
        try:
            with session.get(
                f"{self._url}/{path}",
                params=parameters,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as answer:
                return self._read(answer, _content(answer))
        except (requests.RequestException, HTTPError, OSError) as error:
            raise ServiceUnavailableError(
                f"Try again: {self._who} doesn't answer ({type(error).__name__})."
            ) from None

    def _read(self, answer: requests.Response, content: bytes) -> Mapping[str, Any]:
        status = answer.status_code
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if status == 200 and isinstance(body, dict):
            return body
        if status == 404 and isinstance(body, dict) and body.get("error_code") in _NOT_FOUND:
            raise LookupError
        if status in (401, 403):
            raise AccessDeniedError(f"Check the login and password of {self._who}: it answers {status}.")
        if status == 429:
            raise ThrottledError(f"Try again later: {self._who} asks to be called less often.")
        if status == 200 or status >= 500:
            raise ServiceUnavailableError(
                f"Try again: {self._who} answers {status}, and nothing that a registry says."
            )
        raise ServiceRefusedError(
            f"Check host, port and schema of {self._who}: it answers {status} to a question for a schema."
        )

    @property
    def _who(self) -> str:
        return f"the schema registry at {self._url} (connection {self.http_conn_id!r})"

    def _connected(self) -> requests.Session:
        if self._session is not None:
            return self._session
        connection = self.get_connection(self.http_conn_id)
        self._url = _url(connection)
        session = requests.Session()
        # What would have to be inflated isn't asked for, so that nothing can be larger than it came.
        session.headers.update({"Accept": "application/json", "Accept-Encoding": "identity"})
        extra = connection.extra_dejson
        session.headers.update({str(name): str(text) for name, text in (extra.get("headers") or {}).items()})
        if connection.login:
            session.auth = (connection.login, connection.password or "")
        if extra.get("verify"):
            session.verify = str(extra["verify"])
        tries = HTTPAdapter(
            max_retries=Retry(
                total=_TRIES - 1,
                backoff_factor=_PAUSE_BETWEEN_TRIES,
                status_forcelist=(500, 502, 503, 504),
                respect_retry_after_header=False,
                raise_on_status=False,
            )
        )
        session.mount("http://", tries)
        session.mount("https://", tries)
        self._session = session
        return session


class GlueSchemaRegistryHook(AwsHook):
    """Reads schemas of the AWS Glue Schema Registry.

    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    """

    def __init__(self, **aws: Any) -> None:
        super().__init__(client_type="glue", **aws)

    def fetch(self, schema_id: SchemaId) -> RegisteredSchema:
        """Ask for a schema version. Needs ``glue:GetSchemaVersion``.

        :raises LookupError: there is none
        :raises UndecodableError: what there is can't be used
        """
        if isinstance(schema_id, int):
            raise LookupError(schema_id)
        resource = f"schema version {schema_id} {self.where}"
        with translated(doing="glue:GetSchemaVersion", resource=resource):
            try:
                client: Any = self.get_conn()
                found = client.get_schema_version(SchemaVersionId=schema_id)
            except ClientError as error:
                if error_code(error) == "EntityNotFoundException":
                    raise LookupError(schema_id) from None
                raise
        kind, definition = _text(found, "DataFormat"), _text(found, "SchemaDefinition")
        return compiled(definition, imports={}) if kind == PROTOBUF else RegisteredSchema(kind, definition)


def _url(connection: Any) -> str:
    if not connection.host:
        raise InvalidSettingError(
            f"Set the host of the Airflow connection {connection.conn_id!r} to the address of the schema "
            "registry: it is empty"
        )
    host = str(connection.host).rstrip("/")
    scheme, _, rest = host.rpartition("://")
    name, slash, path = rest.partition("/")
    port = f":{connection.port}" if connection.port and ":" not in name else ""
    return f"{scheme or connection.schema or 'http'}://{name}{port}{slash}{path}"


def _content(answer: requests.Response) -> bytes:
    """The bytes of an answer.

    :raises UndecodableError: it is too large
    :raises TimeoutError: it takes too long
    """
    give_up_at = time.monotonic() + _MAX_ANSWER_SECONDS
    read = getattr(answer.raw, "read1", answer.raw.read)
    content = b""
    while piece := read(_PIECE, decode_content=False):
        content += piece
        if len(content) > _MAX_ANSWER_BYTES:
            raise UndecodableError(f"larger than {_MAX_ANSWER_BYTES >> 20} MiB")
        if time.monotonic() > give_up_at:
            raise TimeoutError
    return content


def _text(found: Any, name: str, default: str | None = None) -> str:
    """A text of an answer.

    :raises UndecodableError: there is none, or too long a one
    """
    text = found.get(name) if isinstance(found, dict) else None
    text = default if text is None else text
    if not isinstance(text, str) or len(text) > 2 * MAX_SCHEMA_BYTES:
        raise UndecodableError("not what a registry says of a schema")
    return text


def _path(reference: Any) -> str:
    version = reference.get("version") if isinstance(reference, dict) else None
    if type(version) is not int or version < 1 or not _text(reference, "name"):
        raise UndecodableError("not what a registry says of a schema")
    return f"subjects/{quote(_text(reference, 'subject'), safe='')}/versions/{version}"


def _is_descriptor(definition: str) -> bool:
    """Whether a Protobuf schema is serialized; its text has characters that base64 hasn't."""
    try:
        return base64.b64decode(definition, validate=True).startswith(b"\n")
    except ValueError:
        return False


def _nested(
    kind: str, found: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]
) -> RegisteredSchema:
    """A schema with those that it refers to, whose order is one in which each has what it needs before it."""
    references: dict[str, RegisteredSchema] = {}
    for name, answer in answers.items():
        references[name] = RegisteredSchema(_text(answer, "schemaType", kind), _text(answer, "schema"))
    return RegisteredSchema(kind, _text(found, "schema"), references)
