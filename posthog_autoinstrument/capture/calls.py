"""An open call: what the patched method and the transport learn about one logical call while it runs.

On the host's thread this takes references, two clock readings and the current context; it copies, parses and
serialises nothing. `finalize` makes the plain record later, on the flusher's thread.
"""

from __future__ import annotations

import os
import re
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
from ..providers.provider import Endpoint, Provider
from . import exceptions
from .multipart import Form
from .owner import EVERY_END, INNER_CALL, US, Owner
from .response import BODY_LIMIT, Events, RawBytes, ResponseBuffer, TwoEnds, WholeBody, shortened

if TYPE_CHECKING:  # for types only: `import openai` waits for what is imported here
    from ..core.records import End
    from ..settings.config import Config

HEADERS = ("content-encoding", "content-type", "x-litellm-response-cost", "x-request-id")
"""Headers of answers, in lower case, that are kept of a call. A provider names more."""
MAX_PATHS = 1_000
"""Paths that are remembered with their endpoints, and addresses that are."""
CURRENT: ContextVar[OpenCall | None] = ContextVar("posthog_autoinstrument_current", default=None)
"""The call whose request is being made in this thread or task."""
PENDING_CONTEXT: ContextVar[Intent | None] = ContextVar("posthog_autoinstrument_pending_context", default=None)
"""The intent that `.stream()` read, for the `create` that its manager calls later."""


class OpenCall:
    """One logical call from its start to its end. Ends exactly once; whatever comes later changes nothing."""

    taken = False
    """The transport has taken it: it will end there."""
    shared = False
    """Another call of the same Context was being made when this one came: the ContextVar cannot distinguish them."""
    outer: OpenCall | None = None
    """The call whose method was still running when this one was opened."""
    owner = US
    """Who records it."""
    end: End | None = None
    client = ""
    base_url: Any = None
    url: str | None = None
    sent: bytes | Form | None = None
    """What was sent; None where it was neither in memory nor a form."""
    usage_host = ""
    """The host that was asked for the token counts of this stream: its answer to that is not shown to the program."""
    headers: Mapping[str, str] | None = None
    """Those of the answer's headers that something looks at, by their names in lower case."""
    status: int | None = None
    error: tuple[Any, ...] | None = None
    """The exception that left the SDK: the arguments of `records.Error`."""
    model: str | None = None
    stream = False
    unread = False
    """The SDK gave the answer to the program before its body was read: the call ends when the reading does."""
    response: ResponseBuffer | None = None
    """What is kept of the answer."""
    is_read_to_end = False
    """The program itself has read the body to its end."""
    ended_at = 0.0
    duration_s = 0.0
    size = 0
    repeated = False
    """The hand-over may have run twice (a signal handler raised through the first); `finalize` drops the second."""
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

    @property
    def events(self) -> Events | None:
        """The events of the answer, once the SDK's own decoder is being read."""
        return self.response if type(self.response) is Events else None

    def begin_events(self) -> Events:
        """The SDK's decoder of events is about to be read."""
        self.response = events = Events(self.response, self.keeps_two_ends)
        return events

    def begin_body(self) -> ResponseBuffer:
        """The program begins to read the body itself. Of a bulky one that is not compressed the two ends are kept."""
        if self.response is None:
            compressed = (self.headers or {}).get("content-encoding")
            self.response = TwoEnds() if self.keeps_two_ends and not compressed else RawBytes()
        return self.response

    def set_request(self, request: Any) -> None:
        """Take what was sent: the body as bytes (None for multipart and streamed uploads) and the address."""
        # Not `.content`: it raises where the body is not in memory (httpx, httpx2: `_content` of both).
        sent = getattr(request, "_content", None)
        # As text, and one for all: the object of the transport is half of what a waiting call would hold.
        url = str(getattr(request, "url", ""))
        self.url = self.calls.urls.setdefault(url, url) if len(self.calls.urls) < MAX_PATHS else url
        self.sent = sent if type(sent) is bytes else guard.quietly(Form, request)

    def set_response(self, response: Any, stream: bool) -> bool:
        """Take the answer that the transport has. Returns whether its body is in memory."""
        self.status = response.status_code
        self.headers = guard.quietly(self.calls.headers_of, response.headers)
        self.stream = stream
        if not self.url:
            self.set_request(response.request)
        body = getattr(response, "_content", None)
        if type(body) is not bytes:
            return False
        whole = WholeBody(body, self.keeps_two_ends)
        if self.events is not None:
            self.events.before = whole
        else:
            self.response = whole
        return True

    @property
    def keeps_two_ends(self) -> bool:
        """Whether only the two ends of the answer are kept."""
        return self.endpoint.bulky and (self.endpoint.kind == "embedding" or not self.calls.keep_media)

    @guard.guarded("end a call", None)
    def finish(self, end: End) -> None:
        """End the call and hand it over. One that is abandoned ends in a finaliser, where nothing may be locked or
        started."""
        if self.end is not None:
            return
        self.end = end
        handed_over = False
        try:
            self.duration_s = perf_counter() - self.started
            self.ended_at = time()
            self.size = self._release()
            self._hand_over(end)
            handed_over = True
        finally:
            if not handed_over and not self.n_finalized:  # the program is interrupted, by a time limit or Ctrl-C
                self.repeated = True
                self.ended_at = self.ended_at or time()
                self._hand_over(end)

    def _hand_over(self, end: End) -> None:
        if end not in self.owner.ends:
            self.calls.emit(self, end == "abandoned")

    def _release(self) -> int:
        """Let go of what is not needed any longer. How much is kept: bytes and characters."""
        if type(self.sent) is bytes and len(self.sent) > BODY_LIMIT:
            self.sent = shortened(self.sent)
        size = len(self.sent) if self.sent is not None else 0
        if self.unread:
            self.calls.streams.discard(self)
        return size + self.response.release() if self.response is not None else size

    @guard.guarded("end a failed call", None)
    def fail(self, error: BaseException | None) -> None:
        """End the call by the exception that leaves the SDK. Its text is taken now: the object holds host frames."""
        if self.end is not None:
            return
        if error is None:
            self.finish("closed")
            return
        if isinstance(error, GeneratorExit):
            self.finish("abandoned")  # the garbage collector closes the generator
            return
        name = type(error).__name__
        if name in exceptions.CANCELLATIONS:
            self.error = (name, "cancelled")
            self.finish("cancelled")
            return
        self.error = guard.attempt("read an error", exceptions.describe, error) or (name, "")
        response = getattr(error, "response", None)
        if hasattr(response, "status_code"):
            self.set_response(response, self.stream)
        elif not self.url:
            self.set_request(guard.quietly(getattr, error, "request", None))  # httpx: a property that may raise
        self.finish("failed")

    def assemble(self) -> None:
        """On the flusher's thread, before the record is made."""


def _base_url_of(client: Any) -> Any:
    return client.base_url  # a property of the SDK's


def _stays_off() -> bool:
    return False


class CallRecorder:
    """Opens calls of one provider. Made by the agent; shared by the patched methods and the transport."""

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
        """Called when a call will end later, maybe in a finaliser, where no thread can be started for it."""
        self.recorded_elsewhere = recorded_elsewhere
        """Who else records a call of this client, endpoint and SDK that starts here."""
        self.active = active
        """False: nothing is captured, but `posthog_*` arguments are still taken out of calls."""
        self.awaken: Callable[[], bool] = _stays_off
        """Asked for each call while nothing is captured: whether it is from now on."""
        self.defaults = defaults
        """Fields of every call of the process."""
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
        """Stream managers that are yet to be entered, and the intent of the call that made them."""

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint called `name`."""
        return self._by_name[name]

    @guard.guarded("open a call", None)
    def open(self, resource: Any, endpoint: Endpoint, overrides: Mapping[str, Any] | None, model: Any) -> Any:
        """Open a call in its method. `SUPPRESSED`: another integration records it. None: nothing is captured."""
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
        """The call that this request belongs to: the one that its method opened, or a new one. None: not captured."""
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
