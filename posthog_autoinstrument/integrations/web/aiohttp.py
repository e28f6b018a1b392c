"""aiohttp.web: apps and bare servers, also under gunicorn.

aiohttp 3.8 to 3.14: `RequestHandler._handle_request(request, ...)` of `web_protocol` answers a request in a task of its
own, and `Application._handle` keeps in the request which route matched. A websocket is one request.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...settings.config import Config
from .native import Native, replace_answer, scheme_of
from .request import Request, Web


def route_of(host: Any) -> str | None:
    """The pattern of the resource that matched."""
    route = getattr(getattr(host, "_match_info", None), "route", None)
    canonical = getattr(getattr(route, "resource", None), "canonical", None)
    return canonical if isinstance(canonical, str) else None


def _read(protocol: Any, request: Any, *_: Any) -> Native:
    headers = request.headers
    return Native(
        request,
        lambda name: headers.getall(name, []),
        "utf-8",
        request.method,
        request.rel_url.raw_path,
        scheme_of(request.transport),
    )


def _see(around: Request, protocol: Any, request: Any, *_: Any) -> None:
    around.set_host(request, None, route_of)


def instrument(module: ModuleType, settings: Config) -> bool:
    """`aiohttp.web_protocol`."""
    return replace_answer(module.RequestHandler, "_handle_request", Web(settings), _read, _see)
