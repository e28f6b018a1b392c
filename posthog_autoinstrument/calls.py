"""An open call: what the call site and the wire learn about one logical call while it runs.

On the host's thread this takes references, two clock readings and the current context; it copies, parses and
serialises nothing. `seal` makes the plain record later, on the flusher's thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import perf_counter, time
from types import FrameType
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from . import context, guard, sse
from .config import Config
from .providers import Endpoint, Provider
from .records import Call, End, Error, Identity

BULKY_EDGE = 4096
"""Bytes kept of each end of an answer that is mostly vectors, pictures or sound: model and usage stand there."""
BULKY_GAP = b"\n...\n"
CANCELLATIONS = frozenset(("CancelledError", "Cancelled"))
"""Names of the exceptions that cancel a task: asyncio's and trio's."""
MAX_ERROR_CHARS = 100_000
TEXT_LIMIT = 32 * 1024 * 1024
"""Characters kept of a stream's events; beyond it only the last event is. PostHog takes events of 8 MiB."""
RAW_LIMIT = 32 * 1024 * 1024
"""Bytes kept of a body that the program reads raw; beyond it the event says what is known."""

# PostHog's own AI gateway records each call itself (posthog 7.91.1, posthog/ai/gateway.py).
GATEWAY_HOSTS = frozenset(
    (
        "gateway.posthog.com",
        "gateway.us.posthog.com",
        "gateway.eu.posthog.com",
        "ai-gateway.us.posthog.com",
        "ai-gateway.eu.posthog.com",
    )
)

CLAIM: ContextVar[OpenCall | None] = ContextVar("posthog_autoinstrument_claim", default=None)
"""The call that a call site opened and the wire has yet to claim."""
CURRENT: ContextVar[OpenCall | None] = ContextVar("posthog_autoinstrument_current", default=None)
"""The call whose request is on the wire in this thread or task."""
CARRIED: ContextVar[Intent | None] = ContextVar("posthog_autoinstrument_carried", default=None)
"""What `.stream()` read, for the `create` that its manager calls later."""


class Intent:
    """What the program said about a call when it called the method: its context and its `posthog_*` arguments."""

    __slots__ = ("call_fields", "context", "sdk_fields")

    def __init__(self, overrides: Mapping[str, Any] | None) -> None:
        self.context = context.CONTEXT.get()
        self.call_fields = context.fields_of_overrides(overrides) if overrides else context.NOTHING
        self.sdk_fields = (
            (guard.quietly(context.fields_of_posthog_sdk) or context.NOTHING)
            if "posthog" in sys.modules
            else context.NOTHING
        )


class OpenCall:
    """One logical call from its start to its end. Ends exactly once; whatever comes later changes nothing."""

    claimed = False
    """The wire has taken it: it will end there."""
    shared = False
    """Another call of the same Context was on the wire when this one came: the ContextVar does not tell them apart."""
    outer: OpenCall | None = None
    """The call whose call site was still at work when this one was opened."""
    delegated = False
    """An inner call site made the request of this call."""
    ended: End | None = None
    client = ""
    base_url: Any = None
    url: Any = None
    sent: bytes | None = None
    headers: Any = None
    status: int | None = None
    error: Error | None = None
    model: str | None = None
    stream = False
    unread = False
    """The SDK gave the answer to the program before its body was read: the call ends when the reading does."""
    texts: list[str] | None = None
    """The SSE events' texts, once the SDK's own decoder is being read."""
    raw: list[bytes] | None = None
    """Undecoded pieces of a body that the program itself reads."""
    raw_size = 0
    raw_ended = False
    body: bytes | None = None
    cut = 0
    ended_at = 0.0
    duration_s = 0.0
    size = 0

    def __init__(self, calls: Calls, endpoint: Endpoint, intent: Intent) -> None:
        self.calls = calls
        self.endpoint = endpoint
        self.intent = intent
        self.pid = os.getpid()
        self.offsets: list[float] = []
        self.started = perf_counter()

    def of_client(self, client: Any) -> None:
        """Take who makes the call. The base URL stays the client's own immutable object until `seal`."""
        self.client = type(client).__name__
        self.base_url = guard.quietly(getattr, client, "base_url", None)  # a property of the SDK's

    def requested(self, request: Any) -> None:
        """Take what was sent: the body as bytes (None for multipart and streamed uploads) and the address."""
        # Not `.content`: it raises where the body is not in memory (httpx, httpx2: `_content` of both).
        sent = getattr(request, "_content", None)
        self.sent = sent if type(sent) is bytes else None
        self.url = getattr(request, "url", None)

    def answered(self, response: Any, stream: bool) -> bool:
        """The transport has an answer; say whether its body is in memory."""
        self.status = response.status_code
        self.headers = response.headers
        self.stream = stream
        if self.url is None:
            self.requested(response.request)
        body = getattr(response, "_content", None)
        if type(body) is not bytes:
            return False
        if self.endpoint.bulky and len(body) > 3 * BULKY_EDGE:
            self.cut = len(body) - 2 * BULKY_EDGE
            body = body[:BULKY_EDGE] + BULKY_GAP + body[-BULKY_EDGE:]
        self.body = body
        return True

    @guard.guarded("end a call", None)
    def finish(self, end: End, late: bool = False) -> None:
        """End the call and hand it over. `late`: from a finaliser, where nothing may be locked or started."""
        if self.ended is not None:
            return
        self.ended = end
        self.ended_at = time()
        self.duration_s = perf_counter() - self.started
        self.calls.streams.discard(self)
        if self.pid != os.getpid():
            return  # forked while it ran: the parent records it
        size = len(self.sent) if self.sent is not None else 0
        if self.texts is not None:
            size += sum(map(len, self.texts))
            self.raw = None
        elif self.body is not None:
            size += len(self.body)
            self.raw = None
        self.size = size + self.raw_size
        self.calls.emit(self, late)

    @guard.guarded("end a failed call", None)
    def fail(self, error: BaseException | None) -> None:
        """End the call by the exception that leaves the SDK. Its text is taken now: the object holds host frames."""
        if self.ended is not None:
            return
        if error is None:
            self.finish("closed")
            return
        if isinstance(error, GeneratorExit):
            self.finish("abandoned", late=True)  # the garbage collector closes the generator
            return
        name = type(error).__name__
        if name in CANCELLATIONS:
            self.error = Error(name, "cancelled")
            self.finish("cancelled")
            return
        self.error = guard.attempt("read an error", _error_of, error) or Error(name, "")
        response = getattr(error, "response", None)
        if hasattr(response, "status_code"):
            self.answered(response, self.stream)
        elif self.url is None:
            self.requested(getattr(error, "request", None))
        self.finish("failed")

    def seal(self) -> Call | None:
        """The plain record of this call; None where it must not be recorded. On the flusher's thread."""
        base_url = str(self.base_url) if self.base_url is not None else ""
        if guard.quietly(context.disabled_by_posthog_sdk) or urlsplit(base_url).hostname in GATEWAY_HOSTS:
            return None
        headers = self.headers
        texts, body = self.texts, self.body
        if texts is None and body is None and self.raw:
            body = sse.decompressed(b"".join(self.raw), headers.get("content-encoding", "") if headers else "")
        if texts is None and body is not None and (self.stream or sse.is_event_stream(headers)):
            texts, body = sse.texts(body), None
        entropy = os.urandom(26)
        return Call(
            sdk=self.calls.provider.name,
            endpoint=self.endpoint.name,
            uuid=context.uuid_text(max(0, int(self.ended_at * 1000)).to_bytes(6, "big") + entropy[:10], version=7),
            span_id=context.uuid_text(entropy[10:], version=4),
            client=self.client,
            base_url=base_url,
            request_url=str(self.url) if self.url is not None else "",
            ended_at=self.ended_at,
            duration_s=max(0.0, self.duration_s),  # a test of the host may turn even this clock back
            end=self.ended or "abandoned",
            stream=self.stream,
            identity=resolve(self.intent, self.calls.defaults),
            status=self.status,
            request_id=headers.get("x-request-id") if headers is not None else None,
            error=self.error,
            model=self.model,
            cost_usd=guard.quietly(_reported_cost, headers) if headers is not None else None,
            request=self.sent,
            response=body,
            chunks=tuple(texts) if texts is not None else None,
            chunk_offsets_s=tuple(max(0.0, offset - self.started) for offset in self.offsets),
            cut=self.cut,
        )


def resolve(intent: Intent, defaults: context.Fields) -> Identity:
    """Who asked, by precedence: per-call argument, `posthog_context`, the posthog package's context, the defaults.

    Privacy is the exception: the most private of them wins.
    """
    own = intent.context.fields if intent.context is not None else context.NOTHING
    sources = (intent.call_fields, own, intent.sdk_fields, defaults)
    fields = context.NOTHING
    for source in reversed(sources):
        fields = context.merge(source, fields)
    tags = intent.sdk_fields.properties
    properties = {**defaults.properties, **tags, **own.properties, **intent.call_fields.properties}
    if tags:
        # As in PostHog's wrapper, a tag does not take the place of a fact of the call; a property does.
        named = {*own.properties, *intent.call_fields.properties}
        properties = {key: text for key, text in properties.items() if key in named or key not in tags}
    return Identity(
        distinct_id=fields.distinct_id,
        trace_id=fields.trace_id or context.new_trace_id(),
        session_id=fields.session_id,
        replay_session_id=fields.replay_session_id,
        properties=properties,
        groups=fields.groups,
        tags=tags,
        privacy_mode=any(source.privacy_mode for source in sources),
        parent_id=fields.parent_id,
        span_name=fields.span_name,
        provider=fields.provider,
    )


def _error_of(error: BaseException) -> Error:
    """An exception of the SDK as text. Attributes as openai 1.0 to 3.54 `APIError` and `APIStatusError` have them."""

    def text(name: str) -> str | None:
        value = getattr(error, name, None)
        return value if isinstance(value, str) else None

    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 3:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    status = getattr(error, "status_code", None)
    return Error(
        type(error).__name__,
        (guard.quietly(str, error) or "")[:MAX_ERROR_CHARS],  # a `__str__` of the host's may raise
        status if isinstance(status, int) else None,
        text("code"),
        text("type"),
        text("param"),
        text("request_id"),
        tuple(causes),
    )


def _reported_cost(headers: Any) -> float | None:
    """The cost in US dollars that a LiteLLM proxy reports of its answers."""
    cost = headers.get("x-litellm-response-cost")
    return float(cost) if cost is not None else None


class Calls:
    """Opens calls of one provider. Made by the agent; shared by its call sites and its wire."""

    def __init__(
        self,
        provider: Provider,
        config: Config,
        emit: Callable[[OpenCall, bool], None],
        expect: Callable[[], None],
        active: bool = True,
    ) -> None:
        self.provider = provider
        self.emit = emit
        """Hands a finished call over; True for one that ends in a finaliser."""
        self.expect = expect
        """Says that a call will end later, maybe in a finaliser, where no thread can be started for it."""
        self.active = active
        """False: nothing is captured, but `posthog_*` arguments are still taken out of calls."""
        self.defaults = context.Fields(
            distinct_id=config.distinct_id,
            properties=context.serialised(config.properties),
            groups=context.serialised(config.groups),
            privacy_mode=config.privacy_mode,
        )
        self._by_path = {endpoint.path: endpoint for endpoint in provider.endpoints}
        # `/chat/completions` ends with `/completions` too.
        self._longest_first = sorted(self._by_path, key=len, reverse=True)
        self._by_name = {endpoint.name: endpoint for endpoint in provider.endpoints}
        self.streams: set[OpenCall] = set()
        """Calls whose answer is still being read."""
        self.carried: WeakKeyDictionary[Any, Intent] = WeakKeyDictionary()
        """Stream managers that are yet to be entered, and what the program said when it asked for them."""
        self._wrapped_by_posthog: dict[type, bool] = {}

    @guard.guarded("open a call", None)
    def open(self, resource: Any, name: str, overrides: Mapping[str, Any] | None, model: Any) -> OpenCall | None:
        """Open a call at its call site. None: nothing is captured here."""
        if not self.active:
            return None
        pending = CLAIM.get()
        if pending is SUPPRESSED:
            return None
        client = getattr(resource, "_client", None)
        if client is not None and self._recorded_by_posthog(client):
            return SUPPRESSED
        call = OpenCall(self, self._by_name[name], CARRIED.get() or Intent(overrides))
        if pending is not None and not pending.claimed:
            call.outer = pending
        if client is not None:
            call.of_client(client)
        if type(model) is str:
            call.model = model
        return call

    @guard.guarded("follow a request", None)
    def claim(self, client: Any, options: Any) -> OpenCall | None:
        """The call that this request belongs to: the one its call site opened, or a new one. None: not captured."""
        pending = CLAIM.get()
        if pending is SUPPRESSED or not self.active or options.method.lower() != "post":
            return None
        endpoint = self._endpoint_of(options.url)
        # Another endpoint: a request that the program makes inside its call, from a generator given as `messages`.
        if pending is not None and not pending.claimed and pending.endpoint is endpoint:
            pending.claimed = True
            if pending.outer is not None and pending.outer.endpoint is endpoint:
                pending.outer.delegated = True
            if not pending.client:
                pending.of_client(client)
            return pending
        if endpoint is None or self._recorded_by_posthog(client):
            return None
        call = OpenCall(self, endpoint, CARRIED.get() or Intent(None))
        call.of_client(client)
        call.claimed = True
        return call

    def finish_streams(self) -> None:
        """End every call whose answer is still being read: the program is ending."""
        for call in list(self.streams):
            call.finish("abandoned", late=True)

    def _endpoint_of(self, url: str) -> Endpoint | None:
        endpoint = self._by_path.get(url)
        if endpoint is None:
            path = "/" + urlsplit(url).path.strip("/")  # `client.post` takes whole URLs, queries, other prefixes
            for known in self._longest_first:
                if path.endswith(known):
                    return self._by_path[known]
        return endpoint

    def _recorded_by_posthog(self, client: Any) -> bool:
        """Whether this very call was made by a method of `posthog.ai`, which records it itself.

        Its clients are subclasses of the SDK's (posthog 7.91.1); calls they only pass through (`.stream()`, raw
        responses, legacy completions) are not recorded there, so the caller's frame decides.
        """
        kind = type(client)
        known = self._wrapped_by_posthog.get(kind)
        if known is None:
            known = any(str(base.__module__).startswith("posthog.ai") for base in kind.__mro__)
            self._wrapped_by_posthog[kind] = known
        return known and _called_by_posthog(sys._getframe(1), self.provider.package)


def _called_by_posthog(frame: FrameType | None, sdk: str) -> bool:
    """Whether the first frame outside the SDK and the agent belongs to `posthog.ai`."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in ("posthog_autoinstrument", sdk, "wrapt", "functools"):
            return name.startswith("posthog.ai")
        frame = frame.f_back
    return False


class _Suppressed(OpenCall):
    """Stands for a call that somebody else records: the wire lets it pass."""

    def __init__(self) -> None:
        """Takes nothing: nothing is recorded."""


SUPPRESSED = _Suppressed()
