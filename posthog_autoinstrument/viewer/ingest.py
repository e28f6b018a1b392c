"""PostHog's capture endpoints on this machine, so that programs with PostHog's own SDKs, in any language,
are seen in the local store, too.

It responds as PostHog does (`testing/capture_protocol.py`). AI events are stored; others are accepted and counted: an
SDK sends both, and retries what is refused. An event keeps its uuid, so one that is sent twice is stored once.

Programs have no cookie, so none is needed; web sites must not reach it through a browser: the `Host` must be one of our
names, and an `Origin`, which browsers send with every POST, must be ours.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from email.parser import BytesParser
from email.policy import HTTP
from os import PathLike
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..core.ids import new_ids
from ..core.records import EncodedEvent
from ..export.local import LocalExporter
from ..store import columns
from ..store.retention import DEFAULT_MAX_BYTES
from ..testing import capture_protocol
from ..testing.capture_protocol import Refused

BODY_TIMEOUT_S = 30.0
"""For each piece of a request's body."""
STORE_TIMEOUT_S = 10.0
MAX_PARTS_BYTES = 25 * 1024 * 1024
"""Of all parts of a multipart request."""
MAX_ID_CHARS = 200
V1_HEADERS = ("posthog-sdk-info", "posthog-attempt", "posthog-request-id", "posthog-request-timestamp")
"""Without which v1 takes nothing."""

Properties = dict[str, Any]
Answer = tuple[list[Properties], Callable[[], Response]]
"""The events of a request, and what it is answered once they are kept."""


class Ingest:
    """Stores events in the store at `path`. `kept` and `others` count what was received."""

    def __init__(
        self,
        path: str | PathLike[str],
        max_bytes: int = DEFAULT_MAX_BYTES,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self.kept = 0
        self.others = 0
        self._exporter = LocalExporter(path, columns.summary, max_bytes)
        self._limits = capture_protocol.Limits()
        self._body_timeout_s = body_timeout_s
        self._lock = asyncio.Lock()

    def routes(self) -> list[Route]:
        """The endpoints, each with and without a slash at its end."""
        readers: dict[str, Callable[[Request, bytes], Answer]] = dict.fromkeys(
            (*capture_protocol.AI_PATHS, *capture_protocol.ANALYTICS_PATHS), self._read_v0
        )
        readers[capture_protocol.MULTIPART_PATH] = self._read_multipart
        readers.update(dict.fromkeys(capture_protocol.V1_PATHS, self._read_v1))
        return [
            Route(path + slash, self._endpoint(read), methods=["POST"])
            for path, read in readers.items()
            for slash in ("", "/")
        ] + [
            Route(path + slash, _flags, methods=["POST"])
            for path in capture_protocol.FLAGS_PATHS
            for slash in ("", "/")
        ]

    def _endpoint(self, read: Callable[[Request, bytes], Answer]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            try:
                body = await _body_of(request, self._limits, self._body_timeout_s)
                events, answer = await run_in_threadpool(read, request, body)
                async with self._lock:  # the exporter is used by one thread at a time
                    await run_in_threadpool(self._keep, events)
            except Refused as refused:
                return PlainTextResponse(str(refused), refused.status)
            return answer()

        return endpoint

    def _keep(self, events: Sequence[Properties]) -> None:
        """Put the events of calls into the store. Raises Refused where that cannot be: it will be sent again."""
        kept = [_stored(event) for event in events if capture_protocol.is_ai(str(event["event"]))]
        if kept:
            result = self._exporter.send(kept, STORE_TIMEOUT_S)
            if result.kind != "delivered":
                raise Refused(503, f"the local store cannot be written: {result.detail}")
        self.kept += len(kept)
        self.others += len(events) - len(kept)

    # --- v0 ---

    def _read_v0(self, request: Request, body: bytes) -> Answer:
        path = request.url.path.rstrip("/")
        events = capture_protocol.events_of(path, self._unzipped(body), self._limits)
        return events, lambda: JSONResponse({"status": "Ok"})

    def _unzipped(self, body: bytes) -> bytes:
        return capture_protocol.decompressed(body, capture_protocol.INFLATES * self._limits.max_body_bytes)

    def _read_multipart(self, request: Request, body: bytes) -> Answer:
        """One event: a part `event`, its properties beside it, and large ones in parts of their own."""
        capture_protocol.check_key(_bearer(request.headers))
        kind = request.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/form-data"):
            raise Refused(400, "failed to parse request: not multipart/form-data")
        body = self._unzipped(body)
        if len(body) > MAX_PARTS_BYTES * 1.1:
            raise Refused(413, f"the parts are over {MAX_PARTS_BYTES} bytes")
        head = f"Content-Type: {kind}\r\n\r\n".encode("latin-1", "replace")
        message = BytesParser(policy=HTTP).parsebytes(head + body)
        parts: dict[str, tuple[str, bytes]] = {}
        for part in message.iter_parts() if message.is_multipart() else ():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            parts[str(name)] = (part.get_content_type(), content if isinstance(content, bytes) else b"")
        if next(iter(parts), None) != "event":
            raise Refused(400, "failed to parse request: the first part is not the event")
        event = capture_protocol.parsed_json(parts.pop("event")[1])
        if not isinstance(event, dict):
            raise Refused(400, "failed to parse request: not an object")
        own = event.get("properties") or {}
        if not isinstance(own, dict):
            raise Refused(400, "failed to parse request: properties is not an object")
        properties = {**own, **_object(parts.pop("event.properties", None))}
        for name, (media, content) in parts.items():
            properties[name.removeprefix("event.properties.")] = _blob(media, content)
        whole = {"api_key": _bearer(request.headers), **event, "properties": properties}
        limits = capture_protocol.Limits(MAX_PARTS_BYTES, MAX_PARTS_BYTES, MAX_PARTS_BYTES)
        text = json.dumps({"api_key": whole["api_key"], "batch": [whole]}).encode()
        return capture_protocol.events_of(capture_protocol.AI_PATHS[0], text, limits), lambda: JSONResponse(
            {"accepted_parts": [*parts]}
        )

    # --- v1 ---

    def _read_v1(self, request: Request, body: bytes) -> Answer:
        missing = [name for name in V1_HEADERS if not request.headers.get(name)]
        if missing:
            raise Refused(400, f"missing_required_headers: {', '.join(missing)}")
        capture_protocol.check_key(_bearer(request.headers))
        parsed = capture_protocol.parsed_json(self._unpacked(request.headers.get("content-encoding", "").lower(), body))
        batch = parsed.get("batch") if isinstance(parsed, dict) else None
        if not isinstance(batch, list) or not all(isinstance(event, dict) for event in batch):
            raise Refused(400, "failed to parse request: batch is not a list of events")
        if not batch:
            raise Refused(400, "submitted an empty batch")
        uuids = [event.get("uuid") for event in batch]
        if not all(map(capture_protocol.is_uuid, uuids)) or len(set(uuids)) < len(uuids):
            raise Refused(400, "failed to parse request: an event without a uuid of its own")
        taken, results = [], {}
        for event in batch:
            reason = self._dropped(event, request.url.path.startswith(capture_protocol.V1_PATHS[0]))
            results[event["uuid"]] = {"result": "drop", "details": reason} if reason else {"result": "ok"}
            if not reason:
                taken.append(event)
        return taken, lambda: JSONResponse({"results": results})

    def _dropped(self, event: Properties, ai_only: bool) -> str | None:
        """Why v1 takes the others of a batch and not this one."""
        name, person = event.get("event"), event.get("distinct_id")
        if not (isinstance(name, str) and name and isinstance(person, str) and person and event.get("timestamp")):
            raise Refused(400, "failed to parse request: an event without event, distinct_id or timestamp")
        if not isinstance(event.get("properties", {}), dict):
            raise Refused(400, "failed to parse request: properties is not an object")
        if ai_only and not capture_protocol.is_ai(name):
            return "misrouted_event"
        return "ai_event_too_big" if capture_protocol.size_of(event) > self._limits.max_event_bytes else None

    def _unpacked(self, encoding: str, body: bytes) -> bytes:
        if encoding in ("", "identity", "gzip"):
            return self._unzipped(body)
        if encoding == "deflate":
            return capture_protocol.inflated(
                body, zlib.MAX_WBITS, capture_protocol.INFLATES * self._limits.max_body_bytes
            )
        raise Refused(415, f"content-encoding {encoding} is not supported: use gzip or deflate")


class IngestGate:
    """The ASGI app around the page: requests for its endpoints go to `ingest`, all others to `app`."""

    def __init__(self, app: ASGIApp, ingest: Ingest, port: int) -> None:
        routes = ingest.routes()
        self._app = app
        self._inner = Starlette(routes=routes)
        self._paths = frozenset(route.path for route in routes)
        self._names = frozenset(f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on to where it belongs, or refuse it."""
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        origin = headers.get("origin", f"http://{host}").lower()
        answer: ASGIApp = self._inner
        if host not in self._names:
            answer = PlainTextResponse("This host name is not accepted.\n", 421)
        elif origin != f"http://{host}" or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            answer = PlainTextResponse("Web sites may not send events here.\n", 403)
        await answer(scope, receive, send)


async def _flags(request: Request) -> Response:
    """There are none; and what could be a token is known, since the store takes the events of all."""
    try:
        body = capture_protocol.decompressed(
            await _body_of(request, capture_protocol.Limits(), BODY_TIMEOUT_S), capture_protocol.Limits.max_body_bytes
        )
    except Refused as refused:
        return PlainTextResponse(str(refused), refused.status)
    status, answer = capture_protocol.flags_answer(body, capture_protocol.may_be_known)
    return JSONResponse(answer, status)


async def _body_of(request: Request, limits: capture_protocol.Limits, timeout_s: float) -> bytes:
    """The body as it came. Raises Refused where it is too large or does not come."""
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        capture_protocol.check_size(int(length[:20]), limits)
    pieces: list[bytes] = []
    size = 0
    stream = request.stream()
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), timeout_s)
        except StopAsyncIteration:
            return b"".join(pieces)
        except ClientDisconnect:
            raise Refused(400, "the body ends in the middle") from None
        except asyncio.TimeoutError:
            raise Refused(408, "timeout while reading the body") from None
        size += len(piece)
        capture_protocol.check_size(size, limits)
        pieces.append(piece)


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _object(part: tuple[str, bytes] | None) -> Properties:
    found = capture_protocol.parsed_json(part[1]) if part is not None else {}
    if not isinstance(found, dict):
        raise Refused(400, "failed to parse request: event.properties is not an object")
    return found


def _blob(media: str, content: bytes) -> Any:
    """A property in a part of its own: JSON or text as it is, anything else by its kind and size."""
    if media == "application/json":
        return capture_protocol.parsed_json(content)
    if media.startswith("text/"):
        return content.decode("utf-8", "replace")
    return f"[{media}, {len(content)} bytes]"


def _stored(event: Properties) -> EncodedEvent:
    """An event as the store keeps it: complete, and without the token."""
    now = time.time()
    properties = {name: value for name, value in (event.get("properties") or {}).items() if name != "token"}
    uuid = str(event.get("uuid") or new_ids(now)[0])
    kept = {
        "event": event["event"],
        "uuid": uuid,
        "timestamp": event.get("timestamp") or datetime.fromtimestamp(now, timezone.utc).isoformat(),
        "distinct_id": str(capture_protocol.person_of(event))[:MAX_ID_CHARS],
        "properties": properties,
    }
    return EncodedEvent(uuid, str(event["event"]), json.dumps(kept).encode())
