"""Sanic: each request, under its own server and under others.

Sanic 22.12 to 25.12: `Sanic.handle_request(request)` answers a request, its streamed response and a websocket included.
`sanic.touchup` compiles it again from its source while an app starts (at the end of `_startup`), without our wrapper.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ...core import guard
from ...core.patching import replace
from ...settings.config import Config
from .native import Native, replace_answer, scheme_of
from .request import Request, Web


def route_of(request: Any) -> str | None:
    """The pattern of the route that matched."""
    path = getattr(request.route, "path", None)
    return f"/{path}" if isinstance(path, str) else None


def _read(app: Any, request: Any, *_: Any) -> Native:
    headers = request.headers
    return Native(
        request,
        lambda name: headers.getall(name, []),
        "utf-8",
        request.method,
        request.path,
        scheme_of(request.transport),
    )


def _see(around: Request, app: Any, request: Any, *_: Any) -> None:
    around.set_host(request, None, route_of)


def instrument(module: ModuleType, settings: Config) -> bool:
    """`sanic.app`."""
    web = Web(settings)

    def answers() -> bool:
        return replace_answer(module.Sanic, "handle_request", web, _read, _see, at_server=False)

    def wrap(startup: Callable[..., Any]) -> Callable[..., Any]:
        async def _startup(self: Any) -> None:
            await startup(self)
            guard.attempt("patch Sanic once more", answers)

        return _startup

    return any([answers(), replace(module.Sanic, "_startup", wrap)])
