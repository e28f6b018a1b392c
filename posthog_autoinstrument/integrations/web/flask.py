"""Flask: the route, and the user of Flask-Login.

Flask 2.2 to 3.1: `Flask.__call__` is the app's entry, `full_dispatch_request` runs inside the request's context, whose
session is `_session` (once `session`). It is read past its own methods: they record the access, and Flask would answer
with one more header (`Vary: Cookie`).
Flask-Login 0.6: `session["_user_id"]`, written at the login, and `g._login_user`, once the program has used it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...core import guard
from ...core.patching import replace
from ...settings.config import Config
from . import wsgi
from .request import Web, current


def _see(flask_globals: dict[str, Any]) -> None:
    request = current()
    if request is None:
        return
    shown, g, context = [flask_globals[name]._get_current_object() for name in ("request", "g", "request_ctx")]
    held = vars(context)
    session = held.get("_session", held.get("session"))

    def user_of(host: Any) -> str | None:
        if "flask_login" not in sys.modules:
            return None
        user = vars(g).get("_login_user")
        if user is not None and not user.is_authenticated:
            return None
        named = dict.get(session, "_user_id") if isinstance(session, dict) else None
        if named is None and user is not None:
            named = user.get_id()
        return None if named is None else str(named)

    request.set_host(shown, user_of, route_of)


def route_of(host: Any) -> str | None:
    """The rule that a request matched."""
    rule = vars(host).get("url_rule")
    return rule.rule if rule is not None else None


def instrument(module: ModuleType, settings: Config) -> bool:
    """`flask.app`."""

    def wrap(dispatch: Callable[..., Any]) -> Callable[..., Any]:
        def full_dispatch_request(*args: Any, **kwargs: Any) -> Any:
            guard.attempt("see a request", _see, vars(sys.modules["flask.globals"]))
            return dispatch(*args, **kwargs)

        return full_dispatch_request

    return any([wsgi.replace_app(module.Flask, Web(settings)), replace(module.Flask, "full_dispatch_request", wrap)])
