"""Starlette, and FastAPI, whose apps and routes are Starlette's: the route, and the user of its authentication.

Starlette 0.27 to 1.10: `Route.handle(scope, ...)`; `scope["user"]` by `AuthenticationMiddleware`; `root_path` grows by
what was mounted, and `app_root_path` is what it was; `add_task` makes a `BackgroundTask`. FastAPI 0.165 keeps the whole
path of a route of an included router in `scope["fastapi"]["effective_route_context"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ...context.scope import CONTEXT, current_for_thread
from ...core import guard
from ...core.patching import replace, replace_all
from ...settings.config import Config
from . import asgi
from .request import Request, Web, current

BLOCK = "_posthog_autoinstrument_block"
"""On a background task: the block in which it was made."""


def user_of(host: Any) -> str | None:
    """The signed-in user of a scope."""
    user = host.get("user")
    if user is None or isinstance(user, str):
        return user
    if not getattr(user, "is_authenticated", True):
        return None
    for name in ("identity", "id", "pk", "username", "display_name"):
        value = guard.quietly(getattr, user, name, None)
        if isinstance(value, (str, int)) and value != "":
            return str(value)
    return None


def _route_of(route: Any) -> Callable[[Mapping[str, Any]], str | None]:
    def route_of(scope: Mapping[str, Any]) -> str | None:
        included = (scope.get("fastapi") or {}).get("effective_route_context")
        path = getattr(included, "path_format", None) or getattr(route, "path", None)
        mounted = str(scope.get("root_path") or "").removeprefix(str(scope.get("app_root_path") or ""))
        return f"{mounted}{path}" if path and "app_root_path" in scope else path

    return route_of


def _see_app(request: Request, scope: Any) -> None:
    if scope["type"] in asgi.KINDS:
        request.set_host(scope, user_of)


def _see(route: Any, scope: Any) -> None:
    request = current()
    if request is not None:
        request.set_host(scope, user_of, _route_of(route))


def _routing(module: ModuleType) -> bool:
    def wrap(handle: Callable[..., Any]) -> Callable[..., Any]:
        async def handle_seen(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
            guard.attempt("see a route", _see, self, scope)
            return await handle(self, scope, *args, **kwargs)

        return handle_seen

    # FastAPI's `APIRoute` has one of its own since it has effective routes.
    names = ("Route", "WebSocketRoute", "APIRoute", "APIWebSocketRoute")
    return sum(replace(vars(module).get(name), "handle", wrap) for name in names) > 0


def _background(module: ModuleType) -> bool:
    def wrap_init(init: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            inside = current_for_thread()
            if inside is not None and not isinstance(inside.scope, Request):  # it runs inside its request anyway
                self.__dict__[BLOCK] = inside

        return __init__

    def wrap_call(call: Callable[..., Any]) -> Callable[..., Any]:
        async def __call__(self: Any) -> Any:
            inside = self.__dict__.get(BLOCK)
            if inside is None:
                return await call(self)
            before = CONTEXT.get()
            CONTEXT.set(inside)
            try:
                return await call(self)
            finally:
                CONTEXT.set(before)

        return __call__

    return replace_all(module.BackgroundTask, {"__init__": wrap_init, "__call__": wrap_call})


def instrument(module: ModuleType, settings: Config) -> bool:
    """`starlette.applications`, `starlette.background`, `starlette.routing` or `fastapi.routing`."""
    if module.__name__ == "starlette.applications":
        return asgi.replace_app(module.Starlette, Web(settings), _see_app)
    return (_background if module.__name__ == "starlette.background" else _routing)(module)
