"""An open call: what the call site and the wire learn about one logical call while it runs.

On the host's thread this takes references, two clock readings and the current context; it copies, parses and
serialises nothing. `finalize` makes the plain record later, on the flusher's thread.
"""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import perf_counter, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..context import fields
from ..context.active_call import ACTIVE_CALL, SUPPRESSED
from ..context.identity import Intent, intent_of
from ..core import guard
from ..providers.provider import EDGE_BYTES, Endpoint, Provider, gap
from .owner import EVERY_END, INNER_CALL, US, Owner

if TYPE_CHECKING:  # for types only: `import openai` waits for what is imported here
    from ..core.records import End
    from ..settings.config import Config

CANCELLATIONS = frozenset(("CancelledError", "Cancelled"))
"""Names of the exceptions that cancel a task: asyncio's and trio's."""
HEADERS = ("content-encoding", "content-type", "x-litellm-response-cost", "x-request-id")
"""Headers of answers, in lower case, that tell of a call. A provider names more."""
MAX_ERROR_CHARS = 100_000
MAX_CAUSES = 8
MAX_REASON_CHARS = 1_000
MAX_PATHS = 1_000
"""Paths that are remembered with their endpoints, and addresses that are."""
TEXT_LIMIT = 32 * 1024 * 1024
"""Characters kept of a stream's events; beyond it only the last event is. PostHog takes events of 8 MiB."""
RAW_LIMIT = 32 * 1024 * 1024
"""Bytes kept of a body that the program reads raw; beyond it the event says what is known."""
BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of a request or an answer that are held by reference. A larger one is shortened when the call ends: the program
may be done with it, and as long as it waits here it would be in memory beside the next one."""

CURRENT: ContextVar[OpenCall | None] = ContextVar("posthog_autoinstrument_current", default=None)
"""The call whose request is on the wire in this thread or task."""
PENDING_CONTEXT: ContextVar[Intent | None] = ContextVar("posthog_autoinstrument_carried", default=None)
"""What `.stream()` read, for the `create` that its manager calls later."""


class OpenCall:
    """One logical call from its start to its end. Ends exactly once; whatever comes later changes nothing."""

    taken = False
    """The wire has taken it: it will end there."""
    shared = False
    """Another call of the same Context was on the wire when this one came: the ContextVar does not tell them apart."""
    outer: OpenCall | None = None
    """The call whose call site was still at work when this one was opened."""
    owner = US
    ended: End | None = None
    client = ""
    base_url: Any = None
    url: str | None = None
    sent: bytes | None = None
    form: list[tuple[str, Any]] | None = None
    """What was sent as a form: names, and texts or descriptions of files."""
    asked_usage = False
    """We asked for the token counts of this stream: the answer to that is not shown to the program."""
    usage_host = ""
    """The host that was asked, as it is listed."""
    headers: Mapping[str, str] | None = None
    """Those of the answer's headers that something looks at, by their names in lower case."""
    status: int | None = None
    error: tuple[Any, ...] | None = None
    """The exception that left the SDK: the arguments of `records.Error`."""
    model: str | None = None
    stream = False
    unread = False
    """The SDK gave the answer to the program before its body was read: the call ends when the reading does."""
    texts: list[str] | None = None
    """The SSE events' texts, once the SDK's own decoder is being read."""
    offsets: list[float] | tuple[()] = ()
    """When each of `texts` came, by `perf_counter`."""
    raw: list[bytes] | None = None
    """Undecoded pieces of a body that the program itself reads."""
    raw_tail: deque[bytes] | None = None
    """The last pieces of a body of which only the two ends are kept; `raw` is then the first ones."""
    raw_size = 0
    raw_ended = False
    body: bytes | None = None
    cut = 0
    ended_at = 0.0
    duration_s = 0.0
    size = 0
    repeated = False
    """It was perhaps handed over twice."""
    n_finalized = 0
    """How often its record was made."""

    def __init__(self, calls: CallRecorder, endpoint: Endpoint, intent: Intent) -> None:
        self.calls = calls
        self.endpoint = endpoint
        self.intent = intent
        self.pid = os.getpid()
        self.started = perf_counter()

    def set_client(self, client: Any) -> None:
        """Take who makes the call. The base URL stays the client's own immutable object until `finalize`."""
        self.client = type(client).__name__
        self.base_url = guard.quietly(_base_url_of, client)

    def read(self) -> tuple[list[str], list[float]]:
        """The SDK's decoder of events is about to be read: the lists that texts and times of the events go into."""
        texts: list[str] = []
        offsets: list[float] = []
        self.texts, self.offsets = texts, offsets
        return texts, offsets

    def set_request(self, request: Any) -> None:
        """Take what was sent: the body as bytes (None for multipart and streamed uploads) and the address."""
        # Not `.content`: it raises where the body is not in memory (httpx, httpx2: `_content` of both).
        sent = getattr(request, "_content", None)
        # As text, and one for all: the object of the transport is half of what a waiting call would hold.
        url = str(getattr(request, "url", ""))
        self.url = self.calls.urls.setdefault(url, url) if len(self.calls.urls) < MAX_PATHS else url
        if type(sent) is bytes:
            self.sent = sent
        else:
            self.sent = None  # of the attempt before this one
            self.form = guard.quietly(_described, request)

    def set_response(self, response: Any, stream: bool) -> bool:
        """The transport has an answer; say whether its body is in memory."""
        self.status = response.status_code
        self.headers = guard.quietly(self.calls.headers_of, response.headers)
        self.stream = stream
        if not self.url:
            self.set_request(response.request)
        body = getattr(response, "_content", None)
        if type(body) is not bytes:
            return False
        if self.endpoint.bulky and len(body) > 3 * EDGE_BYTES and self.drops_bulk:
            self.cut = len(body) - 2 * EDGE_BYTES
            body = body[:EDGE_BYTES] + gap(self.cut).encode() + body[-EDGE_BYTES:]
        self.body = body
        return True

    @property
    def drops_bulk(self) -> bool:
        """Only the two ends of its answer are kept."""
        return self.endpoint.bulky and (self.endpoint.kind == "embedding" or not self.calls.keep_media)

    @guard.guarded("end a call", None)
    def finish(self, end: End) -> None:
        """End the call and hand it over. One that is abandoned ends in a finaliser, where nothing may be locked or
        started."""
        if self.ended is not None:
            return
        self.ended = end
        handed = False
        try:
            self.duration_s = perf_counter() - self.started
            self.ended_at = time()
            self.size = self._release()
            self._hand_over(end)
            handed = True
        finally:
            if not handed and not self.n_finalized:  # the program is interrupted, by a time limit or Ctrl-C
                self.repeated = True
                self.ended_at = self.ended_at or time()
                self._hand_over(end)

    def _hand_over(self, end: End) -> None:
        if end not in self.owner.ends:
            self.calls.emit(self, end == "abandoned")

    def _release(self) -> int:
        """Let go of what is not needed any longer. How much is kept: bytes and characters."""
        if self.sent is not None and len(self.sent) > BODY_LIMIT:
            self.sent = _bounded(self.sent)
        if self.body is not None and len(self.body) > BODY_LIMIT:
            self.body = _bounded(self.body)
        size = len(self.sent) if self.sent is not None else 0
        if self.unread:
            size += self.let_go()
        elif self.body is not None:
            size += len(self.body)
        if self.form is not None:
            size += sum(len(value) for _, value in self.form if type(value) is str)
        return size

    def let_go(self) -> int:
        """Wait no longer for the rest of an answer that the program reads after the call returned. Its bytes so far."""
        self.calls.streams.discard(self)
        if not self.texts and self.body is None:
            return sum(map(len, self.raw or ())) + sum(map(len, self.raw_tail or ()))
        self.raw = self.raw_tail = None
        return sum(map(len, self.texts)) if self.texts is not None else len(self.body or b"")

    @guard.guarded("end a failed call", None)
    def fail(self, error: BaseException | None) -> None:
        """End the call by the exception that leaves the SDK. Its text is taken now: the object holds host frames."""
        if self.ended is not None:
            return
        if error is None:
            self.finish("closed")
            return
        if isinstance(error, GeneratorExit):
            self.finish("abandoned")  # the garbage collector closes the generator
            return
        name = type(error).__name__
        if name in CANCELLATIONS:
            self.error = (name, "cancelled")
            self.finish("cancelled")
            return
        self.error = guard.attempt("read an error", _error_of, error) or (name, "")
        response = getattr(error, "response", None)
        if hasattr(response, "status_code"):
            self.set_response(response, self.stream)
        elif not self.url:
            self.set_request(guard.quietly(getattr, error, "request", None))  # httpx: a property that may raise
        self.finish("failed")

    def keep(self, piece: bytes) -> None:
        """Keep a piece of a body that the program reads itself."""
        raw = self.raw
        if raw is None:
            return
        before = self.raw_size
        self.raw_size += len(piece)
        tail = self.raw_tail
        if tail is None:
            if before < RAW_LIMIT:
                raw.append(piece)
        elif before < EDGE_BYTES:
            raw.append(piece)
        else:
            tail.append(piece)
            if self.raw_size <= 3 * EDGE_BYTES:
                return
            if len(tail) > 2 and len(piece) >= EDGE_BYTES:
                tail.clear()
                tail.append(piece)
            elif len(tail) > 256:
                last = b"".join(tail)[-EDGE_BYTES:]
                tail.clear()
                tail.append(last)

    def assemble(self) -> None:
        """On the flusher's thread, before the record is made."""


def _error_of(error: BaseException) -> tuple[Any, ...]:
    """An exception of the SDK as text. Attributes as openai 1.0 to 3.54 `APIError` and `APIStatusError` have them."""

    # Not `getattr`: a property may do anything, and those of websockets' ConnectionClosed warn the program.
    own = vars(error)

    def text(name: str) -> str | None:
        value = own.get(name)
        return value if isinstance(value, str) else None

    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 3:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    status = own.get("status_code")
    return (
        type(error).__name__,
        (guard.quietly(str, error) or "")[:MAX_ERROR_CHARS],  # a `__str__` of the host's may raise
        status if isinstance(status, int) else None,
        text("code"),
        text("type"),
        text("param"),
        text("request_id"),
        tuple(causes),
        tuple(_reasons_of(error)),
    )


def _reasons_of(error: BaseException) -> list[str]:
    """What the exceptions say that this one was raised from, each thing once: "Connection error." alone says nothing.

    By `__cause__` only: what merely was being handled may be the program's own affair.
    """
    found: list[str] = []
    names: set[str] = set()
    said = ""
    cause = error.__cause__
    for _ in range(MAX_CAUSES):
        if cause is None:
            break
        name = type(cause).__name__
        text = (guard.quietly(str, cause) or "")[:MAX_REASON_CHARS]
        # httpx wraps httpcore's exceptions, which have the same names and texts.
        if (text and text != said) or (not text and name not in names):
            found.append(f"{name}: {text}" if text else name)
        names.add(name)
        said = text or said
        cause = cause.__cause__
    return found


def _base_url_of(client: Any) -> Any:
    return client.base_url  # a property of the SDK's


def _described(request: Any) -> list[tuple[str, Any]] | None:
    """A form (multipart) as its fields: texts as they are, files by name, size and type. Nothing is read or copied."""
    fields = request.stream.fields  # httpx 0.23 to 0.28, httpx2: `MultipartStream.fields`
    found: list[tuple[str, Any]] = []
    for field in fields:
        if hasattr(field, "file"):
            file: dict[str, Any] = {"type": "file", "filename": field.filename}
            kind = {name.lower(): value for name, value in field.headers.items()}.get("content-type")
            file["content_type"] = kind
            file["bytes"] = guard.quietly(_size_of, field.file)
            found.append((field.name, file))
        else:
            value = field.value
            found.append((field.name, value if isinstance(value, str) else f"[{len(value)} bytes]"))
    return found


def _size_of(file: Any) -> int | None:
    """Bytes of a file that is sent: bytes themselves, a buffer in memory, or a file on disk. None: nobody knows."""
    if isinstance(file, (bytes, bytearray, str)):
        return len(file)
    if issubclass(type(file), io.BytesIO):
        with io.BytesIO.getbuffer(file) as view:
            return view.nbytes
    return os.fstat(file.fileno()).st_size  # the transport has asked for it as well


def _stays_off() -> bool:
    return False


class CallRecorder:
    """Opens calls of one provider. Made by the agent; shared by its call sites and its wire."""

    def __init__(
        self,
        provider: Provider,
        config: Config,
        defaults: fields.Fields,
        emit: Callable[[OpenCall, bool], None],
        expect: Callable[[], None],
        recorded_elsewhere: Callable[[Any, str, str], Owner | None],
        active: bool = True,
    ) -> None:
        self.provider = provider
        self.emit = emit
        """Hands a finished call over; True for one that ends in a finaliser."""
        self.expect = expect
        """Says that a call will end later, maybe in a finaliser, where no thread can be started for it."""
        self.recorded_elsewhere = recorded_elsewhere
        """Who else records a call of this client, endpoint and SDK that starts here."""
        self.active = active
        """False: nothing is captured, but `posthog_*` arguments are still taken out of calls."""
        self.awaken: Callable[[], bool] = _stays_off
        """Asked for each call while nothing is captured: whether it is from now on."""
        self.defaults = defaults
        """What is said of every call of the process."""
        self.keep_media = config.keep_media
        self._kept_headers = {name.encode(): name for name in (*HEADERS, *provider.response_headers)}
        self._by_path = {
            (method, endpoint.path): endpoint
            for endpoint in provider.endpoints
            for method in (endpoint.method.lower(), endpoint.method)
            if "{}" not in endpoint.path
        }
        """The paths as the SDK gives them to its transport, and others that were found to be one of them."""
        self._methods = {endpoint.method for endpoint in provider.endpoints}
        self._patterns: list[tuple[str, re.Pattern[str], Endpoint]] | None = None
        self._by_name = {endpoint.name: endpoint for endpoint in provider.endpoints}
        self.urls: dict[str, str] = {}
        """Addresses that were called, each once."""
        self.streams: set[OpenCall] = set()
        """Calls whose answer is still being read."""
        self.pending_contexts: WeakKeyDictionary[Any, Intent] = WeakKeyDictionary()
        """Stream managers that are yet to be entered, and what the program said when it asked for them."""

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint called `name`."""
        return self._by_name[name]

    @guard.guarded("open a call", None)
    def open(self, resource: Any, endpoint: Endpoint, overrides: Mapping[str, Any] | None, model: Any) -> Any:
        """Open a call at its call site; `SUPPRESSED` where somebody else records it. None: nothing is captured here."""
        if not self.active and not self.awaken():
            return None
        pending = ACTIVE_CALL.get()
        if pending is SUPPRESSED:
            return None
        client = getattr(resource, "_client", None)
        owner = self.recorded_elsewhere(client, endpoint.name, self.provider.package)
        if owner is not None and owner.ends == EVERY_END:
            return SUPPRESSED
        outer = pending if pending is not None and not pending.taken else None
        intent = PENDING_CONTEXT.get()
        if intent is None and outer is not None and outer.endpoint is endpoint and not overrides:
            # A method that makes its request by another one (`beta.chat.completions.parse` of 1.40) took the arguments.
            intent = outer.intent
        call = OpenCall(self, endpoint, intent or intent_of(overrides))
        call.outer = outer
        if owner is not None:
            call.owner = owner
        if client is not None:
            call.set_client(client)
        if type(model) is str:
            call.model = model
        return call

    @guard.guarded("follow a request", None)
    def call_of_request(self, client: Any, options: Any) -> OpenCall | None:
        """The call that this request belongs to: the one its call site opened, or a new one. None: not captured."""
        pending = ACTIVE_CALL.get()
        if pending is SUPPRESSED or not (self.active or self.awaken()):
            return None
        endpoint = self._by_path.get((options.method, options.url)) or self._endpoint_of(options.method, options.url)
        # Another endpoint: a request that the program makes inside its call, from a generator given as `messages`.
        if pending is not None and not pending.taken and pending.endpoint is endpoint:
            pending.taken = True
            if pending.outer is not None and pending.outer.endpoint is endpoint:
                pending.outer.owner = INNER_CALL
            if pending.owner is INNER_CALL:  # what it had made before was another call's, in a generator of messages
                pending.owner = self.recorded_elsewhere(client, endpoint.name, self.provider.package) or US
            if not pending.client:
                pending.set_client(client)
            taken: OpenCall = pending
            return taken
        if endpoint is None:
            return None
        owner = self.recorded_elsewhere(client, endpoint.name, self.provider.package)
        if owner is not None and owner.ends == EVERY_END:
            return None
        call = OpenCall(self, endpoint, PENDING_CONTEXT.get() or intent_of(None))
        if owner is not None:
            call.owner = owner
        call.set_client(client)
        call.taken = True
        return call

    def headers_of(self, headers: Any) -> dict[str, str]:
        """Those headers of an answer that something looks at. All of them would be the most that a call holds."""
        known = self._kept_headers
        try:
            # httpx 0.18 to 0.28, httpx2: name as it came, name in lower case, value; all of them bytes. 20 headers take
            # 1 us so, and 4 us by way of `raw`, which makes another list.
            return {known[name]: value.decode() for _, name, value in headers._list if name in known}
        except (AttributeError, TypeError, ValueError):
            found = [(name.lower(), value) for name, value in headers.raw]
            return {known[name]: value.decode("utf-8", "replace") for name, value in found if name in known}

    def finish_streams(self) -> None:
        """End every call whose answer is still being read: the program is ending."""
        for call in list(self.streams):
            call.finish("abandoned")

    def _endpoint_of(self, method: str, url: str) -> Endpoint | None:
        """The endpoint of a path that is not written as we know it."""
        as_given, method = method, method.upper()
        if method not in self._methods:
            return None
        if self._patterns is None:
            self._patterns = [
                (known.method, re.compile(".*" + "[^/?]+".join(map(re.escape, known.path.split("{}")))), known)
                # `/chat/completions` ends with `/completions` too.
                for known in sorted(self.provider.endpoints, key=lambda one: ("{}" in one.path, -len(one.path)))
            ]
        path = "/" + urlsplit(url).path.strip("/")  # `client.post` takes whole URLs, queries, other prefixes
        for known, pattern, found in self._patterns:
            if known == method and pattern.fullmatch(path):
                # Azure's paths name the deployment; those with ids are another one each time.
                if "{}" not in found.path and len(self._by_path) < MAX_PATHS:
                    self._by_path[as_given, url] = found
                return found
        return None


@guard.guarded("shorten a large body", None)
def _bounded(body: bytes) -> bytes | None:
    from ..providers import bodies  # only for what is as large as this

    return bodies.bounded(body)
