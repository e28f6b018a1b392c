"""Tornado: each request of an application, and the user that its handler has found.

Tornado 6.1 to 6.6: `RequestHandler._execute` answers a request, a websocket until it is closed. `current_user` calls
the program's `get_current_user` once, when it is used; it is read only where that has happened (`_current_user`).
Handlers do not know which rule led to them.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...settings.config import Config
from .native import Native, replace_answer
from .request import Request, Web


def user_of(handler: Any) -> str | None:
    """The user, where it is a text or a number, or has an id or a name."""
    user = vars(handler).get("_current_user")
    if isinstance(user, bytes):
        return user.decode("utf-8", "replace")
    if isinstance(user, dict):
        user = next((user[name] for name in ("id", "username") if user.get(name)), None)
    elif user is not None and not isinstance(user, (str, int)):
        user = next((found for name in ("id", "username") if (found := getattr(user, name, None))), None)
    return str(user) if isinstance(user, (str, int)) and not isinstance(user, bool) and user != "" else None


def route_of(handler: Any) -> str | None:
    """The pattern of the first rule that leads to such a handler by the path of its request."""
    path = handler.request.path
    rules = list(handler.application.default_router.rules)
    while rules:
        rule = rules.pop(0)
        inner = getattr(rule.target, "rules", None)
        if inner is not None:
            rules[:0] = inner
        elif rule.target is type(handler):
            regex = getattr(rule.matcher, "regex", None)
            if regex is not None and regex.match(path):
                return str(regex.pattern).rstrip("$")
    return None


def _read(handler: Any, *_: Any) -> Native:
    request = handler.request
    return Native(request, request.headers.get_list, "latin-1", request.method, request.path, request.protocol)


def _see(around: Request, handler: Any, *_: Any) -> None:
    around.set_host(handler, user_of, route_of)


def instrument(module: ModuleType, settings: Config) -> bool:
    """`tornado.web`."""
    return replace_answer(module.RequestHandler, "_execute", Web(settings), _read, _see)
