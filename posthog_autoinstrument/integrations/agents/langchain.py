"""LangChain and LangGraph: chains, agents, graphs and their nodes, tools and retrievers, by a callback handler.
langchain-core 0.3.86 to 1.8, langgraph 0.6 to 1.2.

`register_configure_hook` has LangChain add the handler to every run, except to those that PostHog's own handler is told
of. Each run tells its parent, which is exact where the Context is not: a batch begins all of its runs in one thread. A
model's run is no span, the call is an event; but from its run it is known what the call is part of.

A run that streams begins in the Context of who reads the stream. That one is not inside: LangChain's own ContextVar
tells the two apart (where tasks take a Context: not in asynchronous streams of Python 3.10, whose functions are in the
block around the run).
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
"""The tag of runs that LangChain and LangGraph show nobody."""
UNNAMED = frozenset(("prompt", "parser"))
"""Types of chains that only put texts together or take them apart."""
CONVERSATIONS = ("session_id", "thread_id", "conversation_id")
"""What metadata call a conversation: LangSmith's names, of which LangGraph gives the second."""
AGENTS = frozenset(("AgentExecutor",))
"""Runs that are agents; those of `create_agent` say so in their metadata (langchain 1.0 and later)."""
NO_FAILURE = "GraphBubbleUp"
"""The base of what LangGraph raises to interrupt a graph or to go on elsewhere."""
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
    """That which it is part of."""
    streams = False
    around_config: Any = None
    """The configuration in force around it."""

    def in_force(self) -> bool:
        return not self.over and not (self.streams and self.is_around())

    def is_around(self) -> bool:
        """Whether the code that runs here is where it began, and not inside."""
        return _config() is self.around_config


class Model(scope.LibraryScope):
    """A model's run: the call is in it, and belongs to the step that the run is part of."""

    def __init__(self, inside: scope.Context) -> None:
        self.over = False
        opened = scope.Context(inside.fields, scope.CONTEXT.get() or inside, self)
        opened.join_request(inside)
        scope.CONTEXT.set(opened)

    def in_force(self) -> bool:
        return not self.over


class Callbacks:
    """The handler's methods. What derives it from LangChain's class is made when that has loaded."""

    raise_error = False
    run_inline = True
    """In the task that runs it, not in another thread."""
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self) -> None:
        self._steps: Open[tuple[Run, bool]] = Open()
        """Id of a run -> the step that is, or that it is part of, and whether the step is its own."""
        self._models: Open[Model] = Open()

    @guard.guarded("follow a chain", None)
    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **told: Any
    ) -> None:
        if told.get("run_type") in UNNAMED or HIDDEN in (told.get("tags") or ()):
            self._pass(run_id, parent_run_id)
            return
        name = _name_of(serialized, told) or "chain"
        metadata = told.get("metadata") or {}
        is_agent = name in AGENTS or metadata.get("lc_agent_name") == name
        step = self._begin(name, "agent" if is_agent else "chain", run_id, parent_run_id, metadata)
        step.takes(inputs, _shown)

    @guard.guarded("follow a tool", None)
    def on_tool_start(
        self,
        serialized: Any,
        input_str: Any,
        *,
        run_id: Any,
        parent_run_id: Any = None,
        inputs: Any = None,
        **told: Any,
    ) -> None:
        name = _name_of(serialized, told) or "tool"
        step = self._begin(name, "tool", run_id, parent_run_id, told.get("metadata") or {})
        step.takes(inputs if inputs is not None else input_str, _shown)

    @guard.guarded("follow a retriever", None)
    def on_retriever_start(
        self, serialized: Any, query: Any, *, run_id: Any, parent_run_id: Any = None, **told: Any
    ) -> None:
        name = _name_of(serialized, told) or "retriever"
        self._begin(name, "retriever", run_id, parent_run_id, told.get("metadata") or {}).takes(query)

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
            if getattr(outputs, "status", None) == "error":  # a tool that answers for what it raised
                step.error = ("ToolException", str(getattr(outputs, "content", "")))
            outputs = getattr(outputs, "content", outputs)
        step.takes(inputs, _shown)  # what a stream was given, one knows at its end
        step.gives(outputs, _shown)
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
        """A run that is no step: what is inside is part of what is around."""
        around, _is_own = self._steps.get(parent_run_id) or (None, False)
        if around is not None:
            self._steps.put(run_id, (around, False))

    def _begin(self, name: str, type: str, run_id: Any, parent_run_id: Any, metadata: Mapping[str, Any]) -> Run:
        around, _is_own = self._steps.get(parent_run_id) or (None, False)
        session = next((text for key in CONVERSATIONS if isinstance(text := metadata.get(key), str)), None)
        step = Run(name, type, FRAMEWORK, around.innermost() if around is not None else _root(), str(run_id), session)
        step.around = around
        step.silent = (around is not None and around.silent) or _is_told()
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
    """PostHog's middleware tells of the agent whose node runs here."""
    inside = scope.CONTEXT.get()
    while inside is not None and not (isinstance(inside.scope, Run) and not inside.scope.over):
        inside = inside.outer
    node = inside.scope if inside is not None else None
    if isinstance(node, Run):
        node.silent = True
        if node.around is not None:
            node.around.silent = True
        log_left_to(deduplication.MIDDLEWARE)


def _name_of(serialized: Any, told: Mapping[str, Any]) -> str | None:
    name = told.get("name")
    if not name and isinstance(serialized, Mapping):
        name = serialized.get("name") or (serialized.get("id") or [None])[-1]
    return str(name) if name else None


def _config() -> Any:
    """The configuration of the runnable that runs here (`var_child_runnable_config`)."""
    found = getattr(sys.modules.get("langchain_core.runnables.config"), "var_child_runnable_config", None)
    return found.get(None) if found is not None else None


def _streams() -> bool:
    """Whether what starts the run that we are told of is a generator."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not module.startswith(("langchain_core.callbacks", "posthog_autoinstrument")):
            return bool(frame.f_code.co_flags & _GENERATORS)
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_told() -> bool:
    """Whether PostHog's own handler is told of the run that we are told of."""
    if deduplication.LANGCHAIN not in sys.modules:
        return False
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name not in ("handle_event", "ahandle_event"):
        frame = frame.f_back  # type: ignore[assignment]
    handlers = frame.f_locals.get("handlers") if frame is not None else None
    return any(isinstance(one, deduplication.langchain_handler()) for one in handlers or ())


def _shown(value: Any) -> Any:
    """LangChain's messages as a role and a content; what is none as it is."""
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


class _Told(type):
    """The class of which a run's handlers have an object where ours has no place among them."""

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
    # A default, so that it is there in every thread. Inherited, since LangGraph asks for no others below (1.2).
    variable: ContextVar[Any] = ContextVar("posthog_autoinstrument_langchain", default=handler)
    register(variable, True, _Told("Told", (), {"handler": handler}))
    deduplication.on_middleware_agent = leave_to_middleware
    return True
