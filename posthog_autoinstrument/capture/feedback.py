"""Feedback and metrics: what a program or its user thinks of a trace."""

from __future__ import annotations

import os
from numbers import Integral, Number
from time import time
from typing import Any

from ..context import api, fields
from ..context.identity import Intent
from ..core import diagnostics, guard, ids, safejson
from .span_recorder import Recorder, active_recorder, is_recorder_made


class FinishedFeedback:
    """Feedback, or a metric of a name, about one trace, as the queue holds it."""

    def __init__(self, to: Recorder, trace_id: str, name: str | None, value: str) -> None:
        self.intent = Intent(None)
        self.intent.call_fields = fields.Fields(trace_id=trace_id)
        self.name = name
        self.value = value
        self.defaults = to.defaults
        self.size = len(value)
        self.pid = os.getpid()
        self.ended_at = time()


def capture_feedback(text: str, trace_id: ids.Id | None = None) -> None:
    """Record a user's feedback on an answer: on a trace, by default the one that is open here.

    Raises TypeError for a text that is no string. Writes a line where nothing can be captured, or no trace is open.
    """
    if not isinstance(text, str):
        raise TypeError(f"capture_feedback: text must be a string, not {type(text).__name__}")
    _capture("capture_feedback", trace_id, None, text)


def capture_metric(name: str, value: float | int | str | bool, trace_id: ids.Id | None = None) -> None:
    """Record a measure of an answer (a score, a rating, a verdict): a metric of a trace, as `capture_feedback`.

    Raises TypeError for an empty name, and for a value that is no number, text or bool.
    """
    text = ids.text_of(name, "capture_metric: name")
    if text is None:
        raise TypeError(f"capture_metric: name must be a string with something in it, not {guard.describe(name, 50)}")
    known = value if isinstance(value, (int, float, str)) else guard.quietly(_number, value)
    if known is None:
        raise TypeError(f"capture_metric: value must be a number, a string or a bool, not {type(value).__name__}")
    _capture("capture_metric", trace_id, text, known)


def _number(value: Any) -> float | int | bool | None:
    """A number of another kind: Decimal, Fraction, a scalar of numpy's."""
    if isinstance(value, Number):
        return int(value) if isinstance(value, Integral) else float(value)  # type: ignore[arg-type]
    found = value.item()
    return found if isinstance(found, (int, float)) else None


def _capture(function: str, trace_id: ids.Id | None, name: str | None, value: Any) -> None:
    to = active_recorder()
    if to is None:
        if not is_recorder_made():
            diagnostics.warn_once(
                "feedback without an agent",
                f"{function}: nothing is captured in this process: start it with posthog-instrument, or call "
                "posthog_autoinstrument.instrument()",
            )
        return
    about = ids.text_of(trace_id, f"{function}: trace_id") or api.current_trace_id()
    if about is None:
        diagnostics.warn_once(
            "feedback without a trace", f"{function}: no trace is open here, so it is left out: name one with trace_id"
        )
        return
    guard.attempt("keep feedback", _emit, to, about, name, value)


def _emit(to: Recorder, trace_id: str, name: str | None, value: Any) -> None:
    to.emit(FinishedFeedback(to, trace_id, name, safejson.dumps(value)), False)
