"""Serves Snowpipe Streaming beside the local Snowflake, into the same tables. Runs in fakesnow's environment.

What the genuine SDK calls, over TLS: the host name, a token for a key-pair login, a pipe, channels, rows (as
they are, or through files on an S3 that is served here too), statuses. Besides, over the HTTP of the local
Snowflake, what tests ask for: faults (``streaming_faults.py``), and what :func:`control` does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import uvicorn
from certificates import serve_tls
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from streaming_channels import MOST_BYTES, Channels, Name, RefusedError
from streaming_faults import Fault, Faults
from streaming_landing import DEFAULT_PIPE, HEXADECIMAL, decompressed, find_table, land
from streaming_tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    Handler = Callable[[Request], Awaitable[Response]]

BUCKET = "streaming-files"
FAULTS = Faults()
TOKENS = Tokens()
CHANNELS = Channels(land)
# Files on the stage, and the key that the SDK encrypts them with.
files: dict[str, bytes] = {}
pipe_key = secrets.token_bytes(32)


# --- what clients call ---


async def hostname(request: Request) -> Response:
    TOKENS.check_login(request.headers.get("authorization", ""))
    return PlainTextResponse(request.url.hostname)


async def token(request: Request) -> Response:
    return PlainTextResponse(TOKENS.exchange(request.headers.get("authorization", "")))


async def pipe_info(request: Request) -> Response:
    pipe = await allowed(request)
    stage = {
        "expiry_time_ms": 1_900_000_000_000,
        "location_type": "S3",
        "use_s3_regional_url": False,
        "location": f"{BUCKET}/{secrets.token_hex(8)}/",
        "region": "us-east-1",
        "storage_endpoint": request.headers["host"],
        "creds": {"AWS_KEY_ID": "local", "AWS_SECRET_KEY": "local", "AWS_TOKEN": "local"},
    }
    key = {"pipe_key": base64.b64encode(pipe_key).decode(), "pipe_key_id": 1, "diversifier": "local"}
    answer = {"rowset_stage_location": stage, "durable_stage_location": stage, "encryption_info": key}
    overrides = {"binary_input_format": "HEX"} if pipe in HEXADECIMAL else {}
    return JSONResponse(answer | {"parameter_overrides": overrides})


async def open_channel(request: Request) -> Response:
    name = await allowed(request)
    asked = await asked_for(request)
    continuation, status = await run_in_threadpool(
        CHANNELS.open,
        name,
        token=asked.get("offset_token"),
        fail_on_uncommitted=bool(asked.get("fail_on_uncommitted_rows")),
    )
    return JSONResponse({"next_continuation_token": continuation, "channel_status": status})


async def append_rows(request: Request) -> Response:
    name = await allowed(request)
    body = await request.body()
    encoding = request.headers.get("content-encoding", "")
    lines = await run_in_threadpool(decompressed, body, encoding)
    if len(lines) > MOST_BYTES:
        raise RefusedError(
            413, "ERR_REQUEST_TOO_LARGE", f"The request has more than {MOST_BYTES} bytes of rows"
        )
    query = request.query_params
    end = query.get("endOffsetToken", query.get("offsetToken"))
    following = await run_in_threadpool(
        CHANNELS.append, name, query.get("continuationToken", ""), lines, end, delay=request.state.delay
    )
    return JSONResponse({"next_continuation_token": following})


async def append_files(request: Request) -> Response:
    name = await allowed(request)
    fragments = json.loads(await request.body())
    batches = [(fragment_of(each), each.get("fragment_end_offset_token")) for each in fragments]
    following = await run_in_threadpool(
        CHANNELS.append_all,
        name,
        request.query_params.get("continuationToken", ""),
        batches,
        delay=request.state.delay,
    )
    return JSONResponse({"next_continuation_token": following})


def fragment_of(about: dict[str, Any]) -> bytes:
    """The rows that a file on the stage holds."""
    file = files.get(about["file_path"])
    if file is None:
        raise RefusedError(400, "ERR_FILE_NOT_FOUND", f"There is no file {about['file_path']} on the stage")
    start = about["fragment_start_byte_offset"]
    iv = modes.CTR(base64.b64decode(about["iv_base64"]))
    plain = Cipher(algorithms.AES(pipe_key), iv).decryptor()
    return decompressed(plain.update(file[start : start + about["fragment_length_bytes"]]), "zstd")


async def statuses(request: Request) -> Response:
    pipe = await allowed(request)
    names = (await asked_for(request))["channel_names"]
    return JSONResponse({"channel_statuses": await run_in_threadpool(CHANNELS.statuses, pipe, names)})


async def drop_channel(request: Request) -> Response:
    name = await allowed(request)
    asked = await asked_for(request)
    failing = bool(asked.get("fail_on_uncommitted_rows"))
    return JSONResponse(await run_in_threadpool(CHANNELS.drop, name, fail_on_uncommitted=failing))


async def upload(request: Request) -> Response:
    """S3's PutObject; a body is sent in chunks, with a trailer."""
    body = await request.body()
    if "aws-chunked" in request.headers.get("content-encoding", ""):
        body = without_chunks(body)
    files[request.url.path.lstrip("/")] = body
    # S3's way of naming what it got; it secures nothing.
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Response(headers={"ETag": f'"{etag}"'})


def without_chunks(body: bytes) -> bytes:
    """The content of a body of aws-chunked."""
    content = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            break
        content += body[:length]
        body = body[length + 2 :]
    return bytes(content)


def name_in(request: Request) -> Name:
    """The channel or pipe that a call is about."""
    path = request.path_params
    parts = (path.get(part, "") for part in ("database", "schema", "pipe", "channel"))
    return Name(*map(unquote, parts))


async def allowed(request: Request) -> Name:
    """What a call is about, if the caller may use it and there is a table behind it."""
    name = name_in(request)
    TOKENS.check(request.headers.get("authorization", ""), name.of_pipe)
    await run_in_threadpool(find_table, name.of_pipe)
    return name


async def asked_for(request: Request) -> dict[str, Any]:
    """The JSON of a request, which may have none."""
    return json.loads(await request.body() or b"{}")  # type: ignore[no-any-return]


# --- bad days ---


def faulty(handler: Handler) -> Handler:
    """Answer what is refused, and do the faults that are asked for."""

    async def handle(request: Request) -> Response:
        taken = FAULTS.taking(f"{request.method} {request.url.path}")
        if "cut" in taken:
            return await cut(request)
        if "error" in taken:
            return error_of(taken["error"])
        request.state.delay = taken["delay"].options["seconds"] if "delay" in taken else 0.0
        if "late" in taken:
            return await arrive_late(handler, request, taken["late"])
        if "fence" in taken:
            await run_in_threadpool(CHANNELS.open, name_in(request), token=None, fail_on_uncommitted=False)
        answer = await answered(handler, request)
        if "repeat" in taken:
            await answered(handler, request)
        return await cut(request) if "lose_answer" in taken else answer

    return handle


async def answered(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except RefusedError as error:
        return JSONResponse({"code": error.code, "message": str(error)}, status_code=error.status)


def error_of(fault: Fault) -> Response:
    options = fault.options
    about = {"code": options.get("code", "INTERNAL_ERROR"), "message": options.get("message", "injected")}
    return JSONResponse(about, status_code=options.get("status", 500), headers=options.get("headers"))


async def arrive_late(handler: Handler, request: Request, fault: Fault) -> Response:
    """Cut the connection, and do what is asked later."""
    await request.body()

    async def arrive() -> None:
        await asyncio.sleep(fault.options["seconds"])
        await answered(handler, request)

    fault.under_way.add(task := asyncio.create_task(arrive()))
    task.add_done_callback(fault.under_way.discard)
    return await cut(request)


async def cut(request: Request) -> Response:
    """Close the connection."""
    transport = request.receive.__self__.transport  # type: ignore[attr-defined]
    transport.abort()
    while not request.receive.__self__.disconnected:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    return Response()


# --- what tests ask for ---


async def add_fault(request: Request) -> Response:
    try:
        return JSONResponse(FAULTS.add(await request.json()))
    except (TypeError, ValueError) as error:
        return JSONResponse({"error": repr(error)}, status_code=400)


async def show_faults(request: Request) -> Response:
    return JSONResponse(FAULTS.shown())


async def remove_faults(request: Request) -> Response:
    FAULTS.remove(request.path_params.get("id"))
    return JSONResponse({})


async def control(request: Request) -> Response:
    """Do what the path says to a channel, a role, the clock, or a pipe."""
    asked = await request.json()
    do = request.path_params["do"]
    if do in {"forget", "hold", "release"}:
        name = Name(*asked["channel"])
        act = CHANNELS.drop if do == "forget" else CHANNELS.hold
        await run_in_threadpool(act, name, **({} if do == "forget" else {"held": do == "hold"}))
    elif do in {"revoke", "grant"}:
        (TOKENS.revoked.add if do == "revoke" else TOKENS.revoked.discard)(asked["role"])
    elif do == "clock":
        TOKENS.clocks[asked["user"]] = asked["seconds"]
    elif do == "hexadecimal":
        (HEXADECIMAL.add if asked["on"] else HEXADECIMAL.discard)(Name(*asked["pipe"]))
    elif do == "most":
        CHANNELS.most[Name(*asked["pipe"])] = asked["channels"]
    else:
        return JSONResponse({"error": f"no such thing: {do}"}, status_code=404)
    return JSONResponse({})


async def show_channels(request: Request) -> Response:
    names = await run_in_threadpool(CHANNELS.names)
    return JSONResponse([[each.database, each.schema, each.pipe, each.channel] for each in names])


def channels_into(table: tuple[str, str, str]) -> list[tuple[str, str, str]]:
    """Creation time, name and token of the channels of a table's default pipe, as SHOW CHANNELS has them."""
    database, schema, name = table
    return [
        (
            f"{datetime.fromtimestamp(each.created, UTC):%Y-%m-%d %H:%M:%S}",
            each.name.channel,
            each.committed or "",
        )
        for each in CHANNELS.of_pipe(Name(database, schema, f"{name}{DEFAULT_PIPE}"))
    ]


PIPE = "/databases/{database}/schemas/{schema}/pipes/{pipe}"
CHANNEL = PIPE + "/channels/{channel}"
ROUTES = [
    Route("/v2/streaming/hostname", faulty(hostname), methods=["GET"]),
    Route("/oauth/token", faulty(token), methods=["POST"]),
    Route("/v2/streaming" + PIPE + ":pipe-info", faulty(pipe_info), methods=["POST"]),
    Route("/v2/streaming" + PIPE + ":bulk-channel-status", faulty(statuses), methods=["POST"]),
    Route("/v2/streaming" + CHANNEL, faulty(open_channel), methods=["PUT"]),
    Route("/v2/streaming" + CHANNEL, faulty(drop_channel), methods=["DELETE"]),
    Route("/v2/streaming/data" + CHANNEL + "/rows", faulty(append_rows), methods=["POST"]),
    Route("/v2/streaming/data" + CHANNEL + "/filebuffer", faulty(append_files), methods=["POST"]),
    Route(f"/{BUCKET}/{{path:path}}", faulty(upload), methods=["PUT"]),
]
CONTROL_ROUTES = [
    Route("/streaming/faults", add_fault, methods=["POST"]),
    Route("/streaming/faults", show_faults, methods=["GET"]),
    Route("/streaming/faults", remove_faults, methods=["DELETE"]),
    Route("/streaming/faults/{id:int}", remove_faults, methods=["DELETE"]),
    Route("/streaming/channels", show_channels, methods=["GET"]),
    Route("/streaming/{do}", control, methods=["POST"]),
]


def as_sent(app: ASGIApp) -> ASGIApp:
    """Let an app see paths as they were sent: names in them may have slashes, which come quoted."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode()}
        await app(scope, receive, send)

    return call


def serve(authority: Path, host: str, *, port: int, name: str) -> int:
    """Serve on a thread until the process ends; return the port.

    :param authority: file for the certificate of the authority that clients are to trust
    :param port: 0: any that is free
    :param name: what clients call the server
    """
    app = as_sent(Starlette(routes=ROUTES))
    config = uvicorn.Config(app, timeout_graceful_shutdown=1)
    config.load()
    config.ssl = serve_tls(authority, name=name)
    server = socket.create_server((host, port))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    running = uvicorn.Server(config)
    threading.Thread(target=running.run, kwargs={"sockets": [server]}, name="streaming", daemon=True).start()
    listening: int = server.getsockname()[1]
    return listening
