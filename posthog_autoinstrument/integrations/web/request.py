"""A web request that is being answered: the context of the calls made meanwhile.

Headers are what a browser sends: analytics context, never proof of identity. No address and no user agent of
the visitor: PostHog's own middleware has them, but an event of a model call needs neither to find its person, session
or replay, and both are personal data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from ...context import request_lifetime, scope
from ...context.fields import NO_FIELDS, Fields
from ...context.headers import extract, has_context
from ...context.scope import CONTEXT, Context
from ...core import diagnostics, guard, ids, safejson
from ...settings import hook_loader
from ...settings.config import Config

MAX_DISTINCT_ID_CHARS = 200
MAX_HEADER_CHARS = 1_000
MAX_PATH_CHARS = 2_048
"""The last two as in PostHog's own middleware (posthog 7.91: `integrations/_tracing_headers.py`, `asgi.py`)."""
DISTINCT_ID, SESSION_ID, WINDOW_ID = "x-posthog-distinct-id", "x-posthog-session-id", "x-posthog-window-id"
"""Headers that posthog-js sends with `tracing_headers`."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def clean(value: bytes | str | None, limit: int) -> str | None:
    """A text from the network without control characters, cut at `limit`; None where it is empty or not UTF-8."""
    if not value:
        return None
    if isinstance(value, bytes):
        octets = value[: 4 * limit]  # four bytes a character at most
        try:
            value = octets.decode()
        except UnicodeDecodeError as error:
            if len(octets) == len(value) or error.reason != "unexpected end of data":
                return None
            value = octets[: error.start].decode()  # cut off in the middle of a character
    return _CONTROL.sub("", value[: 2 * limit]).strip()[:limit] or None


def header(values: list[bytes], limit: int) -> str | None:
    """The first usable value of a header."""
    return next(filter(None, [clean(value, limit) for value in values]), None)


class Web:
    """The settings that all requests of a process share."""

    def __init__(self, settings: Config) -> None:
        self.tracing_headers = settings.tracing_headers
        self.trust_baggage = settings.trust_baggage
        self._user = settings.user
        self._function: Callable[[Any], Any] | None = None

    def find_user(self, host: Any) -> str | None:
        """The user by the function of POSTHOG_AUTOINSTRUMENT_USER. Called on the thread that answers the request."""
        if self._user is None or host is None:
            return None
        if self._function is None:
            if not guard.contain("load POSTHOG_AUTOINSTRUMENT_USER", self._load):
                self._user = None  # it would fail again, and run the module again
            if self._function is None:
                return None
        found = guard.attempt("ask POSTHOG_AUTOINSTRUMENT_USER", self._function, host)
        return None if found is False else ids.text_of(found, "the user by POSTHOG_AUTOINSTRUMENT_USER")

    def _load(self) -> bool:
        """Load the function; False where it cannot be loaded."""
        if self._user is None:
            return False
        try:
            self._function = hook_loader.load(self._user)
        except hook_loader.NotYetError:
            pass
        except hook_loader.HookError as error:
            diagnostics.warn_once("user", f"POSTHOG_AUTOINSTRUMENT_USER={self._user}: {error}; it finds no user")
            return False
        return True


class Request(scope.RequestScope):
    """One request. Made from references when it arrives; read when a call or span starts in it.

    `received` is what came over the network; `host` the framework's own object for it, which `user_of` and `route_of`
    read. They read what the program has loaded and never load anything themselves.
    """

    user_of: Callable[[Any], str | None] | None = None
    route_of: Callable[[Any], str | None] | None = None
    ask: Callable[[Any], str | None] | None = None

    def __init__(self, web: Web, received: Received | None) -> None:
        self._presence = request_lifetime.begin()
        self.web = web
        self.trace_id = scope.new_trace_id()
        self.remote = NO_FIELDS
        """The context in the headers of the request, sent by another service of the program."""
        self.received = received
        if received is not None:
            self._read_remote(received)
        self.host = received.source if received is not None else None
        self._user_by_function: str | None = None
        self._asking = False
        self._until_end = False
        self._user: str | None = None
        self._route: str | None = None
        self._from_headers: tuple[str | None, str | None, Mapping[str, str]] | None = None

    def receive(self, received: Received) -> None:
        """Set the request as received, where it was not known at first."""
        self.received = received
        if self.host is None:
            self.host = received.source
        self._read_remote(received)
        around = CONTEXT.get()
        if self.remote is not NO_FIELDS and around is not None and around.scope is self:
            around.fields.trace_id, around.fields.parent_id = self.trace_id, self.remote.parent_id

    def _read_remote(self, received: Received) -> None:
        """`traceparent` and `baggage`, where another service sent its context (`context.headers`) and is trusted.

        A visitor could choose another user's trace, and by it whether it is sampled, or switch the content off."""
        if self.web.trust_baggage:
            self.remote = extract(received.get) or NO_FIELDS
            self.trace_id = self.remote.trace_id or self.trace_id
            self.is_private = bool(self.remote.privacy_mode)
        elif has_context(received.get):
            diagnostics.warn_once(
                "baggage",
                "a web request has a context of posthog-autoinstrument in its headers, which is not taken: set "
                "POSTHOG_AUTOINSTRUMENT_TRUST_BAGGAGE=1 where only services of your own can send one",
            )

    def is_of(self, received: Received) -> bool:
        """Whether this is the same request at another layer, which may have copied its description."""
        if self.received is None:
            self.receive(received)
            return True
        if self.received.source is None:
            return False  # that one is over
        return self.received.source is received.source or received.is_copy_of(self.received)

    def set_host(
        self,
        host: Any,
        user_of: Callable[[Any], str | None] | None = None,
        route_of: Callable[[Any], str | None] | None = None,
        until_end: bool = False,
        ask: Callable[[Any], str | None] | None = None,
    ) -> None:
        """Set the framework's own object. `until_end`: it can be read at the end of the request, too. `ask` finds the
        user where that takes more than reading an attribute; it is called when nothing else gives the user of a
        call."""
        self.host, self.user_of, self.route_of, self._until_end = host, user_of, route_of, until_end
        self.ask = ask
        self._look()  # what is started here may make calls after the request has ended

    def fields(self) -> Fields:
        """The fields of a call that starts now."""
        if self.received is None:
            return NO_FIELDS
        if self._from_headers is None:
            self._from_headers = self._read(self.received)
        named, session, properties = self._from_headers
        named, session = named or self.remote.distinct_id, session or self.remote.replay_session_id
        mode = self.web.tracing_headers
        self._look()
        distinct_id = named if mode == "1" and named else self._find_user() or named
        if self._route:
            properties = {**properties, "$request_route": safejson.dumps(self._route)}
        return Fields(
            distinct_id,
            self.trace_id,
            session_id=self.remote.session_id,
            replay_session_id=session,
            properties=properties,
            privacy_mode=self.remote.privacy_mode,
        )

    def _find_user(self) -> str | None:
        if self._user_by_function is None and not self._asking:
            self._asking = True  # the function may call a model
            try:
                self._user_by_function = self.web.find_user(self.host)
            finally:
                self._asking = False
        if self._user_by_function or self._user or self.ask is None or self.host is None:
            return self._user_by_function or self._user
        return guard.quietly(self.ask, self.host)

    def _look(self) -> None:
        """Read the framework's object. The user may sign in or out during the request."""
        host, user_of, route_of = self.host, self.user_of, self.route_of  # another thread may end the request meanwhile
        if host is None:
            return
        if user_of is not None:
            self._user = guard.quietly(user_of, host)
        if route_of is not None:
            self._route = clean(guard.quietly(route_of, host), MAX_PATH_CHARS) or self._route

    def _read(self, received: Received) -> tuple[str | None, str | None, Mapping[str, str]]:
        found: dict[str, str | None] = {}
        distinct_id = session_id = None
        if self.web.tracing_headers != "0":
            headers = received.headers()
            distinct_id = header(headers[DISTINCT_ID], MAX_DISTINCT_ID_CHARS)
            session_id = header(headers[SESSION_ID], MAX_HEADER_CHARS)
            found["$window_id"] = header(headers[WINDOW_ID], MAX_HEADER_CHARS)
        path = clean(received.path, MAX_PATH_CHARS)
        place = clean(received.host_and_port(), MAX_HEADER_CHARS)
        if path and place:
            # Without the query and the part before the @, which may hold secrets.
            found["$current_url"] = f"{received.scheme}://{place.rpartition('@')[2]}{path}"
        found["$request_method"] = clean(received.method, 32)
        found["$request_path"] = path
        return distinct_id, session_id, {name: safejson.dumps(value) for name, value in found.items() if value}

    def end(self) -> None:
        """The request is answered: objects of the program are released. What was started in it may still make calls,
        and is in its context for as long as `request_lifetime` allows."""
        if self.ended is None:
            self.ended = request_lifetime.end(self._presence)
        if self._until_end:
            self._look()
        self.user_of = self.route_of = self.ask = self.host = None
        if self.received is not None:
            self.received.end()


class Received:
    """The request as received, by references to the server's objects."""

    source: Any
    """The server's scope or environ."""
    method: str | None
    path: str | None
    scheme: str = ""

    def headers(self) -> Mapping[str, list[bytes]]:
        """Name -> values of the three headers, as received."""
        raise NotImplementedError

    def get(self, name: str) -> bytes | str | None:
        """The value of a header by its name in lower case."""
        raise NotImplementedError

    def host_and_port(self) -> str | None:
        """Host and port that the request is addressed to."""
        raise NotImplementedError

    def is_copy_of(self, other: Received) -> bool:
        """Whether this describes the same request as `other`, by copies of its parts."""
        return (self.method, self.path, self.headers()) == (other.method, other.path, other.headers())

    def end(self) -> None:
        """Release the server's object."""
        self.source = None


def current() -> Request | None:
    """The request that is being answered here."""
    found = CONTEXT.get()
    while found is not None:
        if isinstance(found.scope, Request):
            return found.scope
        found = found.outer
    return None


def open_context(request: Request, at_server: bool) -> Context:
    """The context in which a request is answered: that of the blocks around it, in a trace of its own.

    `at_server`: nothing of another request can be around this one. uvicorn (0.54, `on_response_complete`) starts the
    next request of a pipelining client in the task of the one before, and with its ContextVars.
    """
    outer = CONTEXT.get()
    if at_server:
        found = outer
        while found is not None:
            if isinstance(found.scope, Request):
                outer = found.outer
            found = found.outer
    fields = copy(outer.fields) if outer is not None else Fields()
    fields.trace_id, fields.parent_id, fields.span_name = request.trace_id, request.remote.parent_id, None
    return Context(fields, outer, request)


class Answering:
    """A block in the context of a request or a turn, which ends with it; without one, nothing.

    The previous value is set again, not reset by its token: a coroutine may be closed in another Context.
    """

    __slots__ = ("_before", "_context")

    def __init__(self, context: Context | None) -> None:
        self._context = context

    def __enter__(self) -> None:
        if self._context is not None:
            self._before = CONTEXT.get()
            CONTEXT.set(self._context)

    def __exit__(self, *_: object) -> None:
        if self._context is not None:
            CONTEXT.set(self._before)
            guard.attempt("end a request", self._context.scope.end)  # type: ignore[attr-defined]


def open_at_app(web: Web, received: Received) -> Context | None:
    """The context of a request that reaches an app; None where its server or another app has opened it."""
    around = current()
    if around is not None and around.is_of(received):
        return None
    return open_context(Request(web, received), at_server=False)
