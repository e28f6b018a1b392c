"""Where finished spans and feedback go. The agent makes it in every process, whether it uses any or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..context import fields
from ..core import guard


class Recorder:
    """Where a process's finished spans and feedback go. Made by the agent."""

    def __init__(self, emit: Callable[[Any, bool], None], defaults: fields.Fields, active: bool) -> None:
        self.emit = emit
        self.defaults = defaults
        self.active = active
        self.awaken: Callable[[], bool] = lambda: False
        """Asked for each span while nothing is captured: whether it is from now on."""


recorder: Recorder | None = None
"""That of this process: set by the agent when it starts."""
start: Callable[[], object] | None = None
"""Starts the agent, where the launcher is and no SDK was imported yet. Set by the agent's module."""


def active_recorder() -> Recorder | None:
    """The recorder of this process; None where nothing is captured."""
    if recorder is None and start is not None:
        guard.attempt("start", start)
    return recorder if recorder is not None and (recorder.active or recorder.awaken()) else None


def is_recorder_made() -> bool:
    """Whether there is an agent in this process, switched off or not."""
    return recorder is not None
