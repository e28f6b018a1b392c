"""openai-agents: agents, function tools, MCP tools, handoffs and guardrails, by a tracing processor. Versions 0.2 to
0.24.

`agents.tracing.add_trace_processor` adds it; where the provider is made at its first use (0.24, not yet 0.2), it is
added when that is made, so that importing the library makes no client. The processor is called in the task that runs
the span, before the span becomes the current one and before it ceases to be. The ids are the library's own, which
PostHog's processor sends too: where that one is installed, ours only gives parents to the calls that it does not see.

A program that replaces the list of processors means those that export to OpenAI: ours is kept.
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
"""Type of span -> PostHog's name for it; other types keep theirs."""
CALLS = frozenset(("generation", "response", "transcription", "speech"))
"""Types of spans that are model calls: they are events of their own."""
UNNAMED = frozenset(("task", "turn"))
"""Types of spans (0.24: of every run; 0.2 has none) that add nothing to the trace and the agent."""


class Steps:
    """The processor's methods. `instrument` derives a class from it and the library's own."""

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
                _copy_states(step, data)
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
        """Nothing to do: spans are not buffered here."""

    def force_flush(self) -> None:
        """Nothing to do: spans are not buffered here."""


class _Workflow(Step):
    """A trace of the library: the trace of everything inside, where nothing around it belongs to one."""

    is_step = False

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
        # It is no span: its parent is that of everything inside.
        self.opened.fields.parent_id = self.parent_id
        self.silent = _is_recorded(trace)


def _is_recorded(traced: Any) -> bool:
    """Whether PostHog's own processor receives this trace too."""
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
        step.add_properties(
            agent_tools=data.tools or None,
            agent_handoffs=data.handoffs or None,
            agent_output_type=data.output_type or None,
        )
    elif kind == "function":
        step.set_input(data.input)
        step.set_output(data.output)
        step.add_properties(mcp_data=getattr(data, "mcp_data", None) or None)
    elif kind == "handoff":
        step.add_properties(handoff_from_agent=data.from_agent, handoff_to_agent=data.to_agent)
    elif kind == "guardrail":
        step.add_properties(guardrail_triggered=bool(data.triggered))
    elif kind == "mcp_tools":
        step.add_properties(mcp_server=data.server, mcp_tools=data.result)
    elif kind == "custom":
        step.set_input(data.data or None)


def _copy_states(step: Step, data: Any) -> None:
    """Copy the input and output of a model to its agent, whose own span has none."""
    output = getattr(data, "output", None)
    if output is None:
        output = getattr(getattr(data, "response", None), "output", None)
    if step.input_state is None:
        step.set_input(data.input)
    step.set_output(output)


def _error_of(error: Any) -> tuple[str, str]:
    """Type and message of an error of the library, which has a message and data."""
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
    existing = getattr(sys.modules.get(f"{module.__name__}.setup"), "GLOBAL_TRACE_PROVIDER", provider)
    if provider is None or existing is not None:
        add(processor)
    if provider is not None:
        _keep(provider, processor, adds=existing is None)
    return True


def _keep(provider: Any, processor: Any, adds: bool) -> None:
    """Make a provider keep the processor when the program sets others; with `adds`, a new provider adds it."""

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
