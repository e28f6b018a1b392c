"""A fake PostHog: records what is captured and refuses what PostHog's capture service refuses.

The rules are those of capture's v0 endpoints (PostHog/posthog rust/capture, read 2026-11): one bad event fails its
whole request. Where a rule depends on the deployment, the production value is the default.
"""

from __future__ import annotations

import gzip
import json
import threading
import uuid
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn

from . import Answer, LoopbackServer, Request

AI_PREFIX = "$ai"
AI_EVENT_KINDS = frozenset(
    (
        "embedding",
        "evaluation",
        "evaluation_report",
        "feedback",
        "generation",
        "generation_summary",
        "metric",
        "span",
        "tag",
        "trace",
        "trace_summary",
    )
)
"""What may follow the prefix and an underscore in the name of an event on the AI path."""

_AI_PATHS = ("/i/v0/ai/batch",)
_ANALYTICS_PATHS = ("/batch", "/i/v0/e")


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


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class PostHogServer:
    """PostHog's capture endpoints on loopback; a context manager.

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

    def _answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0].rstrip("/")
        if request.method == "GET" and not path:
            return Answer(body="ok", headers={"content-type": "text/plain"})
        if path not in _AI_PATHS + _ANALYTICS_PATHS:
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
            if path in _AI_PATHS and not self.ai_path:
                raise _Refused(404, "")
            if len(body) > self.max_body_bytes:
                raise _Refused(413, f"request body is {len(body)} bytes, over the {self.max_body_bytes}-byte limit")
            body = _decompress(body)
            events = self._read_events(path, body)
            answer = Answer(body={"status": "Ok"})
        except _Refused as refused:
            answer = Answer(refused.status, body=str(refused), headers={"content-type": "text/plain"})
        if fault is not None:
            events = events if fault.recorded else []
            hold = self._never if fault.hang else None
            answer = Answer(fault.status, fault.headers, delay_s=fault.delay_s, reset=fault.reset, hold=hold)
        status = None if answer.reset or answer.hold else answer.status
        with self._changed:
            self.requests.append(CaptureRequest(request.path, request.headers, body, len(request.body), status))
            self.events.extend(events)
            self._changed.notify_all()
        return answer

    def _read_events(self, path: str, body: bytes) -> list[dict[str, Any]]:
        """The events of a request body that capture would take. Raises _Refused with capture's status otherwise."""
        try:
            parsed = json.loads(body, parse_constant=_refuse_constant)
        except ValueError as error:  # UnicodeDecodeError is one too
            raise _Refused(400, f"failed to parse request: {error}") from None
        if not isinstance(parsed, dict):
            raise _Refused(400, "failed to parse request: not an object")
        batch = parsed.get("batch", [parsed] if path == "/i/v0/e" else None)
        if not isinstance(batch, list) or not all(isinstance(event, dict) for event in batch):
            raise _Refused(400, "failed to parse request: batch is not a list of events")
        if not batch:
            raise _Refused(400, "submitted an empty batch")
        _check_token([parsed, *batch])
        for event in batch:
            self._check_event(path, event)
        return batch

    def _check_event(self, path: str, event: dict[str, Any]) -> None:
        name = event.get("event")
        if not isinstance(name, str) or not name:
            raise _Refused(400, "event submitted with an empty or missing event name")
        properties = event.get("properties", {})
        if not isinstance(properties, dict):
            raise _Refused(400, "failed to parse request: properties is not an object")
        if not (event.get("distinct_id") or properties.get("distinct_id") or event.get("$distinct_id")):
            raise _Refused(400, "event submitted without a distinct_id")
        if event.get("uuid"):
            try:
                uuid.UUID(event["uuid"])
            except (ValueError, AttributeError, TypeError):
                raise _Refused(400, "failed to parse request: malformed uuid") from None
        prefix, _, kind = name.partition("_")
        is_ai = prefix == AI_PREFIX and kind in AI_EVENT_KINDS
        if path in _AI_PATHS and not is_ai:
            raise _Refused(400, f"event {name} is not an AI event")
        try:
            size = len(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
        except UnicodeEncodeError:
            raise _Refused(400, "failed to parse request: lone surrogate") from None
        limit = self.max_event_bytes if path in _AI_PATHS else self.max_analytics_event_bytes
        if size > limit:
            kind = "AI event" if is_ai else "event"
            raise _Refused(
                413, f"maximum {kind} size exceeded: {kind} {name} is {size} bytes, over the {limit}-byte limit"
            )


def _check_token(sources: list[dict[str, Any]]) -> None:
    tokens = []
    for source in sources:
        properties = source.get("properties")
        tokens += [source.get("api_key"), source.get("token")]
        tokens.append(properties.get("token") if isinstance(properties, dict) else None)
    given = {token for token in tokens if isinstance(token, str) and token}
    if not given:
        raise _Refused(401, "API key is not provided")
    if len(given) > 1:
        raise _Refused(401, "events submitted with several different tokens")
    if not given.pop().startswith("phc_"):
        raise _Refused(401, "API key is not valid: personal_api_key")


def _decompress(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):  # capture looks at the bytes, not at Content-Encoding
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise _Refused(400, f"failed to decode request: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
