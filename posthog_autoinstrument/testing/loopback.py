"""An HTTP/1.1 server on loopback, and the requests and answers of the fake services that are made of it.

The HTTP loop is our own because `http.server` parses each request's headers with the email package, which costs more
than everything else here.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Request:
    """One HTTP request as it was received."""

    method: str
    path: str
    """As sent, with the query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body parsed; raises ValueError where it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, and what goes wrong with it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str | dict[str, Any] | list[Any] = b""
    """A dict or list is sent as JSON. Not used where there are `chunks`."""
    chunks: Sequence[str | bytes | threading.Event] | None = None
    """The body in pieces, each written by itself in chunked transfer encoding. An Event is not written: the server
    waits there until the test sets it."""
    chunk_delay_s: float = 0.0
    """Waited between two pieces."""
    delay_s: float = 0.0
    """Waited before the first byte of the answer."""
    hold: threading.Event | None = None
    """Waited for before the first byte of the answer."""
    cut: bool = False
    """The connection is closed before the answer is complete: after the last of `chunks` but without the end mark, or
    in the middle of `body`."""
    reset: bool = False
    """The connection is reset instead of an answer."""


def sse(*payloads: Mapping[str, Any], done: bool = True) -> Answer:
    """A stream of server-sent events, one piece each; those with a `type` get an `event:` line, as OpenAI sends them.

    `done` adds the `data: [DONE]` with which chat and text completion streams end (the Responses API has none).
    """
    pieces = [_sse_text(payload) for payload in payloads]
    return Answer(chunks=[*pieces, "data: [DONE]\n\n"] if done else pieces)


def _sse_text(payload: Mapping[str, Any]) -> str:
    name = f"event: {payload['type']}\n" if "type" in payload else ""
    return f"{name}data: {json.dumps(payload, separators=(',', ':'))}\n\n"


class LoopbackServer:
    """An HTTP/1.1 server with keep-alive on 127.0.0.1; one daemon thread for each connection.

    `answer` is called on those threads, for several requests at a time.
    """

    def __init__(self, answer: Callable[[Request], Answer], port: int = 0) -> None:
        self.requests: list[Request] = []
        """Everything received, in order of arrival."""
        self._answer = answer
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: dict[socket.socket, threading.Thread] = {}
        self._threads_lock = threading.Lock()
        self._acceptor = threading.Thread(target=self._accept, name="loopback-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop answering, drop all connections, and wait until their threads ended. May be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        # Closing a listener does not wake the thread that accepts from it; a connection does.
        socket.create_connection(self._listener.getsockname(), timeout=_CLOSE_TIMEOUT_S).close()
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        self._acceptor.join(_CLOSE_TIMEOUT_S)
        with self._threads_lock:
            threads = dict(self._threads)
        for connection in threads:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # its client or its thread was faster
                pass
        for thread in threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        with self._listener:
            while True:
                connection, _ = self._listener.accept()
                if self._closing.is_set():
                    connection.close()
                    return
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._serve, args=(connection,), name="loopback-serve", daemon=True)
                with self._threads_lock:
                    self._threads[connection] = thread
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as reader:
                while (request := _read_request(reader)) is not None:
                    self.requests.append(request)
                    keep = self._write(connection, self._answer(request))
                    if not keep or request.headers.get("connection", "").lower() == "close":
                        break
        except OSError:  # the client is gone
            pass
        finally:
            with self._threads_lock:
                del self._threads[connection]

    def _write(self, connection: socket.socket, answer: Answer) -> bool:
        """Send the answer; False when the connection must not be used again."""
        if answer.delay_s:
            self._closing.wait(answer.delay_s)
        if answer.hold is not None:
            self._wait_for(answer.hold)
        if self._closing.is_set():
            return False
        if answer.reset:
            # Lingering for 0 seconds makes close() send RST, which clients see as "connection reset by peer".
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if answer.chunks is not None:
            return self._write_chunks(connection, answer, answer.chunks)
        body = answer.body
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body, separators=(",", ":")).encode()
        head = _head(answer, {"content-type": "application/json", "content-length": str(len(body))})
        connection.sendall(head + (body[: len(body) // 2] if answer.cut else body))
        return not answer.cut

    def _write_chunks(
        self, connection: socket.socket, answer: Answer, chunks: Sequence[str | bytes | threading.Event]
    ) -> bool:
        connection.sendall(
            _head(answer, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"})
        )
        for chunk in chunks:
            if isinstance(chunk, threading.Event):
                self._wait_for(chunk)
            else:
                piece = chunk.encode() if isinstance(chunk, str) else chunk
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            if answer.chunk_delay_s:
                self._closing.wait(answer.chunk_delay_s)
            if self._closing.is_set():
                return False
        if not answer.cut:
            connection.sendall(b"0\r\n\r\n")
        return not answer.cut

    def _wait_for(self, event: threading.Event) -> None:
        while not event.wait(0.05) and not self._closing.is_set():
            pass


def _head(answer: Answer, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in {**headers, **answer.headers}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _read_request(reader: BinaryIO) -> Request | None:
    """The next request on this connection, None when the client closed it."""
    start = reader.readline().split()
    if len(start) != 3:
        return None
    headers: dict[str, str] = {}
    while (line := reader.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while size := int(reader.readline().partition(b";")[0] or b"0", 16):
            pieces.append(reader.read(size))
            reader.readline()
        reader.readline()
        body = b"".join(pieces)
    else:
        size = int(headers.get("content-length", "0"))
        body = reader.read(size)
        if len(body) < size:
            return None
    return Request(start[0].decode("latin-1"), start[1].decode("latin-1"), headers, body)
