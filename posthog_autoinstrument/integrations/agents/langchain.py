"""LangChain and LangGraph: chains, agents, graphs and their nodes, tools and retrievers, by a callback handler.
langchain-core 0.3.86 to 1.8, langgraph 0.6 to 1.2.

`register_configure_hook` makes LangChain add the handler to every run, except to those that have PostHog's own handler.
The parent of a run is the one that LangChain passes, which is exact where the Context is not: a batch begins all of its
runs in one thread. A model's run is no span, since the call is an event; it only gives the call its parent.

A run that streams begins in the Context of the stream's reader, whose code is not inside the run: LangChain's own
ContextVar tells the two apart (where tasks take a Context: not in asynchronous streams of Python 3.10, whose functions
are in the block around the run).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from ...capture.owner import log_left_to
from ...context import fields, scope
from ...core import guard, safejson
from ...instrumentation import deduplication
from ...settings.config import Config
from .library_span import Open, Step

FRAMEWORK = "langchain"
HIDDEN = "langsmith:hidden"
"""Tag of runs that LangChain and LangGraph hide."""
UNNAMED = frozenset(("prompt", "parser"))
"""Types of chains that only format or parse texts."""
CONVERSATIONS = ("session_id", "thread_id", "conversation_id")
"""Keys of metadata that hold the conversation: LangSmith's names, of which LangGraph sets the second."""
AGENTS = frozenset(("AgentExecutor",))
"""Names of runs that are agents; those of `create_agent` have it in their metadata (langchain 1.0 and later)."""
NO_FAILURE = "GraphBubbleUp"
"""Base class of what LangGraph raises to interrupt a graph or to continue elsewhere: no failure."""
ROLES = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
}

NOWHERE = scope.Context(fields.NO_FIELDS, None, None)
"""Outside of every block."""

_GENERATORS = 0x20 | 0x200
"""Flags of the code of generators and asynchronous generators (`inspect.CO_GENERATOR`, `CO_ASYNC_GENERATOR`)."""


class Run(Step):
    """A run that is a step."""

    around: Run | None = None
    """The run that it is part of."""
    streams = False
    around_config: Any = None
    """The configuration in force around it."""

    def in_force(self) -> bool:
        return not self.over and not (self.streams and self.is_around())

    def is_around(self) -> bool:
        """Whether the code that runs here is where it began, and not inside."""
        return _config() is self.around_config


class Model(scope.LibraryScope):
    """Scope of a model's run: the call inside belongs to the step that the run is part of."""

    def __init__(self, inside: scope.Context) -> None:
        self.over = False
        opened = scope.Context(inside.fields, scope.CONTEXT.get() or inside, self)
        opened.join_request(inside)
        scope.CONTEXT.set(opened)

    def in_force(self) -> bool:
        return not self.over


class Callbacks:
    """The handler's methods. `instrument` derives a class from it and LangChain's own."""

    raise_error = False
    run_inline = True
    """Called in the task that runs it, not in another thread."""
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self) -> None:
        self._steps: Open[tuple[Run, bool]] = Open()
        """Id of a run -> the step that is, or that it is part of, and whether the step is its own."""
        self._models: Open[Model] = Open()

    @guard.guarded("follow a chain", None)
    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **info: Any
    ) -> None:
        if info.get("run_type") in UNNAMED or HIDDEN in (info.get("tags") or ()):
            self._pass(run_id, parent_run_id)
            return
        name = _name_of(serialized, info) or "chain"
        metadata = info.get("metadata") or {}
        is_agent = name in AGENTS or metadata.get("lc_agent_name") == name
        step = self._begin(name, "agent" if is_agent else "chain", run_id, parent_run_id, metadata)
        step.set_input(inputs, _shown)

    @guard.guarded("follow a tool", None)
    def on_tool_start(
        self,
        serialized: Any,
        input_str: Any,
        *,
        run_id: Any,
        parent_run_id: Any = None,
        inputs: Any = None,
        **info: Any,
    ) -> None:
        name = _name_of(serialized, info) or "tool"
        step = self._begin(name, "tool", run_id, parent_run_id, info.get("metadata") or {})
        step.set_input(inputs if inputs is not None else input_str, _shown)

    @guard.guarded("follow a retriever", None)
    def on_retriever_start(
        self, serialized: Any, query: Any, *, run_id: Any, parent_run_id: Any = None, **info: Any
    ) -> None:
        name = _name_of(serialized, info) or "retriever"
        self._begin(name, "retriever", run_id, parent_run_id, info.get("metadata") or {}).set_input(query)

    @guard.guarded("follow a model", None)
    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: Any, parent_run_id: Any = None, **_: Any) -> None:
        around, _is_own = self._steps.get(parent_run_id) or (None, False)
        inside = around.innermost() if around is not None else None
        if inside is not None and inside is not scope.current():
            self._models.put(run_id, Model(inside))

    on_chat_model_start = on_llm_start

    @guard.guarded("follow a model", None)
    def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
        self._leave_model(run_id)

    @guard.guarded("follow a model", None)
    def on_llm_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._leave_model(run_id)

    def _leave_model(self, run_id: Any) -> None:
        model = self._models.pop(run_id)
        if model is not None:
            model.over = True
            scope.close(model)

    @guard.guarded("follow a step", None)
    def on_chain_end(self, outputs: Any, *, run_id: Any, inputs: Any = None, **_: Any) -> None:
        step, is_own = self._steps.pop(run_id) or (None, False)
        if step is None or not is_own:
            return
        if step.type == "tool":
            if getattr(outputs, "status", None) == "error":  # a tool that returns its exception
                step.error = ("ToolException", str(getattr(outputs, "content", "")))
            outputs = getattr(outputs, "content", outputs)
        step.set_input(inputs, _shown)  # the input of a stream is known at its end
        step.set_output(outputs, _shown)
        step.leave()

    on_tool_end = on_chain_end
    on_retriever_end = on_chain_end

    @guard.guarded("follow a step", None)
    def on_chain_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        step, is_own = self._steps.pop(run_id) or (None, False)
        if step is not None and is_own:
            failed = all(base.__name__ != NO_FAILURE for base in type(error).__mro__)
            step.leave(error if failed else None)

    on_tool_error = on_chain_error
    on_retriever_error = on_chain_error

    def _pass(self, run_id: Any, parent_run_id: Any) -> None:
        """A run that is no step: what is inside belongs to the step around it."""
        around, _is_own = self._steps.get(parent_run_id) or (None, False)
        if around is not None:
            self._steps.put(run_id, (around, False))

    def _begin(self, name: str, type: str, run_id: Any, parent_run_id: Any, metadata: Mapping[str, Any]) -> Run:
        around, _is_own = self._steps.get(parent_run_id) or (None, False)
        session = next((text for key in CONVERSATIONS if isinstance(text := metadata.get(key), str)), None)
        step = Run(name, type, FRAMEWORK, around.innermost() if around is not None else _root(), str(run_id), session)
        step.around = around
        step.silent = (around is not None and around.silent) or _is_recorded()
        step.streams = _streams()
        step.around_config = _config()
        self._steps.put(run_id, (step, True))
        step.enter()
        return step


def _root() -> scope.Context | None:
    """The block that a run without a parent is in. A batch begins its runs one after the other: none is in another."""
    inside = scope.current()
    while inside is not None and isinstance(inside.scope, Run) and inside.scope.is_around():
        inside = inside.outer or NOWHERE
    return inside


def leave_to_middleware() -> None:
    """PostHog's middleware records the agent whose node runs here."""
    inside = scope.CONTEXT.get()
    while inside is not None and not (isinstance(inside.scope, Run) and not inside.scope.over):
        inside = inside.outer
    node = inside.scope if inside is not None else None
    if isinstance(node, Run):
        node.silent = True
        if node.around is not None:
            node.around.silent = True
        log_left_to(deduplication.MIDDLEWARE)


def _name_of(serialized: Any, info: Mapping[str, Any]) -> str | None:
    name = info.get("name")
    if not name and isinstance(serialized, Mapping):
        name = serialized.get("name") or (serialized.get("id") or [None])[-1]
    return str(name) if name else None


def _config() -> Any:
    """The configuration of the runnable that runs here (`var_child_runnable_config`)."""
    found = getattr(sys.modules.get("langchain_core.runnables.config"), "var_child_runnable_config", None)
    return found.get(None) if found is not None else None


def _streams() -> bool:
    """Whether the run that begins is started by a generator."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not module.startswith(("langchain_core.callbacks", "posthog_autoinstrument")):
            return bool(frame.f_code.co_flags & _GENERATORS)
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_recorded() -> bool:
    """Whether PostHog's CallbackHandler receives this run too."""
    if deduplication.LANGCHAIN not in sys.modules:
        return False
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name not in ("handle_event", "ahandle_event"):
        frame = frame.f_back  # type: ignore[assignment]
    handlers = frame.f_locals.get("handlers") if frame is not None else None
    return any(isinstance(one, deduplication.langchain_handler()) for one in handlers or ())


def _shown(value: Any) -> Any:
    """LangChain's messages as a role and a content; everything else as it is."""
    if hasattr(type(value), "to_messages"):
        return [_message(one) for one in value.to_messages()[: safejson.MAX_ITEMS]]
    if type(value).__module__.startswith("langchain_core.messages") or isinstance(value, _message_class()):
        return _message(value)
    return value


def _message_class() -> Any:
    return getattr(sys.modules.get("langchain_core.messages.base"), "BaseMessage", ())


def _message(message: Any) -> dict[str, Any]:
    kind = str(getattr(message, "type", ""))
    found = {"role": ROLES.get(kind) or getattr(message, "role", None) or kind, "content": message.content}
    calls = [
        {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": call.get("args")},
        }
        for call in getattr(message, "tool_calls", None) or ()
    ]
    if calls:
        found["tool_calls"] = calls
    for name in ("tool_call_id", "name"):
        if getattr(message, name, None):
            found[name] = getattr(message, name)
    return found


# --- instrumentation ---


class _Recorded(type):
    """LangChain adds no handler where a run has one of this class: ours itself, or PostHog's."""

    handler: Any = None

    def __instancecheck__(cls, handler: Any) -> bool:
        return handler is cls.handler or isinstance(handler, deduplication.langchain_handler())


def instrument(module: ModuleType, settings: Config) -> bool:
    """`langchain_core.tracers.context`."""
    base = getattr(sys.modules.get("langchain_core.callbacks.base"), "BaseCallbackHandler", None)
    register = getattr(module, "register_configure_hook", None)
    if base is None or register is None:
        return False
    handler = type("PostHogSteps", (Callbacks, base), {"__module__": __name__})()
    # The variable's default, so that every thread has it. Inheritable: LangGraph adds no others to inner runs (1.2).
    variable: ContextVar[Any] = ContextVar("posthog_autoinstrument_langchain", default=handler)
    register(variable, True, _Recorded("Recorded", (), {"handler": handler}))
    deduplication.on_middleware_agent = leave_to_middleware
    return True
