"""An HTTP/1.1 server on loopback that costs next to nothing: bytes in, bytes out, no parsing of bodies.

A server that measures must not be what is measured: this one takes about 50 us of its own process for a request.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

Handle = Callable[[bytes, bytes, list[bytes]], bytes]
"""Request line, headers in lower case, body in pieces (empty where bodies are not kept) -> the whole response."""


class Connection(asyncio.Protocol):
    """One client: requests one after another, each answered when its body has come."""

    def __init__(self, handle: Handle, keeps_bodies: bool) -> None:
        self._handle = handle
        self._keeps_bodies = keeps_bodies
        self._head = b""
        self._line = b""
        self._headers = b""
        self._body: list[bytes] = []
        self._left = -1
        """Bytes of the body that are still to come; -1: the head is, -2: the body comes in chunks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        while data:
            data = self._read(data)

    def _read(self, data: bytes) -> bytes:
        """Take one step; what is left of `data`."""
        if self._left == -1:
            head, found, rest = (self._head + data).partition(b"\r\n\r\n")
            if not found:
                self._head = head
                return b""
            self._head = b""
            self._line, _, headers = head.partition(b"\r\n")
            self._headers = headers.lower()
            self._body = []
            if b"expect: 100-continue" in self._headers:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._left = -2 if b"transfer-encoding: chunked" in self._headers else content_length(self._headers)
            if self._left == 0:
                self._answer()
            return rest
        if self._left == -2:
            self._body.append(data)
            whole = b"".join(self._body)
            if whole.endswith(b"0\r\n\r\n"):
                self._body = [unchunked(whole)]
                self._answer()
            return b""
        taken, rest = data[: self._left], data[self._left :]
        if self._keeps_bodies:
            self._body.append(taken)
        self._left -= len(taken)
        if self._left == 0:
            self._answer()
        return rest

    def _answer(self) -> None:
        self._left = -1
        self._transport.write(self._handle(self._line, self._headers, self._body))


def content_length(headers: bytes) -> int:
    _, found, rest = (b"\r\n" + headers).partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def unchunked(body: bytes) -> bytes:
    pieces = []
    while body:
        size, _, body = body.partition(b"\r\n")
        n_bytes = int(size.partition(b";")[0], 16)
        pieces.append(body[:n_bytes])
        body = body[n_bytes + 2 :]
    return b"".join(pieces)


def response(body: bytes, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    """A whole response of status 200."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n" % (kind, len(body), more)
    return head + body


def serve(handle: Handle, keeps_bodies: bool) -> None:
    """Serve until standard input ends: with the process that started this one. Prints the port."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(handle, keeps_bodies), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)

    asyncio.run(run())
