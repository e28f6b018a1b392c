"""One WebSocket connection: which message belongs to which response, and the messages before it.

Messages are kept by reference and looked at with one search for their type; they are parsed on the flusher's thread.
Pieces of audio and images are not kept: the first of a response leaves its type and its time.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import ReferenceType, ref

from ..capture.calls import CallRecorder, OpenCall
from ..capture.response import TEXT_LIMIT, Content
from ..context import fields, scope
from ..context.identity import Intent
from ..core import guard
from ..providers.parsing import as_dict, as_text, parse
from ..providers.provider import WebSocket

HISTORY_LIMIT = 4 * 1024 * 1024
"""Bytes kept of a conversation, the newest: every response in it is recorded with the messages before it."""

_KIND = re.compile(rb'"type"\s*:\s*"((?:response|session|conversation)\.[a-z_.]+|error)"')
"""An event's type. The types of objects inside events have no dots, and quotes inside of texts are escaped."""
_LANE = re.compile(rb'"stream_id"\s*:\s*"([^"]*)"')
_RESPONSE_ID = re.compile(rb'"response"\s*:\s*\{[^{}\[\]]*?"id"\s*:\s*"([^"]+)"')
_AUDIO = re.compile(rb'("audio"\s*:\s*")[^"]*')

_LAST = frozenset(
    (b"response.done", b"response.completed", b"response.failed", b"response.incomplete", b"response.cancelled")
)
"""The events that end a response: the first is Realtime's, the others are those of Responses."""
_BULK = frozenset(
    (
        b"response.audio.delta",
        b"response.output_audio.delta",
        b"response.image_generation_call.partial_image",
    )
)
"""Events that are base64 data but for a few words."""
_HISTORY = frozenset(
    (
        b"conversation.item.created",
        b"conversation.item.added",
        b"conversation.item.done",
        b"conversation.item.deleted",
        b"conversation.item.input_audio_transcription.completed",
    )
)
_TRANSCRIBED = b"conversation.item.input_audio_transcription.completed"


class Messages:
    """The events of one response, as they came. `size` is what its call holds, with the messages before it."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._times: list[float] = []

    def keep(self, message: bytes) -> None:
        """Take an event of the answer."""
        self.size += len(message)
        if self.size < TEXT_LIMIT:
            self._times.append(perf_counter())
            self._pieces.append(message)
        elif self._pieces:
            self.size -= len(self._pieces[-1])
            self._pieces[-1] = message  # the last one has the end and the usage

    def clear(self) -> None:
        """Forget the events."""
        self._pieces.clear()
        self._times.clear()

    def release(self) -> int:
        """What the call holds."""
        return self.size

    def content(self) -> Content:
        """The events as texts."""
        return Content(texts=[piece.decode("utf-8", "replace") for piece in self._pieces], times=self._times)


class WebSocketCall(OpenCall):
    """One response of a connection, from the `response.create` that asks for it, or from its first event."""

    lane: bytes | None = None
    """The `stream_id` of Responses: requests of one lane are answered in turn, lanes at the same time."""
    response_id: bytes = b""
    asked: bytes | None = None
    """The `response.create`; None where the server began by itself (voice detection)."""

    def __init__(self, calls: CallRecorder, socket: WebSocket) -> None:
        super().__init__(calls, socket.endpoint, Intent(None))
        self.stream = self.unread = True
        self.response: Messages = Messages()
        self.in_turn = socket.in_turn
        self.history: list[bytes] = []
        self.with_bulk = False

    def remember(self, history: list[bytes]) -> None:
        """Take the messages before it."""
        self.response.size += sum(map(len, history)) - sum(map(len, self.history))
        self.history = history

    def assemble(self) -> None:
        """The messages become one request and the texts of a stream."""
        if self.in_turn:
            self.sent = self.asked
        else:
            self.sent = b"[" + b",".join([*self.history, *([self.asked] if self.asked else [])]) + b"]"
            self.model = self.model or next(iter(parse_qs(urlsplit(self.url or "").query).get("model", ())), None)


class WebSocketSession:
    """What is known of one connection object of the SDK, which may go through several sockets."""

    url = ""
    laned = False
    session: bytes | None = None
    history_size = 0
    private = False
    """A message of the history was sent in privacy mode: the responses that show it are private, too."""

    def __init__(self, calls: CallRecorder, socket: WebSocket, client: Any) -> None:
        self.calls = calls
        self.socket = socket
        self.client = type(client).__name__ if client is not None else ""
        self.base_url = guard.quietly(getattr, client, "base_url", None)
        self.transport: ReferenceType[Any] | None = None
        self.pending: deque[WebSocketCall] = deque()
        """Asked for, not begun. The server answers them in their order."""
        self.live: list[WebSocketCall] = []
        self.history: deque[bytes] = deque()

    def __del__(self) -> None:
        """The program dropped the connection: nobody can read the rest."""
        self.end("abandoned")

    def end(self, end: Any) -> None:
        """End every response that has not ended."""
        for call in (*self.live, *self.pending):
            call.finish(end)
        self.live.clear()
        self.pending.clear()

    def fail(self, error: BaseException | None) -> None:
        """End every response that has not ended by an exception."""
        for call in (*self.live, *self.pending):
            call.fail(error)
        self.live.clear()
        self.pending.clear()

    @guard.guarded("follow a connection", None)
    def follow(self, connection: Any) -> None:
        """Tap the socket that the connection has now: a new one after a reconnection."""
        transport = connection._connection
        if self.transport is not None and self.transport() is transport:
            return
        if not any(base.__module__.partition(".")[0] == "websockets" for base in type(transport).__mro__):
            return  # a stand-in of the program's tests
        self.end("closed")
        self.transport = ref(transport)
        self.session = None
        self.history.clear()
        self.history_size = 0
        self.private = False
        protocol = transport.protocol
        uri = protocol.uri
        host = f"[{uri.host}]" if ":" in uri.host else uri.host
        port = "" if uri.port == (443 if uri.secure else 80) else f":{uri.port}"
        self.url = f"{'wss' if uri.secure else 'ws'}://{host}{port}{uri.resource_name}"
        for name in ("send_text", "send_binary"):
            setattr(protocol, name, _tap_frames(getattr(type(protocol), name), ref(protocol), ref(self)))

    @guard.guarded("read a message to the server", None)
    def sent(self, message: bytes) -> None:
        """A message of the program, about to leave."""
        message = bytes(message)  # itself, but for a view
        match = _KIND.search(message)
        kind = match[1] if match is not None else b""
        if kind == b"response.create":
            call = self._open()
            call.asked = message if self.socket.in_turn else _without_audio(message)
            call.response.size = len(call.asked)
            if self.socket.in_turn:
                call.lane = _lane(message)
                self.laned = self.laned or call.lane is not None
            else:
                self._recall(call, self._messages_before())
            self.pending.append(call)
        elif kind == b"conversation.item.create" and not self.socket.in_turn:
            self._add_to_history(_without_audio(message))

    @guard.guarded("read a message of the server", None)
    def received(self, message: bytes | str) -> None:
        """A message that the program is about to get."""
        if isinstance(message, str):  # websockets 13
            message = message.encode()
        match = _KIND.search(message)
        if match is None:
            return
        kind = match[1]
        if kind.startswith(b"response."):
            self._answered(kind, message)
        elif kind == b"error":
            self._refused(message)
        elif kind in (b"session.created", b"session.updated"):
            self.session = message
        elif kind in _HISTORY:
            self._add_to_history(message)
            if kind == _TRANSCRIBED:  # often comes after the answer has begun
                for call in self.live:
                    self._recall(call, [*call.history, message])

    def _answered(self, kind: bytes, message: bytes) -> None:
        call = self._begun(message) if kind == b"response.created" else self._of(message)
        if call is None:
            return
        if kind not in _BULK:
            call.response.keep(message)
        elif not call.with_bulk:
            call.with_bulk = True
            call.response.keep(b'{"type":"%b"}' % kind)  # its time is when the output began
        if kind == b"response.output_item.done" and not self.socket.in_turn:
            self._add_to_history(message)
        if kind in _LAST:
            self.live.remove(call)
            call.finish("complete")

    def _begun(self, message: bytes) -> WebSocketCall | None:
        response_id = b"" if self.socket.in_turn else _response_id(message)
        if response_id is None:
            return None  # its other events could not be distinguished from those of other responses
        lane = _lane(message) if self.laned else None
        call = next((call for call in self.pending if call.lane == lane), None)
        if call is None and lane is None and self.pending:
            call = self.pending[0]  # what looked like a lane was something else: the server decides what is one
        if call is None:
            call = self._open()
        else:
            self.pending.remove(call)
            call.response.clear()  # errors that were about something else
        call.lane = lane
        if not self.socket.in_turn:
            call.response_id = response_id
            self._recall(call, self._messages_before())
        self.live.append(call)
        return call

    def _of(self, message: bytes) -> WebSocketCall | None:
        """The call that an event of a response belongs to."""
        if not self.socket.in_turn:
            return next((call for call in self.live if call.response_id in message), None)
        lane = _lane(message) if self.laned else None
        return next((call for call in self.live if call.lane == lane), None)

    def _refused(self, message: bytes) -> None:
        """An error. In Responses it ends what is at work in its lane; in Realtime it may be about anything sent."""
        if self.socket.in_turn:
            lane = _lane(message) if self.laned else None
            found = [call for call in (*self.live, *self.pending) if call.lane == lane]
            about_it = True
        else:
            error = as_dict(as_dict(parse(message)).get("error"))
            cause, param = error.get("event_id"), error.get("param")
            named = [call for call in self.pending if cause and f'"{cause}"'.encode() in (call.asked or b"")]
            found = named if cause else [*self.pending]
            about_it = bool(
                named
                or error.get("code") == "conversation_already_has_active_response"
                or (isinstance(param, str) and param.startswith("response"))
            )
        if not found:
            return
        call = found[0]
        call.response.keep(message)
        if about_it:
            (self.live if call in self.live else self.pending).remove(call)
            call.finish("complete")

    def _recall(self, call: WebSocketCall, history: list[bytes]) -> None:
        call.remember(history)
        if self.private:
            call.intent.call_fields = fields.PRIVATE

    def _look(self) -> None:
        inside = scope.current()
        if inside is not None and inside.fields.privacy_mode:
            self.private = True

    def _open(self) -> WebSocketCall:
        self._look()
        call = WebSocketCall(self.calls, self.socket)
        call.client = self.client
        call.base_url = self.base_url
        call.url = self.url
        self.calls.streams.add(call)
        self.calls.expect()
        return call

    def _messages_before(self) -> list[bytes]:
        """The state of the session and the history, as a call that starts now has them before it."""
        return [*([self.session] if self.session is not None else []), *self.history]

    def _add_to_history(self, message: bytes) -> None:
        self._look()
        self.history.append(message)
        self.history_size += len(message)
        while self.history_size > HISTORY_LIMIT:
            self.history_size -= len(self.history.popleft())


def _lane(message: bytes) -> bytes | None:
    found = _LANE.search(message) if b'"stream_id"' in message else None
    return found[1] if found is not None else None


def _response_id(message: bytes) -> bytes | None:
    found = _RESPONSE_ID.search(message)
    if found is not None:
        return found[1]
    name = as_text(as_dict(as_dict(parse(message)).get("response")).get("id"))  # something else stands before it
    return name.encode() if name else None


def _without_audio(message: bytes) -> bytes:
    """The message without its audio data."""
    return _AUDIO.sub(rb"\1", message) if b"input_audio" in message else message


def _tap_frames(
    wrapped: Callable[..., Any], protocol: ReferenceType[Any], session: ReferenceType[WebSocketSession]
) -> Callable[..., Any]:
    # Both weak: the program's objects are freed as without us, and an abandoned connection ends its calls.
    @functools.wraps(wrapped)
    def send(data: Any, *args: Any, **kwargs: Any) -> Any:
        watching = session()
        if watching is not None:
            watching.sent(data)
        return wrapped(protocol(), data, *args, **kwargs)

    return send
