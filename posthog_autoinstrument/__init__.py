"""Every OpenAI call of a Python program in PostHog, without changing its code.

    posthog-instrument python app.py

The folder reads as the way of a call: `wake` (start-up) -> `agent` -> `hooks` -> `sites` and `wire` (patches) ->
`streams`, `calls` (what is captured) -> `queue` -> `flusher` -> `providers` (what it means) -> `event` -> `sinks`.

Names are imported when they are first used: every Python process under the launcher imports this package.
"""

__version__ = "0.1.0"

__all__ = ["__version__", "configure", "current_trace_id", "flush", "instrument", "posthog_context"]

_HOMES = {
    "configure": "agent",
    "current_trace_id": "context",
    "flush": "agent",
    "instrument": "agent",
    "posthog_context": "context",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import configure, flush, instrument
    from .context import current_trace_id, posthog_context


def __getattr__(name):  # type: ignore[no-untyped-def]
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__():  # type: ignore[no-untyped-def]
    return sorted({*globals(), *__all__})
