"""Streamlit: each run of a script is a turn of its session.

Streamlit 1.30 to 1.67: `ScriptRunner._run_script` runs the script once, or a fragment of it; `_user_info` is what
`st.user` shows. Before a login its `is_logged_in` is False; Streamlit 1.41 and older had no login of their own and
gave test@example.com on a developer's machine. The thread of a script that runs has the session as
`streamlit_script_run_ctx`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ...core import guard
from ...core.patching import replace
from ...settings.config import Config
from ..web.request import Answering, Web
from . import turns

DEVELOPER = "test@example.com"


def user_of(host: Any) -> str | None:
    """The user who has logged in, by email or the provider's id."""
    if not isinstance(host, Mapping) or not host.get("is_logged_in", True):
        return None
    found = host.get("email") or host.get("sub")
    return found if isinstance(found, str) and found != DEVELOPER else None


def instrument(module: ModuleType, settings: Config) -> bool:
    """`streamlit.runtime.scriptrunner.script_runner`."""
    web = Web(settings)

    def wrap(run_script: Callable[..., Any]) -> Callable[..., Any]:
        def _run_script(self: Any, *args: Any, **kwargs: Any) -> Any:
            turn = guard.attempt(
                "open a turn", lambda: turns.open_turn(web, self._user_info, user_of, self._session_id)
            )
            with Answering(turn):
                return run_script(self, *args, **kwargs)

        return _run_script

    done = replace(module.ScriptRunner, "_run_script", wrap)
    running = getattr(threading.current_thread(), "streamlit_script_run_ctx", None)
    if running is not None:
        turns.join(web, running.user_info, user_of, running.session_id)
    return done
