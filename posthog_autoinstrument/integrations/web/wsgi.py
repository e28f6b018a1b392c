"""WSGI: apps of any kind under gunicorn, waitress, werkzeug, wsgiref, hypercorn, cheroot and granian. Frameworks also
under uWSGI and the rest: see `replace_app`.

A server answers a request, its response included, in one method, around which the context is open; another method
makes the environ meanwhile. gunicorn 22 to 27, waitress 3, werkzeug 2 and 3, wsgiref of Python 3.10 to 3.13, cheroot
10 and 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from ...context.scope import CONTEXT, Context
from ...core import guard
from ...core.patching import classes_of, replace
from ...settings.config import Config
from .request import (
    DISTINCT_ID,
    SESSION_ID,
    WINDOW_ID,
    Answering,
    Received,
    Request,
    Web,
    current,
    open_at_app,
    open_context,
)


class Environ(Received):
    """A request as a WSGI server describes it."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self.source: Any = environ
        get = environ.get
        self.method = get("REQUEST_METHOD")
        self.path = _text((get("SCRIPT_NAME") or "") + (get("PATH_INFO") or ""))
        self.scheme = get("wsgi.url_scheme") or "http"
        self._host = get("HTTP_HOST")
        self._propagated = {"traceparent": get("HTTP_TRACEPARENT"), "baggage": get("HTTP_BAGGAGE")}
        self._server = get("SERVER_NAME"), get("SERVER_PORT")
        self._headers = [
            (DISTINCT_ID, get("HTTP_X_POSTHOG_DISTINCT_ID")),
            (SESSION_ID, get("HTTP_X_POSTHOG_SESSION_ID")),
            (WINDOW_ID, get("HTTP_X_POSTHOG_WINDOW_ID")),
        ]

    def headers(self) -> Mapping[str, list[bytes]]:
        return {name: [value.encode("latin-1", "replace")] if value else [] for name, value in self._headers}

    def get(self, name: str) -> bytes | str | None:
        return self._propagated.get(name)

    def host_and_port(self) -> str | None:
        if self._host or not all(self._server):
            return self._host
        return f"{self._server[0]}:{self._server[1]}"


def _text(value: str) -> str:
    """A text of an environ, where each byte is a character (PEP 3333)."""
    return value if value.isascii() else value.encode("latin-1", "replace").decode("utf-8", "replace")


def serve(web: Web, environ: Mapping[str, Any] | None, answer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call what answers a request, from its arrival to the end of its response, inside a context of its own."""
    received = guard.attempt("read a request", Environ, environ) if environ is not None else None
    request = guard.attempt("open a request", open_context, Request(web, received), True)
    with Answering(request):
        return answer(*args, **kwargs)


def fill(environ: Any) -> None:
    """Give the request that is answered here the environ that its server has made."""
    request = current()
    if request is not None and request.received is None:
        request.receive(Environ(environ))


class Body:
    """A lazy response body, each step of which runs in the context of its request. Its consumer does not."""

    def __init__(self, body: Any, request: Context) -> None:
        self._body = body
        self._context: Context | None = request
        self._request = request.scope
        self._items: Iterator[Any] | None = None

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        before = CONTEXT.get()
        CONTEXT.set(self._context)
        try:
            return step(*args)
        finally:
            self._context = CONTEXT.get()  # blocks that the body has open over its `yield`
            CONTEXT.set(before)

    def __iter__(self) -> Body:
        self._items = self._step(iter, self._body)
        return self

    def __next__(self) -> Any:
        if self._items is None:
            self.__iter__()
        return self._step(next, self._items)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                self._step(close)
        finally:
            guard.attempt("end a request", self._request.end)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


class SizedBody(Body):
    """A body with a length: servers derive the content length from a body of one part."""

    def __len__(self) -> int:
        return len(self._body)


def _is_made(body: Any) -> bool:
    """Whether no code is left to run for a body, or the server needs the object itself, to send a file."""
    return isinstance(body, (list, tuple, bytes)) or hasattr(body, "read") or hasattr(body, "filelike")


def replace_app(cls: type, web: Web, is_made: Callable[[Any], bool] = _is_made) -> bool:
    """Make the apps of a class open the context of each request, where no instrumented server has: under uWSGI,
    mod_wsgi, a test client."""

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def __call__(self: Any, environ: Any, *args: Any, **kwargs: Any) -> Any:
            request = guard.attempt("open a request", lambda: open_at_app(web, Environ(environ)))
            if request is None:
                return call(self, environ, *args, **kwargs)
            return _answer(request, is_made, call, self, environ, *args, **kwargs)

        return __call__

    return replace(cls, "__call__", wrap)


def _answer(
    request: Context, is_made: Callable[[Any], bool], app: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    before = CONTEXT.get()
    CONTEXT.set(request)
    lazy = False
    try:
        body = app(*args, **kwargs)
        lazy = not guard.attempt("look at a response", is_made, body)
    finally:
        CONTEXT.set(before)
        if not lazy:
            guard.attempt("end a request", request.scope.end)  # type: ignore[attr-defined]
    if not lazy:
        return body
    return (SizedBody if hasattr(body, "__len__") else Body)(body, request)


def wrap_app(web: Web, app: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an app for a server that has no method around the response (granian's is in Rust)."""

    def answer(environ: Any, start_response: Any) -> Any:
        request = guard.attempt("open a request", lambda: open_context(Request(web, Environ(environ)), at_server=True))
        if request is None:
            return app(environ, start_response)
        return _answer(request, _is_made, app, environ, start_response)

    return answer


def _replace_answer(cls: type, name: str, web: Web) -> bool:
    """Replace the method of a server in which it answers a request."""

    def wrap(answer: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: serve(web, None, answer, *args, **kwargs)

    return replace(cls, name, wrap)


def _replace_environ(owner: type | ModuleType, name: str, environ_of: Callable[[Any, Any], Any]) -> bool:
    """Replace the function of a server that makes the environ: `environ_of(first argument, result)`."""

    def wrap(make: Callable[..., Any]) -> Callable[..., Any]:
        def make_environ(*args: Any, **kwargs: Any) -> Any:
            result = make(*args, **kwargs)
            guard.attempt("read a request", lambda: fill(environ_of(args[0], result)))
            return result

        return make_environ

    return replace(owner, name, wrap)


def _gunicorn(module: ModuleType, web: Web) -> bool:
    if module.__name__ == "gunicorn.http.wsgi":
        return _replace_environ(module, "create", lambda request, result: result[1])
    names = ("handle_request", "handle_http2_request")
    return sum(_replace_answer(cls, name, web) for cls in classes_of(module) for name in names) > 0


def _waitress(module: ModuleType, web: Web) -> bool:
    task = module.WSGITask
    return any(
        [_replace_answer(task, "execute", web), _replace_environ(task, "get_environment", lambda task, result: result)]
    )


def _werkzeug(module: ModuleType, web: Web) -> bool:
    handler = module.WSGIRequestHandler
    return any(
        [
            _replace_answer(handler, "run_wsgi", web),
            _replace_environ(handler, "make_environ", lambda handler, result: result),
        ]
    )


def _wsgiref(module: ModuleType, web: Web) -> bool:
    handler = module.BaseHandler
    return any(
        [
            _replace_answer(handler, "run", web),
            _replace_environ(handler, "setup_environ", lambda handler, result: handler.environ),
        ]
    )


def _cheroot(module: ModuleType, web: Web) -> bool:
    def wrap(respond: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self: serve(web, getattr(self, "env", None), respond, self)

    return replace(module.Gateway, "respond", wrap)


SERVERS = {
    "gunicorn": _gunicorn,
    "waitress": _waitress,
    "werkzeug": _werkzeug,
    "wsgiref": _wsgiref,
    "cheroot": _cheroot,
}


def instrument(module: ModuleType, settings: Config) -> bool:
    """A module of one of the servers."""
    return SERVERS[module.__name__.partition(".")[0]](module, Web(settings))
