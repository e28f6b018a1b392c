"""Turns of sessions: what a library runs for one user at a time outside of a web request (a message, a rerun)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...context.fields import Fields
from ...context.scope import CONTEXT, Context
from ..web.request import Received, Request, Web, current, open_context


class Turn(Request):
    """One turn. `host` is the library's object for its session, from which `user_of` reads the user."""

    def __init__(self, web: Web, host: Any, user_of: Callable[[Any], str | None]) -> None:
        super().__init__(web, None)
        self.set_host(host, user_of, until_end=True)

    def is_of(self, received: Received) -> bool:
        return False

    def fields(self) -> Fields:
        self._look()
        return Fields(self._find_user(), self.trace_id)


def open_turn(web: Web, host: Any, user_of: Callable[[Any], str | None], session: Any) -> Context:
    """The context of a turn: in a trace of its own, without the request or turn that happened to start its thread or
    task. Blocks around the whole process stay in force."""
    context = open_context(Turn(web, host, user_of), at_server=True)
    if isinstance(session, str) and session:
        context.fields.session_id = session
    return context


def join(web: Web, host: Any, user_of: Callable[[Any], str | None], session: Any) -> None:
    """Be in a turn that runs here already, where the program instruments itself in the middle of one."""
    if not isinstance(current(), Turn):
        CONTEXT.set(open_turn(web, host, user_of, session))
