"""Every OpenAI call of a Python program in PostHog, without changing its code.

    posthog-instrument python app.py

A call goes through the folders in this order: `bootstrap` (start-up) -> `agent` -> `instrumentation` (patches) ->
`capture` (a call while it runs) -> `providers` (what its bytes mean) and `processing` (record to event) -> `export`
(event to PostHog or to the `store`).

Names are imported when they are first used: every Python process under the launcher imports this package.
"""

__all__ = [
    "__version__",
    "capture_feedback",
    "capture_metric",
    "configure",
    "current_trace_id",
    "flush",
    "instrument",
    "posthog_context",
    "posthog_span",
    "set_session",
]

_HOMES = {
    "__version__": "_version",
    "capture_feedback": "capture.feedback",
    "capture_metric": "capture.feedback",
    "configure": "api",
    "current_trace_id": "context.api",
    "flush": "api",
    "instrument": "api",
    "posthog_context": "context.api",
    "posthog_span": "capture.spans",
    "set_session": "context.api",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._version import __version__
    from .api import configure, flush, instrument
    from .capture.feedback import capture_feedback, capture_metric
    from .capture.spans import posthog_span
    from .context.api import current_trace_id, posthog_context, set_session


def __getattr__(name):  # type: ignore[no-untyped-def]
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home in ("capture.feedback", "capture.spans"):
        __import__(f"{__name__}.api")  # which they start, where the launcher is
    if home in ("context.api", "capture.spans"):
        _install_propagation()  # type: ignore[no-untyped-call]
    value = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
    globals()[name] = value
    return value


def _install_propagation():  # type: ignore[no-untyped-def]
    """A context may be open from here on: propagate it into threads and processes, where there is an agent."""
    import sys

    if getattr(sys, "_posthog_autoinstrument_finder", None) is not None:
        __import__(f"{__name__}.propagation", fromlist=["install"]).install()


def __dir__():  # type: ignore[no-untyped-def]
    return sorted({*globals(), *__all__})
