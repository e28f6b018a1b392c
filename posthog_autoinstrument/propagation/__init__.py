"""Borders: where a program goes on in another thread, process or service, and the open context with it.

One file for each border, all of one shape: `patch(module)` is told of the module that it is about when that has loaded,
and must be idempotent. `install` begins it, where a context may be open: not by `import openai`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from ..core import guard, package
from ..settings import loader

if TYPE_CHECKING:
    from ..settings.config import Config

FINDER = "_posthog_autoinstrument_finder"
"""On `sys`: the import hook of this interpreter, where an agent is or will be."""
ATTRIBUTE = "_posthog_autoinstrument_context"
"""Attribute of a thread, process or task of the program: the context that it is to run in."""

BORDERS = {
    "threading": "propagation.threads",
    "concurrent.futures.thread": "propagation.executors",
    "concurrent.futures.process": "propagation.executors",
    "multiprocessing.process": "propagation.processes",
    "multiprocessing.pool": "propagation.pools",
    "subprocess": "propagation.subprocesses",
    "os": "propagation.os_programs",
    "celery.signals": "integrations.workers.celery",
    "dramatiq.actor": "integrations.workers.dramatiq",
    "dramatiq.worker": "integrations.workers.dramatiq",
    "rq.job": "integrations.workers.rq",
    "distributed.client": "integrations.workers.distributed",
    "distributed.worker": "integrations.workers.distributed",
    "huey.serializer": "integrations.workers.huey",
    "huey.api": "integrations.workers.huey",
    "anyio.to_thread": "propagation.anyio",
    "gevent.greenlet": "propagation.gevent",
    "gevent.hub": "propagation.gevent",
    "gevent.threadpool": "propagation.gevent",
    "eventlet.hubs.hub": "propagation.eventlet",
    "eventlet.tpool": "propagation.eventlet",
}
"""Module -> the file that patches it."""
SERVICES = {
    "requests.adapters": "integrations.http_clients.requests",
    "httpx._transports.default": "integrations.http_clients.httpx",
    "httpx2._transports.default": "integrations.http_clients.httpx",
    "aiohttp.client_reqrep": "integrations.http_clients.aiohttp",
}
"""The same of requests to other services, where the user lists any."""

hosts: frozenset[str] = frozenset()
"""The services that are told, as `host` or `host:port`. Set by `install`."""
_installed = False


def install(settings: Config | None = None) -> None:
    """Patch what is loaded of the borders, and what will be when it is. Idempotent, never raises."""
    global _installed
    if not _installed:
        _installed = True
        guard.attempt("install the borders", _install, settings or loader.load())


def _install(settings: Config) -> None:
    global hosts
    if settings.disabled or not settings.propagate:
        return
    hosts = settings.propagate_hosts
    _watch(BORDERS)
    if hosts:
        _watch(SERVICES)


def _watch(names: Iterable[str]) -> None:
    finder = getattr(sys, FINDER, None)  # `wake` is above us
    for name in names:
        if finder is not None:
            finder.watch(name, patch)
        if name in sys.modules:
            patch(name)


def patch(name: str) -> None:
    """The module `name` has loaded. Never raises."""
    module = sys.modules.get(name)
    if module is not None:
        guard.attempt(f"patch {name}", _patch, module, BORDERS.get(name) or SERVICES[name])


def _patch(module: ModuleType, file: str) -> None:
    package.load(file).patch(module)
