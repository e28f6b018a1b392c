"""A fake PostHog: records what is captured and refuses what PostHog's capture service refuses.

The rules are those of `capture_protocol`.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from . import capture_protocol
from .loopback import Answer, LoopbackServer, Request


@dataclass(frozen=True)
class Fault:
    """What happens to one capture request instead of its regular answer."""

    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    """Waited before the answer."""
    reset: bool = False
    """The connection is reset, there is no answer."""
    hang: bool = False
    """Nothing is answered until the server is closed."""
    body: dict[str, Any] | str = ""
    """Of the answer, as `{"status": "Ok", "quota_limited": ["llm_events"]}`."""
    recorded: bool = False
    """The events are taken all the same: the client cannot know."""


@dataclass(frozen=True)
class CaptureRequest:
    """One request to a capture endpoint, refused ones too."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    """Decompressed; as received where that failed."""
    raw_size: int
    """Bytes on the wire."""
    status: int | None
    """What it was answered; None for a connection that was reset or left hanging."""

    def json(self) -> Any:
        """The body parsed; raises ValueError where it is not JSON."""
        return json.loads(self.body)


class PostHogServer:
    """PostHog's capture endpoints on loopback, and two that know tokens; a context manager.

    `ai_path = False` makes it answer 404 on the AI path, like a self-hosted capture. The limits may be changed at
    any time: `max_event_bytes` of an event on the AI path, `max_analytics_event_bytes` of one on the others,
    `max_body_bytes` of a request on the wire.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        max_event_bytes: int = 8 * 1024 * 1024,
        max_analytics_event_bytes: int = 960 * 1024,
        max_body_bytes: int = 20 * 1024 * 1024,
    ) -> None:
        self.max_event_bytes = max_event_bytes
        self.max_analytics_event_bytes = max_analytics_event_bytes
        self.max_body_bytes = max_body_bytes
        self.ai_path = True
        self.tokens: set[str] | None = None
        """The tokens that projects have, for those who ask: `/flags/` and `/array/{token}/config.js`. None: all that
        begin by `phc_`. Capture takes any, as PostHog's does."""
        self.events: list[dict[str, Any]] = []
        """The events of all requests that were taken, in order of arrival."""
        self.requests: list[CaptureRequest] = []
        self._changed = threading.Condition()
        self._faults: deque[Fault] = deque()
        self._never = threading.Event()
        self._server = LoopbackServer(self._answer, port)
        self.url = self._server.url

    def __enter__(self) -> PostHogServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering. What was recorded stays."""
        self._server.close()

    def fail_next(self, *faults: Fault) -> None:
        """Let these happen to the next capture requests, one each, in this order."""
        self._faults.extend(faults)

    def wait_for(self, n_events: int, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """All events, as soon as there are at least `n_events`; AssertionError with what came when they do not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.events) >= n_events, timeout_s):
                names = [event["event"] for event in self.events]
                answers = [(request.path, request.status) for request in self.requests]
                raise AssertionError(
                    f"waited {timeout_s} s for {n_events} events; {len(names)} came: {names}; requests: {answers}"
                )
            return list(self.events)

    def _is_known(self, token: str) -> bool:
        return token.startswith("phc_") if self.tokens is None else token in self.tokens

    def _answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0].rstrip("/")
        if request.method == "GET" and not path:
            return Answer(body="ok", headers={"content-type": "text/plain"})
        if path in capture_protocol.FLAGS_PATHS:
            code, flags = capture_protocol.flags_answer(request.body, self._is_known)
            return Answer(code, body=flags) if request.method == "POST" else Answer(405)
        config = capture_protocol.CONFIG_PATH.fullmatch(path)
        if config is not None:
            return Answer(200, body="{}") if self._is_known(config[1]) else Answer(404)
        if path not in capture_protocol.AI_PATHS + capture_protocol.ANALYTICS_PATHS:
            return Answer(404)
        if request.method != "POST":
            return Answer(405)
        try:
            fault: Fault | None = self._faults.popleft()
        except IndexError:
            fault = None
        body = request.body
        events: list[dict[str, Any]] = []
        try:
            if path in capture_protocol.AI_PATHS and not self.ai_path:
                raise capture_protocol.Refused(404, "")
            limits = capture_protocol.Limits(self.max_event_bytes, self.max_analytics_event_bytes, self.max_body_bytes)
            capture_protocol.check_size(len(body), limits)
            body = capture_protocol.decompressed(
                body, capture_protocol.INFLATES * max(len(body), capture_protocol.Limits.max_body_bytes)
            )
            events = capture_protocol.events_of(path, body, limits)
            answer = Answer(body={"status": "Ok"})
        except capture_protocol.Refused as refused:
            answer = Answer(refused.status, body=str(refused), headers={"content-type": "text/plain"})
        if fault is not None:
            events = events if fault.recorded else []
            hold = self._never if fault.hang else None
            answer = Answer(
                fault.status, fault.headers, fault.body, delay_s=fault.delay_s, reset=fault.reset, hold=hold
            )
        status = None if answer.reset or answer.hold else answer.status
        with self._changed:
            self.requests.append(CaptureRequest(request.path, request.headers, body, len(request.body), status))
            self.events.extend(events)
            self._changed.notify_all()
        return answer
