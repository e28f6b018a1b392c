"""Django, WSGI and ASGI: the route, and the signed-in user.

Django 4.2 to 5.2: `WSGIHandler.__call__`, `ASGIHandler.__call__`; `BaseHandler.get_response` and its asynchronous twin
get the request. `request.user` is a lazy object that queries the database when it is used: it is read only where the
program has used it (`_wrapped`, or `_acached_user` for `request.auser()`), else the session has the user's key.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...core import guard
from ...core.patching import replace_all
from ...settings.config import Config
from . import asgi, wsgi
from .request import Web, current


def user_of(host: Any) -> str | None:
    """The primary key of the signed-in user, where the program has loaded it. Makes no query."""
    user = _looked_at(host)
    key = getattr(user, "pk", None) if getattr(user, "is_authenticated", False) else None
    return None if key is None else str(key)


def _looked_at(host: Any) -> Any:
    """The user object (AnonymousUser without a login); None where the program has not loaded it yet."""
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
        return user
    return None


def _asking() -> Callable[[Any], str | None]:
    """A function that finds the user of one request where the program has not loaded it."""
    found: dict[str, str | None] = {}

    def session_user_of(host: Any) -> str | None:
        """The user of the session, read by its key through a session object of our own: an access to the program's own
        one would be recorded there, and change the answer (`Vary: Cookie`). One query, at most once a session and
        request, and none where it could do harm: in an event loop, or in a transaction, which a failing query would
        break."""
        session, auth = vars(host).get("session"), sys.modules.get("django.contrib.auth")
        if session is None or auth is None or _looked_at(host) is not None:
            return None
        held = vars(session).get("_session_cache")  # once it is read
        if held is None:
            key = session.session_key
            if not key or _must_not_ask():
                return None
            if key in found:
                return found[key]
            found[key] = None
            held = type(session)(key).load()
        user = held.get(auth.SESSION_KEY)
        if user is None:
            return None
        if session.session_key:
            found[session.session_key] = str(user)
        return str(user)

    return session_user_of


def _must_not_ask() -> bool:
    asyncio, db = sys.modules.get("asyncio"), sys.modules.get("django.db")
    if db is None:
        return True
    if asyncio is not None:
        try:
            asyncio.get_running_loop()
            return True
        except RuntimeError:
            pass
    return any(connection.in_atomic_block for connection in db.connections.all(initialized_only=True))


def route_of(host: Any) -> str | None:
    """The pattern that a request matched."""
    match = vars(host).get("resolver_match")
    route = match.route if match is not None else None
    return route if not route or route.startswith(("/", "^")) else f"/{route}"


def _see(host: Any) -> None:
    request = current()
    if request is not None:
        request.set_host(host, user_of, route_of, until_end=True, ask=_asking())


def instrument(module: ModuleType, settings: Config) -> bool:
    """`django.core.handlers.base`, `wsgi` or `asgi`."""
    if module.__name__ == "django.core.handlers.base":
        makes = {"get_response": _get_response, "get_response_async": _get_response_async}
        return replace_all(module.BaseHandler, makes)
    if module.__name__ == "django.core.handlers.wsgi":
        # A response that is not streaming has its content already; the server gets the object that it would have got.
        return wsgi.replace_app(module.WSGIHandler, Web(settings), lambda body: not getattr(body, "streaming", False))
    return asgi.replace_app(module.ASGIHandler, Web(settings))


def _get_response(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_response(self: Any, request: Any) -> Any:
        guard.attempt("see a request", _see, request)
        return original(self, request)

    return get_response


def _get_response_async(original: Callable[..., Any]) -> Callable[..., Any]:
    async def get_response_async(self: Any, request: Any) -> Any:
        guard.attempt("see a request", _see, request)
        return await original(self, request)

    return get_response_async
