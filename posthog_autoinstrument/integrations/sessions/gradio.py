"""Gradio: each event has a context of its own, whichever task or thread its queue runs it in.

Gradio 4.44 to 6.31: `Blocks.process_api` runs the function of an event, once, or once for each step of a generator. The
web request that started it is `request.request` at every step; where events are batched, `request` is a list, in 4.44
without any. The queue's tasks are started by the first request: its context in them is not that of an event.
`username` is the user of `auth=`, `session_hash` an open page.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from types import ModuleType
from typing import Any

from ...context.fields import NO_FIELDS
from ...context.scope import CONTEXT, Context
from ...core import guard
from ...core.patching import replace
from ...settings.config import Config
from ..web import starlette
from ..web.asgi import Scope
from ..web.request import Request, Web, open_context
from .turns import Turn

KEY = "posthog_autoinstrument.event"
"""In the scope of the web request, between two steps of its event."""


def user_of(host: Any) -> str | None:
    """The user who has logged in to the page, else to the app around it."""
    if isinstance(host.username, str) and host.username:
        return host.username
    return starlette.user_of(host.request.scope) if host.request is not None else None


class Event:
    """One event: the context in which its next step is made."""

    def __init__(self, web: Web, host: Any, session: Any, queued: bool) -> None:
        self._scope = host.request.scope if host.request is not None else {}
        self._request: Request | None = None
        if queued:
            if self._scope:
                self._request = Request(web, Scope(self._scope))
                self._request.set_host(host, user_of)
            else:
                self._request = Turn(web, host, user_of)
            around: Context | None = open_context(self._request, at_server=True)
        else:
            around = CONTEXT.get()  # that of the request which waits for it
        fields = copy(around.fields) if around is not None else copy(NO_FIELDS)
        fields.session_id = session if isinstance(session, str) and session else fields.session_id
        if around is not None and self._request is not None:
            self.context: Context | None = Context(fields, around.outer, around.scope)
        else:
            self.context = Context(fields, around, self)

    def step_ended(self, goes_on: bool) -> None:
        """A step is made, the last one if the event does not go on."""
        if goes_on:
            self._scope[KEY] = self
        elif self._request is not None:
            self._request.end()


def instrument(module: ModuleType, settings: Config) -> bool:
    """`gradio.blocks`."""
    web = Web(settings)

    def begun(options: dict[str, Any]) -> Event | None:
        request = options.get("request")
        host: Any = request[0] if isinstance(request, list) and request else request
        if host is None or not hasattr(host, "username"):
            return None
        event: Event | None = host.request.scope.pop(KEY, None) if host.request is not None else None
        if event is None:
            queued = options.get("event_id") is not None or isinstance(request, list)
            event = Event(web, host, options.get("session_hash"), queued)
        return event

    def wrap(process: Callable[..., Any]) -> Callable[..., Any]:
        async def process_api(*args: Any, **kwargs: Any) -> Any:
            event = guard.attempt("open an event", begun, kwargs)
            if event is None:
                return await process(*args, **kwargs)
            before = CONTEXT.get()
            CONTEXT.set(event.context)
            goes_on = False
            try:
                output = await process(*args, **kwargs)
                goes_on = isinstance(output, dict) and bool(output.get("is_generating"))
                return output
            finally:
                event.context = CONTEXT.get()  # blocks that a generator has open over its `yield`
                CONTEXT.set(before)
                guard.attempt("end a step", event.step_ended, goes_on)

        return process_api

    return replace(module.Blocks, "process_api", wrap)
