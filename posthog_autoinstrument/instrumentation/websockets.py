"""Taps on the SDK's WebSocket connections: each response inside a connection is a call of its own.

What the program receives passes the SDK's `recv_bytes`, in every version (openai 1.60 to 3.54: `recv`, iteration,
`dispatch_events`, sessions). What it sends has no such method: queued messages and the lanes of openai 3 write to the
transport directly. So that is tapped by `WebSocketSession.follow`, where the transport frames a message: `send_text`
and `send_binary` of the connection's own protocol object (websockets 13 to 17). Its public methods stay as they are:
they warn about the frame that calls them.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from ..capture.calls import CallRecorder
from ..capture.exceptions import CANCELLATIONS
from ..core import guard
from ..providers.provider import WebSocket
from . import transport
from .websocket_session import WebSocketSession

Known = WeakKeyDictionary[Any, WebSocketSession]


def patch_websocket(cls: type, socket: WebSocket, calls: CallRecorder) -> list[str]:
    """Tap a connection class; the names of the methods that carry the tap afterwards."""
    if not callable(getattr(cls, "recv_bytes", None)):
        return []
    sessions: Known = WeakKeyDictionary()
    awaits = inspect.iscoroutinefunction
    taps: dict[str, Callable[..., Any]] = {
        "__init__": functools.partial(_tap_init, socket=socket, calls=calls),
        "recv_bytes": _tap_async_recv if awaits(getattr(cls, "recv_bytes", None)) else _tap_recv,
        "close": _tap_async_close if awaits(getattr(cls, "close", None)) else _tap_close,
        "_flush_send_queue": _tap_flush,
    }
    return [name for name, tap in taps.items() if transport.patch(cls, name, functools.partial(tap, known=sessions))]


def _tap_init(wrapped: Callable[..., Any], socket: WebSocket, calls: CallRecorder, known: Known) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        wrapped(self, *args, **kwargs)
        if calls.active or calls.awaken():
            _connected(self, sys._getframe(1), socket, calls, known)

    return __init__


@guard.guarded("watch a connection", None)
def _connected(connection: Any, frame: FrameType, socket: WebSocket, calls: CallRecorder, known: Known) -> None:
    session = WebSocketSession(calls, socket, guard.quietly(_client_of, frame))
    session.follow(connection)
    known[connection] = session


def _client_of(frame: FrameType) -> Any:
    """The client of the connection manager that makes the connection, in its `__enter__`: it keeps it to itself."""
    manager = frame.f_locals.get("self")
    return next((value for name, value in vars(manager).items() if name.endswith("Manager__client")), None)


def _tap_flush(wrapped: Callable[..., Any], known: Known) -> Callable[..., Any]:
    def _flush_send_queue(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = known.get(self)
        if session is not None:
            session.follow(self)
        return wrapped(self, *args, **kwargs)

    return _flush_send_queue


def _tap_recv(wrapped: Callable[..., Any], known: Known) -> Callable[..., Any]:
    def recv_bytes(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = known.get(self)
        if session is None:
            return wrapped(self, *args, **kwargs)
        came = False
        try:
            message = wrapped(self, *args, **kwargs)
            came = True
        finally:
            if not came:
                _broke_off(session)
        session.received(message)
        return message

    return recv_bytes


def _tap_async_recv(wrapped: Callable[..., Any], known: Known) -> Callable[..., Any]:
    async def recv_bytes(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = known.get(self)
        if session is None:
            return await wrapped(self, *args, **kwargs)
        came = False
        try:
            message = await wrapped(self, *args, **kwargs)
            came = True
        finally:
            if not came:
                _broke_off(session)
        session.received(message)
        return message

    return recv_bytes


@guard.guarded("end a connection", None)
def _broke_off(session: WebSocketSession) -> None:
    """An exception is leaving `recv_bytes`. A wait may be cancelled or interrupted: another goes on where it was."""
    error = sys.exc_info()[1]
    if any(base.__name__ == "ConnectionClosed" for base in type(error).__mro__):
        session.fail(error)


def _tap_close(wrapped: Callable[..., Any], known: Known) -> Callable[..., Any]:
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        _closed(known.get(self))
        return wrapped(self, *args, **kwargs)

    return close


def _tap_async_close(wrapped: Callable[..., Any], known: Known) -> Callable[..., Any]:
    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        _closed(known.get(self))
        return await wrapped(self, *args, **kwargs)

    return close


@guard.guarded("end a connection", None)
def _closed(session: WebSocketSession | None) -> None:
    """The program closes the connection, maybe because an exception leaves its `with` block."""
    if session is None:
        return
    error = sys.exc_info()[1]
    if isinstance(error, GeneratorExit) or type(error).__name__ in CANCELLATIONS:
        session.fail(error)
    else:
        session.end("closed")
