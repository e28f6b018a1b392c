"""Web frameworks and servers: one file for each protocol or framework, which opens a context for each request.

A file has `HOOKS`: module name -> hook, called as `hook(module, web)` when that module has loaded, to patch what stands
in it. A protocol's file (`asgi`, `wsgi`) patches servers, so that any app has a context; a framework's file patches the
entry of its apps, so that they have one under any server, and adds what only it knows: the route and the user. Whoever
comes first opens the context of a request; the others find it open.

A framework's file is imported when one of its modules has loaded, so the names are spelled here a second time.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...core import guard, package, patching

if TYPE_CHECKING:
    from types import ModuleType

    from ...settings.config import Config
    from .request import Web

    Hook = Callable[[ModuleType, Web], None]

MODULES: Mapping[str, tuple[str, ...]] = {
    "web.asgi": (
        "uvicorn.protocols.http.h11_impl",
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.protocols.http.zttp_impl",
        "uvicorn.protocols.http.zttp_h2_impl",
        "uvicorn.protocols.websockets.websockets_impl",
        "uvicorn.protocols.websockets.websockets_sansio_impl",
        "uvicorn.protocols.websockets.wsproto_impl",
        "hypercorn.app_wrappers",
        "daphne.server",
        "granian.server.mp",
        "granian.server.mt",
        "granian.server.embed",
    ),
    "web.wsgi": (
        "gunicorn.http.wsgi",
        "gunicorn.workers.sync",
        "gunicorn.workers.gthread",
        "gunicorn.workers.base_async",
        "waitress.task",
        "werkzeug.serving",
        "wsgiref.handlers",
        "cheroot.wsgi",
    ),
    "web.starlette": ("starlette.applications", "starlette.background", "starlette.routing", "fastapi.routing"),
    "web.flask": ("flask.app",),
    "web.django": ("django.core.handlers.base", "django.core.handlers.wsgi", "django.core.handlers.asgi"),
    "web.aiohttp": ("aiohttp.web_protocol",),
    "web.tornado": ("tornado.web",),
    "web.sanic": ("sanic.app",),
    "sessions.gradio": ("gradio.blocks",),
    "sessions.streamlit": ("streamlit.runtime.scriptrunner.script_runner",),
    "sessions.chainlit": ("chainlit.utils", "chainlit.callbacks"),
}
"""File -> the modules that it patches."""

TURNS = ("gradio", "streamlit", "chainlit")
"""Those of sessions, whose turns have a context. Who only asks must not import them: Chainlit writes its configuration
into the current folder."""

hooked: dict[str, bool] = {}
"""Module that has loaded -> whether something in it is patched."""
_in_place = 0
"""Functions that were found by `patch`."""


def install(watch: Callable[[str, Callable[[str], None]], None], settings: Config) -> None:
    """Patch what is loaded, and what will be when it is: `watch(module, callback)` tells."""
    for file, modules in MODULES.items():
        for module in modules:
            callback = functools.partial(_loaded, file, settings)
            watch(module, callback)
            if module in sys.modules:
                callback(module)


def loaded(name: str) -> None:
    """One of the modules has loaded, in a program that has loaded no SDK yet."""
    from ...settings import loader

    settings = loader.load()
    if not settings.disabled:
        for file, modules in MODULES.items():
            if name in modules:
                _loaded(file, settings, name)


def _loaded(file: str, settings: Config, name: str) -> None:
    guard.attempt(f"hook {name}", _hook, file, settings, name)


def _hook(file: str, settings: Config, name: str) -> None:
    from ... import propagation
    from .request import Web

    propagation.install(settings)  # from now on contexts are opened
    hooks = package.load(f"integrations.{file}").HOOKS
    before = _in_place
    hooks[name](sys.modules[name], Web(settings.tracing_headers, settings.user, settings.trust_baggage))
    hooked[name] = _in_place > before


def patch(owner: type | ModuleType, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `wrap(function)` in the place of a function of a class or module, once; nothing where there is none."""
    global _in_place
    if patching.replace(owner, name, wrap):
        _in_place += 1
