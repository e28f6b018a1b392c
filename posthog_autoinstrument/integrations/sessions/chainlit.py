"""Chainlit: each message, start of a chat, action or other callback is a turn of its session.

Chainlit 2.0 to 2.12: `wrap_user_function` makes the coroutine function that is called for a callback, kept in
`config.code`; `context_var` then has the session, whose `thread_id` is the conversation and whose `user` has logged in.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...context.scope import Context
from ...core import guard, patching
from ...core.patching import replace
from ...settings.config import Config
from ..web import asgi
from ..web.request import Web
from . import turns


def user_of(host: Any) -> str | None:
    """The user who has logged in."""
    found = getattr(getattr(host, "user", None), "identifier", None)
    return found if isinstance(found, str) else None


def _session() -> Any:
    """The session whose callback runs here, if any."""
    module = sys.modules.get("chainlit.context")
    chat = module.context_var.get(None) if module is not None else None
    return getattr(chat, "session", None)


def _open_turn(web: Web) -> Context | None:
    session = _session()
    return turns.open_turn(web, session, user_of, getattr(session, "thread_id", None)) if session is not None else None


def _in_turn(web: Web, callback: Any) -> Any:
    if patching.is_patched(callback):
        return callback

    async def in_turn(*args: Any, **kwargs: Any) -> Any:
        return await asgi.run(guard.attempt("open a turn", _open_turn, web), callback, *args, **kwargs)

    return patching.mark(in_turn, callback)


def _wrapper(module: ModuleType, web: Web) -> bool:
    def wrap(make: Callable[..., Any]) -> Callable[..., Any]:
        def wrap_user_function(*args: Any, **kwargs: Any) -> Any:
            return _in_turn(web, make(*args, **kwargs))

        return wrap_user_function

    return replace(module, "wrap_user_function", wrap)


def instrument(module: ModuleType, settings: Config) -> bool:
    """`chainlit.utils` or `chainlit.callbacks`, which has imported the function of the other."""
    web = Web(settings)
    done = _wrapper(module, web)
    if module.__name__ == "chainlit.callbacks":
        _join(web)
    return done


def _join(web: Web) -> None:
    """Wrap the callbacks that are registered already, and be in the turn that runs here."""
    config = getattr(sys.modules.get("chainlit.config"), "config", None)
    code = getattr(config, "code", None)
    for name, callback in list(vars(code).items()) if code is not None else ():
        if inspect.iscoroutinefunction(callback):  # one that the program has given before
            setattr(code, name, _in_turn(web, callback))
    session = _session()
    if session is not None:
        turns.join(web, session, user_of, getattr(session, "thread_id", None))
