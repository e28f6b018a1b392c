"""openai-agents: agents, function tools, MCP tools, handoffs and guardrails, by a tracing processor. Versions 0.2 to
0.24.

`agents.tracing.add_trace_processor` adds it; where the provider is made at its first use (0.24, not yet 0.2), it is
added when that is made, so that importing the library makes no client. It tells of each span in the task that runs it,
before the span becomes the current one and before it ceases to be. The ids are the library's own, which PostHog's
processor sends as well: where that one is there, ours only places the calls that it does not see.

A program that replaces the list of processors means those that export to OpenAI: ours stays.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ...capture.owner import log_left_to
from ...context import scope
from ...context.fields import Fields, merge
from ...core import guard, patching
from ...instrumentation import deduplication
from ...settings.config import Config
from .library_span import Open, Step

FRAMEWORK = "openai-agents"
TYPES = {"function": "tool"}
"""What PostHog calls a type of span; others keep their names."""
CALLS = frozenset(("generation", "response", "transcription", "speech"))
"""Types of spans that are model calls: they are events of their own."""
UNNAMED = frozenset(("task", "turn"))
"""Types of spans (0.24: of every run; 0.2 has none) that say nothing which the trace and the agent do not."""


class Steps:
    """The processor's methods. What derives it from the library's class is made when the library has loaded."""

    def __init__(self) -> None:
        self._traces: Open[Step] = Open()
        self._spans: Open[tuple[Step | None, bool]] = Open()
        """Id of a span -> the step that is, or that it is part of, and whether the step is its own."""

    @guard.guarded("follow a trace", None)
    def on_trace_start(self, trace: Any) -> None:
        step = _Workflow(trace)
        if step.begins_trace or not step.silent:
            self._traces.put(trace.trace_id, step)
            step.enter()

    @guard.guarded("follow a trace", None)
    def on_trace_end(self, trace: Any) -> None:
        step = self._traces.pop(trace.trace_id)
        if step is not None:
            step.leave()

    @guard.guarded("follow a span", None)
    def on_span_start(self, span: Any) -> None:
        kind = span.span_data.type
        around, _ = self._spans.get(span.parent_id) or (self._traces.get(span.trace_id), False)
        if around is None or kind in CALLS or kind in UNNAMED:
            self._spans.put(span.span_id, (around, False))
            return
        step = Step("", TYPES.get(kind, kind), FRAMEWORK, around.innermost(), span.span_id)
        step.silent = around.silent
        self._spans.put(span.span_id, (step, True))
        step.enter()

    @guard.guarded("follow a span", None)
    def on_span_end(self, span: Any) -> None:
        step, is_own = self._spans.pop(span.span_id) or (None, False)
        data = span.span_data
        if step is None:
            return
        if not is_own:
            if data.type in ("generation", "response"):
                _pass_on(step, data)
            return
        step.name = _name_of(data)
        if not step.silent:
            guard.attempt("read a span", _read, step, data)
        if span.error:
            step.error = _error_of(span.error)
        trace = self._traces.get(span.trace_id)
        if data.type == "agent" and trace is not None and trace.parent_id == step.parent_id:
            trace.input_state = trace.input_state or step.input_state
            trace.output_state = step.output_state
        step.leave()

    def shutdown(self, *_: Any, **__: Any) -> None:
        """Nothing waits here."""

    def force_flush(self) -> None:
        """Nothing waits here."""


class _Workflow(Step):
    """A trace of the library's: the trace of all that is inside, where nothing around it is of one."""

    def __init__(self, trace: Any) -> None:
        around = scope.current()
        session_id = getattr(trace, "group_id", None)
        session_id = session_id if isinstance(session_id, str) else None
        if around is None or around.fields.trace_id is None:
            fields = Fields() if around is None else around.fields
            own = None if scope.opentelemetry_trace_ids else trace.trace_id
            fields = merge(Fields(trace_id=own or scope.new_trace_id()), fields)
            super().__init__(
                trace.name, None, FRAMEWORK, scope.Context(fields, around, None), trace.trace_id, session_id
            )
            self.opened.outer = around
            self.begins_trace = True
        else:
            super().__init__(trace.name, None, FRAMEWORK, around, trace.trace_id, session_id)
        # It is no span: what is inside hangs where it hangs.
        self.opened.fields.parent_id = self.parent_id
        self.silent = _is_told(trace)

    is_step = False


def _is_told(traced: Any) -> bool:
    """Whether PostHog's own processor is told of this trace."""
    if deduplication.AGENTS not in sys.modules or not deduplication.is_traced_by_posthog(traced):
        return False
    log_left_to(deduplication.AGENTS)
    return True


def _name_of(data: Any) -> str:
    """As PostHog's processor names it (posthog 7.91.1)."""
    if data.type == "handoff":
        return f"{data.from_agent} -> {data.to_agent}"
    if data.type == "mcp_tools":
        return f"mcp:{data.server}"
    return str(getattr(data, "name", None) or data.type)


def _read(step: Step, data: Any) -> None:
    kind = data.type
    if kind == "agent":
        step.tell(
            agent_tools=data.tools or None,
            agent_handoffs=data.handoffs or None,
            agent_output_type=data.output_type or None,
        )
    elif kind == "function":
        step.takes(data.input)
        step.gives(data.output)
        step.tell(mcp_data=getattr(data, "mcp_data", None) or None)
    elif kind == "handoff":
        step.tell(handoff_from_agent=data.from_agent, handoff_to_agent=data.to_agent)
    elif kind == "guardrail":
        step.tell(guardrail_triggered=bool(data.triggered))
    elif kind == "mcp_tools":
        step.tell(mcp_server=data.server, mcp_tools=data.result)
    elif kind == "custom":
        step.takes(data.data or None)


def _pass_on(step: Step, data: Any) -> None:
    """What a model was asked and has answered: an agent's own span does not say."""
    asked = data.input
    answered = getattr(data, "output", None)
    if answered is None:
        answered = getattr(getattr(data, "response", None), "output", None)
    if step.input_state is None:
        step.takes(asked)
    step.gives(answered)


def _error_of(error: Any) -> tuple[str, str]:
    """The library's errors are a message and what belongs to it."""
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    data = error.get("data") if isinstance(error, dict) else None
    detail = data.get("error") if isinstance(data, dict) else None
    return "Error", f"{message}: {detail}" if isinstance(detail, str) else message


# --- instrumentation ---


def instrument(module: ModuleType, settings: Config) -> bool:
    """`agents.tracing`."""
    base = getattr(module, "TracingProcessor", None)
    add = getattr(module, "add_trace_processor", None)
    if base is None or add is None:
        return False  # another package of that name
    processor = type("PostHogSteps", (Steps, base), {"__module__": __name__})()
    provider = getattr(sys.modules.get(f"{module.__name__}.provider"), "DefaultTraceProvider", None)
    made = getattr(sys.modules.get(f"{module.__name__}.setup"), "GLOBAL_TRACE_PROVIDER", provider)
    if provider is None or made is not None:
        add(processor)
    if provider is not None:
        _keep(provider, processor, adds=made is None)
    return True


def _keep(provider: Any, processor: Any, adds: bool) -> None:
    """Have a provider keep the processor where the program sets others, and have a new one add it."""

    def wrap_init(original: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.register_processor(processor)

        return __init__

    def wrap_set(original: Any) -> Any:
        def set_processors(self: Any, processors: Any) -> Any:
            return original(self, [*processors, processor])

        return set_processors

    if adds:
        patching.replace(provider, "__init__", wrap_init, inherited=True)
    patching.replace(provider, "set_processors", wrap_set, inherited=True)
