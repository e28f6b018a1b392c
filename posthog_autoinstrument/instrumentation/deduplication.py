"""Calls that another PostHog integration records: each is in PostHog once.

Asked on the host's thread when a call starts. Where none of those integrations is loaded that is a few look-ups in
`sys.modules`; where one is, a bounded walk up the frames or one ContextVar. Nothing here imports any of them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any

from ..capture.owner import EVERY_END, Owner, log_left_to
from ..core import guard

MAX_FRAMES = 40
"""Frames looked at above a call. LangChain's nearest is 6 to 10 away; a model of the program's own may have more."""
NEAREST_FRAMES = 16
"""Frames looked at for litellm, which is 4 to 8 away; it calls the SDK itself."""

# The modules without which an integration records nothing, and its names in messages.
WRAPPER = "posthog.ai.openai"
LANGCHAIN = "posthog.ai.langchain.callbacks"
MIDDLEWARE = "posthog.ai.langchain.middleware"
AGENTS = "posthog.ai.openai_agents.processor"
LITELLM = "litellm.integrations.posthog"

NEEDED = {
    "posthog.ai.openai": ("posthog",),
    "posthog.ai.langchain": ("posthog", "langchain-core"),
    "posthog.ai.openai_agents": ("posthog", "openai-agents"),
    "litellm's posthog": ("litellm",),
}
"""The integrations, for people, and the distributions without which a program cannot use them."""

GENERATIONS = frozenset(("chat", "responses", "completions"))
"""The endpoints whose calls LangChain and openai-agents know as model runs. Embeddings they do not record."""


BY_WRAPPER = Owner(WRAPPER)
BY_LANGCHAIN = Owner(LANGCHAIN)
BY_LANGCHAIN_INVOKED = Owner(LANGCHAIN, EVERY_END - {"cancelled"})
BY_MIDDLEWARE = Owner(MIDDLEWARE)
BY_AGENTS = Owner(AGENTS)

IN_MIDDLEWARE: ContextVar[bool] = ContextVar("posthog_autoinstrument_in_middleware", default=False)
"""Set while PostHog's LangChain middleware has a model called."""


_MODULES = frozenset((WRAPPER, LITELLM, AGENTS, MIDDLEWARE, LANGCHAIN))


def recorded_by(client: Any, endpoint: str, sdk: str) -> Owner | None:
    """The PostHog integration that will record the call that starts here; None if only we do. Never raises."""
    return None if sys.modules.keys().isdisjoint(_MODULES) else _recorded_by(client, endpoint, sdk)


@guard.guarded("find out who else records a call", None)
def _recorded_by(client: Any, endpoint: str, sdk: str) -> Owner | None:
    modules = sys.modules
    frame = sys._getframe(1)
    found = None
    if WRAPPER in modules and _of_posthog(client) and _called_by_posthog(frame, sdk):
        found = BY_WRAPPER
    elif LITELLM in modules:
        found = _litellm(frame)
    if found is None and endpoint in GENERATIONS:
        if AGENTS in modules and _in_recorded_span():
            found = BY_AGENTS
        elif MIDDLEWARE in modules and IN_MIDDLEWARE.get():
            found = BY_MIDDLEWARE
        elif LANGCHAIN in modules:
            found = _langchain(frame)
    if found is not None:
        log_left_to(found.name)
    return found


class _Nothing:
    """Stands for a class that its module does not have."""

    @staticmethod
    def get_current_span() -> None:
        """No span."""


def _class(module: str, name: str) -> Any:
    """A class of a module that is loaded, or is just being loaded by another thread."""
    return getattr(sys.modules.get(module), name, _Nothing)


# --- posthog.ai.openai: subclasses of the SDK's clients (posthog 7.91.1) ---


def _of_posthog(client: Any) -> bool:
    return any(base.__module__.startswith("posthog.ai") for base in type(client).__mro__)


def _called_by_posthog(frame: FrameType | None, sdk: str) -> bool:
    """Whether the first frame outside the SDK and the agent belongs to `posthog.ai`.

    Calls that its clients only pass through (`.stream()`, raw responses, legacy completions) are not recorded there,
    so the caller's frame decides.
    """
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in ("posthog_autoinstrument", sdk, "wrapt", "functools"):
            return name.startswith("posthog.ai")
        frame = frame.f_back
    return False


# --- posthog.ai.langchain ---

# By name first: a frame's locals are a dict made anew, and even the names of them cost a microsecond (3.11 to 3.13).
MODEL_FRAMES = frozenset(
    (
        *("_generate", "_agenerate", "_generate_with_cache", "_agenerate_with_cache"),
        *("_stream", "_astream", "stream", "astream"),
    )
)
"""Methods of LangChain's models (langchain-core 0.3 to 1.7) through which every request of theirs goes. `_stream` may
be called without the callbacks, `stream` above it has them; a model of the program's own may have `_generate` only."""
OTHER_FRAMES = frozenset(("run", "arun", "invoke", "ainvoke", "_call_with_config", "_acall_with_config"))
"""Methods of its tools and chains through which the program's own functions are called."""
MODEL_RUNS = frozenset(("CallbackManagerForLLMRun", "AsyncCallbackManagerForLLMRun"))


def _langchain(frame: FrameType | None) -> Owner | None:
    """A model run of LangChain's around this call that has PostHog's handler among its callbacks.

    The frames of a run hold its callbacks as `run_manager`. A tool or chain inside a model run is a run of its own: a
    call made there directly is not the model's.
    """
    handler_class = _class(LANGCHAIN, "CallbackHandler")
    for _ in range(MAX_FRAMES):
        if frame is None:
            return None
        name = frame.f_code.co_name
        if name in MODEL_FRAMES:
            run: Any = frame.f_locals.get("run_manager")
            if type(run).__name__ in MODEL_RUNS and any(isinstance(one, handler_class) for one in run.handlers):
                return BY_LANGCHAIN_INVOKED if _awaited_invoke(frame) else BY_LANGCHAIN
        elif name in OTHER_FRAMES and "run_manager" in frame.f_code.co_varnames:
            run = frame.f_locals.get("run_manager")
            if str(type(run).__module__).startswith("langchain_core.") and type(run).__name__ not in MODEL_RUNS:
                return None
        frame = frame.f_back
    return None


def _awaited_invoke(frame: FrameType | None) -> bool:
    """Whether the run is an `ainvoke`: cancelled, it calls no callback (langchain-core 1.7, `agenerate`)."""
    for _ in range(MAX_FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_name == "_agenerate_with_cache":
            return True
        frame = frame.f_back
    return False


def mark_middleware(module: str) -> None:
    """Mark the model calls of PostHog's LangChain middleware by a ContextVar. Never raises.

    It has no callbacks to be found by, and LangChain awaits its models in tasks of their own, above which no frame of
    the middleware stands; a ContextVar is there.
    """
    guard.attempt(f"mark {module}", _mark_middleware, _class(module, "PostHogMiddleware"))


on_middleware_agent: Callable[[], object] | None = None
"""Called inside each run of an agent that PostHog's middleware records, before its first step. Set by LangChain's
integration."""


def _mark_middleware(cls: Any) -> None:
    if cls is _Nothing or hasattr(cls.wrap_model_call, "__wrapped__"):
        return
    wrap, awrap = cls.wrap_model_call, cls.awrap_model_call
    before, abefore = cls.before_agent, cls.abefore_agent

    @functools.wraps(before)
    def before_agent(self: Any, *args: Any, **kwargs: Any) -> Any:
        if on_middleware_agent is not None:
            guard.attempt("leave an agent to its middleware", on_middleware_agent)
        return before(self, *args, **kwargs)

    @functools.wraps(abefore)
    async def abefore_agent(self: Any, *args: Any, **kwargs: Any) -> Any:
        if on_middleware_agent is not None:
            guard.attempt("leave an agent to its middleware", on_middleware_agent)
        return await abefore(self, *args, **kwargs)

    @functools.wraps(wrap)
    def wrap_model_call(self: Any, request: Any, handler: Callable[..., Any]) -> Any:
        token = IN_MIDDLEWARE.set(True)
        try:
            return wrap(self, request, handler)
        finally:
            IN_MIDDLEWARE.reset(token)

    @functools.wraps(awrap)
    async def awrap_model_call(self: Any, request: Any, handler: Callable[..., Any]) -> Any:
        token = IN_MIDDLEWARE.set(True)
        try:
            return await awrap(self, request, handler)
        finally:
            try:
                IN_MIDDLEWARE.reset(token)
            except ValueError:  # closed by the garbage collector, in a foreign Context
                pass

    cls.wrap_model_call, cls.awrap_model_call = wrap_model_call, awrap_model_call
    cls.before_agent, cls.abefore_agent = before_agent, abefore_agent


# --- posthog.ai.openai_agents ---

MODEL_SPANS = frozenset(("GenerationSpanData", "ResponseSpanData"))


def _in_recorded_span() -> bool:
    """Whether the current span of openai-agents (0.24) is a model's, still open, and goes to PostHog's processor.

    With tracing disabled the current span is a NoOpSpan, which has no processor.
    """
    span = _class("agents.tracing.scope", "Scope").get_current_span()
    if span is None or type(span.span_data).__name__ not in MODEL_SPANS or getattr(span, "ended_at", None):
        return False
    return is_traced_by_posthog(span)


def is_traced_by_posthog(traced: Any) -> bool:
    """Whether a span or trace of openai-agents goes to PostHog's processor."""
    processors = getattr(getattr(traced, "_processor", None), "_processors", ())
    processor_class = _class(AGENTS, "PostHogTracingProcessor")
    return any(isinstance(processor, processor_class) for processor in processors)


def langchain_handler() -> Any:
    """The class of PostHog's handler for LangChain, or one of which there is no object."""
    return _class(LANGCHAIN, "CallbackHandler")


# --- litellm's own PostHog logger ---

ASYNC_CALLS = ("acompletion", "aembedding", "aresponses", "aimage_generation", "atranscription")


def _litellm(frame: FrameType | None) -> Owner | None:
    """litellm's logger where it logs this call: by the callback lists and the arguments of the call.

    Which lists count, and for which ends, is read off `Logging` of litellm 1.83
    (litellm_core_utils/litellm_logging.py); "posthog" in them has become a `PostHogLogger` when the call starts.
    """
    for _ in range(NEAREST_FRAMES):
        if frame is None:
            return None
        if str(frame.f_globals.get("__name__")).startswith("litellm."):
            logging = frame.f_locals.get("logging_obj")
            if logging is not None:
                return _litellm_logs(logging)
        frame = frame.f_back
    return None


def _litellm_logs(logging: Any) -> Owner | None:
    litellm = sys.modules["litellm"]
    logger_class = _class(LITELLM, "PostHogLogger")
    arguments = logging.model_call_details.get("litellm_params") or {}
    if arguments.get("no-log") is True and not litellm.global_disable_no_log_param:
        return None
    is_async = any(arguments.get(name) is True for name in ASYNC_CALLS)
    prefix, dynamic = ("_async_", "dynamic_async_") if is_async else ("", "dynamic_")
    ends = set()
    for kind, end in (("success", "complete"), ("failure", "failed")):
        callbacks = [
            *getattr(litellm, f"{prefix}{kind}_callback"),
            *(getattr(logging, f"{dynamic}{kind}_callbacks") or ()),
        ]
        # PostHogLogger of litellm 1.83 has no method for the failures of synchronous calls: they are nowhere.
        method = f"{'async_' if is_async else ''}log_{kind}_event"
        if method in vars(logger_class) and any(isinstance(callback, logger_class) for callback in callbacks):
            ends.add(end)
    return Owner(LITELLM, frozenset(ends)) if ends else None
