"""Django, WSGI and ASGI: the route, and `request.user`, where the program has looked at it.

Django 4.2 to 5.2: `WSGIHandler.__call__`, `ASGIHandler.__call__`; `BaseHandler.get_response` and its asynchronous twin
get the request. `request.user` is a lazy object that asks the database when somebody looks at it: it is read only where
that has happened (`_wrapped`, or `_acached_user` for `request.auser()`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .. import guard
from . import asgi, patch, wsgi
from .request import Web, current


def user_of(host: Any) -> str | None:
    """The signed-in user of a request, as its primary key. Never asks the database."""
    values = vars(host)
    functional = sys.modules.get("django.utils.functional")
    for name in ("user", "_cached_user", "_acached_user"):
        user = values.get(name)
        if user is None:
            continue
        held = vars(user)
        if "_wrapped" in held:
            user = held["_wrapped"]
            if functional is None or user is functional.empty:
                continue
        if getattr(user, "is_authenticated", False):
            key = getattr(user, "pk", None)
            return None if key is None else str(key)
        return None
    return None


def route_of(host: Any) -> str | None:
    """The pattern that a request matched."""
    match = vars(host).get("resolver_match")
    route = match.route if match is not None else None
    return route if not route or route.startswith(("/", "^")) else f"/{route}"


def _see(host: Any) -> None:
    request = current()
    if request is not None:
        request.seen(host, user_of, route_of, until_end=True)


def _base(module: ModuleType, web: Web) -> None:
    def wrap(get_response: Callable[..., Any]) -> Callable[..., Any]:
        def get_response_seen(self: Any, request: Any) -> Any:
            guard.attempt("see a request", _see, request)
            return get_response(self, request)

        return get_response_seen

    def wrap_async(get_response: Callable[..., Any]) -> Callable[..., Any]:
        async def get_response_async(self: Any, request: Any) -> Any:
            guard.attempt("see a request", _see, request)
            return await get_response(self, request)

        return get_response_async

    patch(module.BaseHandler, "get_response", wrap)
    patch(module.BaseHandler, "get_response_async", wrap_async)


def _wsgi(module: ModuleType, web: Web) -> None:
    # A response that is not streaming has its content already; the server gets the object that it would have got.
    wsgi.patch_app(module.WSGIHandler, web, lambda body: not getattr(body, "streaming", False))


def _asgi(module: ModuleType, web: Web) -> None:
    asgi.patch_app(module.ASGIHandler, web)


HOOKS = {
    "django.core.handlers.base": _base,
    "django.core.handlers.wsgi": _wsgi,
    "django.core.handlers.asgi": _asgi,
}
