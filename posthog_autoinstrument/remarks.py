"""What a program or its user says of a trace: feedback and metrics."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import context, guard, jsonsafe
from .calls import Intent
from .recording import Recorder, recording
from .spans import Finished

if TYPE_CHECKING:
    from .records import Identity, Record


class FinishedRemark(Finished):
    """Feedback, or a metric of a name, about one trace."""

    def __init__(self, to: Recorder, trace_id: str, name: str | None, value: str) -> None:
        super().__init__(to, Intent(None), len(value), os.getpid())
        self.intent.call_fields = context.Fields(trace_id=trace_id)
        self.name = name
        self.value = value

    def record(self, records: Any, uuid: str, identity: Identity) -> Record:
        about = replace(identity, parent_id=None, span_name=None)
        made: Record = records.Remark(
            uuid=uuid, ended_at=self.ended_at, identity=about, name=self.name, value=self.value
        )
        return made


def capture_feedback(text: str, trace_id: str | None = None) -> None:
    """Record what a user says of an answer: feedback on a trace, by default the one that is open here.

    Raises TypeError for a text or trace id that is no string, ValueError where there is no trace.
    """
    if not isinstance(text, str):
        raise TypeError(f"capture_feedback: text must be a string, not {type(text).__name__}")
    _capture("capture_feedback", trace_id, None, text)


def capture_metric(name: str, value: float | int | str | bool, trace_id: str | None = None) -> None:
    """Record a measure of an answer (a score, a rating, a verdict): a metric of a trace, as `capture_feedback`.

    Raises TypeError for a name that is no string and a value that is no number, text or bool, ValueError where there
    is no trace.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"capture_metric: name must be a string with something in it, not {guard.describe(name, 50)}")
    if not isinstance(value, (int, float, str)):
        raise TypeError(f"capture_metric: value must be a number, a string or a bool, not {type(value).__name__}")
    _capture("capture_metric", trace_id, name, value)


def _capture(function: str, trace_id: str | None, name: str | None, value: Any) -> None:
    about = context.checked_text(function, "trace_id", trace_id) or context.current_trace_id()
    if about is None:
        raise ValueError(f"{function}: no trace is open here; say which one with trace_id")
    to = recording()
    if to is not None:
        guard.attempt("keep a remark", _emit, to, about, name, value)


def _emit(to: Recorder, trace_id: str, name: str | None, value: Any) -> None:
    to.emit(FinishedRemark(to, trace_id, name, jsonsafe.dumps(value)), False)
