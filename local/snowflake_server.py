"""Serves fakesnow, the local stand-in for Snowflake, over HTTP. Runs in fakesnow's own environment.

Usage: ``python snowflake_server.py [PORT] [HOST]``. Without a port it takes a free one, and says which.
"""

from __future__ import annotations

import socket
import sys

import fakesnow.server
import uvicorn


def main(port: str = "0", host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM."""
    config = uvicorn.Config(fakesnow.server.app, timeout_graceful_shutdown=1)
    with socket.create_server((host, int(port))) as server:
        print(f"listening on {host}:{server.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    main(*sys.argv[1:])
