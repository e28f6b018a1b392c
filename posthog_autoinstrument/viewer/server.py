"""The server of the page: a port on loopback, a URL with a secret, stopped by Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import TextIO

import uvicorn

from .app import Pages
from .ingest import Ingest, IngestGate

DEFAULT_PORT = 8742
_TRIED = 20
"""Ports from the default on that are tried if none was asked for; then any free one."""
HOST = "127.0.0.1"


class PortError(Exception):
    """The port cannot be used; the message is one line."""


def listen(port: int | None) -> socket.socket:
    """A listening socket on loopback: on the port that was asked for, or else on the first free one of ours.

    Raises PortError.
    """
    wanted = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + _TRIED), 0]
    for number in wanted:
        # Named as TCP, or asyncio does not switch Nagle's algorithm off: each answer would wait 40 ms for an ACK.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":  # there it would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if number == wanted[-1]:
                raise PortError(_explain(number, error)) from None
        else:
            return listener
    raise AssertionError("the last port is bound or refused")


def _explain(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program: choose another one with --port, or omit --port"
    return f"port {port} cannot be used: {error.strerror or error}"


def serve(
    make_pages: Callable[[int, str], Pages],
    listener: socket.socket,
    open_browser: bool,
    stdout: TextIO,
    ingest: Ingest | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM. `make_pages` is given the port and the token of its address."""
    token = secrets.token_urlsafe(24)
    port = listener.getsockname()[1]
    pages = make_pages(port, token)
    address = f"http://{HOST}:{port}/?token={token}"
    config = uvicorn.Config(
        pages.app if ingest is None else IngestGate(pages.app, ingest, port),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    stdout.write(f"The page is at {address}\nOnly this machine can open it. Press Ctrl-C to stop.\n")
    if ingest is not None:
        stdout.write(
            f"Events are received at http://{HOST}:{port}: use that as the host of a PostHog SDK, "
            "with any project token that begins with phc_.\n"
        )
    stdout.flush()
    if open_browser:
        # On a thread: some browsers block the caller until they are closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    except KeyboardInterrupt:  # uvicorn raises the signal again that ended it
        if stdout.isatty():
            stdout.write("\n")  # after the ^C
    if ingest is not None:
        stdout.write(f"AI events received: {ingest.kept}; other events, not stored: {ingest.others}.\n")
