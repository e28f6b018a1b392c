"""ASGI: apps of any kind under uvicorn (also as gunicorn's worker), hypercorn, daphne and granian.

uvicorn 0.30 to 0.54: every protocol class runs the app in `run_asgi`, with the scope on the instance; httptools and
websockets are optional. hypercorn 0.16 to 0.18: `ASGIWrapper.__call__(scope, ...)`. daphne 4:
`Server.create_application` starts the task of a request. granian 2: `_asgi_call_wrap` and `_wsgi_call_wrap` of its
servers get the app, and Rust calls what they return.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ...context.scope import CONTEXT, Context
from ...core import guard
from ...core.patching import classes_of, replace, replace_all
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

KINDS = ("http", "websocket")
_WANTED = frozenset(name.encode() for name in (DISTINCT_ID, SESSION_ID, WINDOW_ID))


class Scope(Received):
    """A request as an ASGI server describes it."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self.source: Any = scope
        self.method = scope.get("method")
        self.path = scope.get("path")
        self.scheme = scope.get("scheme") or ("http" if scope["type"] == "http" else "ws")
        self._headers = scope.get("headers") or ()
        self._server = scope.get("server")

    def headers(self) -> Mapping[str, list[bytes]]:
        found: dict[str, list[bytes]] = {DISTINCT_ID: [], SESSION_ID: [], WINDOW_ID: []}
        for name, value in self._headers:
            if name in _WANTED or name.lower() in _WANTED:
                found[name.decode().lower()].append(value)
        return found

    def is_copy_of(self, other: Received) -> bool:
        if isinstance(other, Scope):
            # The same list in every copy of a scope. Equal ones are not enough: asyncio may start a request inside the
            # ContextVars of another one of the same connection, which a proxy shares among its visitors
            # (github.com/python/cpython/issues/140947).
            return bool(self._headers) and self._headers is other._headers
        return super().is_copy_of(other)

    def get(self, name: str) -> bytes | str | None:
        wanted = name.encode()
        return next((value for known, value in self._headers if known == wanted), None)

    def host_and_port(self) -> str | None:
        for name, value in self._headers:
            if name == b"host":
                return str(value.decode("latin-1"))
        if not self._server or self._server[1] is None:  # a Unix socket has no port
            return None
        host, port = self._server
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def run(request: Context | None, app: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Await `app(*args)` inside the context of its request, which then ends."""
    with Answering(request):
        return await app(*args, **kwargs)


def at_app(web: Web, scope: Mapping[str, Any]) -> Context | None:
    """The context to open where a request reaches an app, if any."""
    return open_at_app(web, Scope(scope)) if scope["type"] in KINDS else None


def at_server(web: Web, scope: Mapping[str, Any]) -> Context | None:
    """The context to open where a request reaches a server, if any."""
    return open_context(Request(web, Scope(scope)), at_server=True) if scope["type"] in KINDS else None


def replace_app(cls: type, web: Web, see: Callable[[Request, Any], None] | None = None) -> bool:
    """Make the apps of a class open the context of each request; `see(request, scope)` is called then."""

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        async def __call__(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
            request = guard.attempt("open a request", at_app, web, scope)
            around = request.scope if request is not None else current()
            if see is not None and isinstance(around, Request):
                guard.attempt("see a request", see, around, scope)
            return await run(request, call, self, scope, *args, **kwargs)

        return __call__

    return replace(cls, "__call__", wrap)


def _uvicorn(module: ModuleType, web: Web) -> bool:
    def wrap(run_asgi: Callable[..., Any]) -> Callable[..., Any]:
        async def run_with_context(self: Any, *args: Any, **kwargs: Any) -> Any:
            request = guard.attempt("open a request", lambda: at_server(web, self.scope))
            return await run(request, run_asgi, self, *args, **kwargs)

        return run_with_context

    return sum(replace(cls, "run_asgi", wrap) for cls in classes_of(module)) > 0


def _hypercorn(module: ModuleType, web: Web) -> bool:
    from .wsgi import serve

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        async def __call__(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
            request = guard.attempt("open a request", at_server, web, scope)
            return await run(request, call, self, scope, *args, **kwargs)

        return __call__

    def wrap_wsgi(run_app: Callable[..., Any]) -> Callable[..., Any]:
        def run_with_context(self: Any, environ: Any, *args: Any, **kwargs: Any) -> Any:
            return serve(web, environ, run_app, self, environ, *args, **kwargs)

        return run_with_context

    return any([replace(module.ASGIWrapper, "__call__", wrap), replace(module.WSGIWrapper, "run_app", wrap_wsgi)])


def _daphne(module: ModuleType, web: Web) -> bool:
    def wrap(create: Callable[..., Any]) -> Callable[..., Any]:
        def create_application(self: Any, protocol: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
            request = guard.attempt("open a request", at_server, web, scope)
            before = CONTEXT.get()
            if request is not None:
                CONTEXT.set(request)  # the task that is made in there copies it
            try:
                return create(self, protocol, scope, *args, **kwargs)
            finally:
                CONTEXT.set(before)
                if request is not None:
                    guard.attempt("end a request", _end_with, request.scope, self, protocol)

        return create_application

    return replace(module.Server, "create_application", wrap)


def _end_with(request: Any, server: Any, protocol: Any) -> None:
    """End a request when the task that daphne made for it is done."""
    task = server.connections.get(protocol, {}).get("application_instance")
    if task is None:
        request.end()
    else:
        task.add_done_callback(lambda _: guard.attempt("end a request", request.end))


def _granian(module: ModuleType, web: Web) -> bool:
    from .wsgi import wrap_app

    def wrap(make: Callable[..., Any]) -> Callable[..., Any]:
        def _callback_wrapper(callback: Any, *args: Any, **kwargs: Any) -> Any:
            async def app(scope: Any, receive: Any, send: Any) -> Any:
                request = guard.attempt("open a request", at_server, web, scope)
                return await run(request, callback, scope, receive, send)

            return make(functools.update_wrapper(app, callback, updated=()), *args, **kwargs)

        return _callback_wrapper

    def wrap_wsgi(make: Callable[..., Any]) -> Callable[..., Any]:
        def _callback_wrapper(callback: Any, *args: Any, **kwargs: Any) -> Any:
            return make(functools.update_wrapper(wrap_app(web, callback), callback, updated=()), *args, **kwargs)

        return _callback_wrapper

    return replace_all(module, {"_asgi_call_wrap": wrap, "_wsgi_call_wrap": wrap_wsgi})


SERVERS = {"uvicorn": _uvicorn, "hypercorn": _hypercorn, "daphne": _daphne, "granian": _granian}


def instrument(module: ModuleType, settings: Config) -> bool:
    """A module of one of the servers."""
    return SERVERS[module.__name__.partition(".")[0]](module, Web(settings))
