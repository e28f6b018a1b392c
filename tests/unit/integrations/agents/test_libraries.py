"""Libraries that tell of their steps, here by stand-ins; `make steps` runs the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posthog_autoinstrument.core import records, safejson

AGENTS = '''
"""As much of openai-agents as its tracing interface is."""

class TracingProcessor:
    pass

_processors = []

def add_trace_processor(processor):
    _processors.append(processor)

def tell(event, what):
    for processor in _processors:
        getattr(processor, event)(what)
'''
PROGRAM = """
import openai
import agents.tracing
from types import SimpleNamespace as Of

client = openai.OpenAI()
tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
asked = {"role": "user", "content": "Hello"}

def span(ident, parent, **data):
    return Of(span_id=ident, trace_id="trace_1", parent_id=parent, error=None, span_data=Of(**data))

run = Of(trace_id="trace_1", name="workflow", group_id="talk 1")
agents.tracing.tell("on_trace_start", run)
agent = span("span_1", None, type="agent", name="a", tools=["weather"], handoffs=[], output_type=None)
agents.tracing.tell("on_span_start", agent)
answer = client.chat.completions.create(model="m", messages=[asked], tools=[tool]).choices[0].message
call = answer.tool_calls[0]
work = span("span_2", "span_1", type="function", name="another name", input="{}", output=OUTPUT)
agents.tracing.tell("on_span_start", work)
agents.tracing.tell("on_span_end", work)
result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
client.chat.completions.create(
    model="m", messages=[asked, {"role": "assistant", "tool_calls": [call.model_dump()]}, result])
agents.tracing.tell("on_span_end", agent)
agents.tracing.tell("on_trace_end", run)
client.chat.completions.create(model="m", messages=[asked])
print("done")
"""


LANGCHAIN = {
    "__init__.py": "",
    "callbacks/__init__.py": "",
    "callbacks/base.py": "class BaseCallbackHandler:\n    pass\n",
    "callbacks/manager.py": """
from langchain_core.tracers.context import hooks

def tell(event, *args, **kwargs):
    for variable, inheritable, handle_class, _ in hooks:
        assert inheritable
        assert isinstance(variable.get(), handle_class), "it would be added twice"
        getattr(variable.get(), event)(*args, **kwargs)
""",
    "runnables/__init__.py": "",
    "runnables/config.py": """
from contextvars import ContextVar
var_child_runnable_config = ContextVar("child_runnable_config", default=None)
""",
    "tracers/__init__.py": "",
    "tracers/context.py": """
import langchain_core.callbacks.base, langchain_core.runnables.config
hooks = []

def register_configure_hook(variable, inheritable, handle_class=None, env_var=None):
    hooks.append((variable, inheritable, handle_class, env_var))
""",
}
"""As much of LangChain as its callbacks are, in the order in which it calls them."""
CHAINS = """
import contextvars
import openai
from langchain_core.callbacks.manager import tell
from langchain_core.runnables.config import var_child_runnable_config

client = openai.OpenAI()

def ask(text):
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

def inside(run, function, *args):
    # What LangChain runs of a run, it runs so.
    def set_and_call():
        var_child_runnable_config.set({"of": run})
        return function(*args)
    return contextvars.copy_context().run(set_and_call)

def start(run, parent=None, **told):
    tell("on_chain_start", None, {"text": run}, run_id=run, parent_run_id=parent, name=run, metadata={}, **told)

def model(run, parent, text):
    tell("on_chat_model_start", None, [], run_id=run, parent_run_id=parent)
    ask(text)
    tell("on_llm_end", None, run_id=run)

# A batch: all of its runs begin, then each goes on.
for number in range(3):
    start(f"batch {number}")
for number in range(3):
    inside(f"batch {number}", model, f"model {number}", f"batch {number}", f"in batch {number}")
for number in range(3):
    tell("on_chain_end", "done", run_id=f"batch {number}")

# What is hidden is no step, and passes on.
start("graph")
start("hidden", "graph", tags=["langsmith:hidden"])
start("prompt", "hidden", run_type="prompt")
inside("prompt", model, "m", "prompt", "in the graph")
tell("on_chain_end", None, run_id="prompt")
tell("on_chain_end", None, run_id="hidden")
tell("on_chain_error", ValueError("broken"), run_id="graph")

# Who reads a stream is not inside of it.
def stream(run):
    tell("on_chain_start", None, {"text": ""}, run_id=run, name=run, metadata={})
    try:
        for piece in range(2):
            inside(run, ask, "in the stream")
            yield piece
    except GeneratorExit:
        tell("on_chain_error", GeneratorExit(), run_id=run)
        raise
    tell("on_chain_end", "done", run_id=run, inputs={"text": "all of it"})

for _ in stream("read"):
    ask("beside")
left = stream("left")
next(left)
left.close()
ask("after")
print("done")
"""


def test_the_runs_of_langchain(run_program, tmp_path):
    for name, source in LANGCHAIN.items():
        path = tmp_path / "site" / "langchain_core" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    ran = run_program(CHAINS, env={"PYTHONPATH": str(tmp_path / "site")})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "done\n"
    assert "could not" not in ran.stderr
    spans = {one["properties"]["$ai_span_name"]: one["properties"] for one in ran.events if one["event"] == "$ai_span"}
    assert set(spans) == {"batch 0", "batch 1", "batch 2", "graph", "read", "left"}
    assert all("$ai_parent_id" not in one for one in spans.values())
    assert len({one["$ai_trace_id"] for one in spans.values()}) == 6
    assert spans["batch 0"]["$ai_output_state"] == "done"
    assert (spans["graph"]["$ai_is_error"], spans["graph"]["$ai_error"]) == (True, "broken")
    assert spans["read"]["$ai_input_state"] == {"text": "all of it"}
    assert "$ai_is_error" not in spans["left"]
    parents = {one["$ai_span_id"]: name for name, one in spans.items()}
    calls = [
        (one["properties"]["$ai_input"][0]["content"], parents.get(one["properties"].get("$ai_parent_id")))
        for one in ran.events
        if one["event"] == "$ai_generation"
    ]
    assert sorted(calls, key=str) == [
        ("after", None),
        ("beside", None),
        ("beside", None),
        ("in batch 0", "batch 0"),
        ("in batch 1", "batch 1"),
        ("in batch 2", "batch 2"),
        ("in the graph", "graph"),
        ("in the stream", "left"),
        ("in the stream", "read"),
        ("in the stream", "read"),
    ]


@pytest.fixture
def with_agents(tmp_path: Path) -> Path:
    """A folder with the stand-in."""
    (tmp_path / "site" / "agents").mkdir(parents=True)
    (tmp_path / "site" / "agents" / "__init__.py").write_text("")
    (tmp_path / "site" / "agents" / "tracing.py").write_text(AGENTS)
    return tmp_path / "site"


def test_a_tool_that_its_library_tells_of_is_there_once(run_program, with_agents):
    ran = run_program(PROGRAM.replace("OUTPUT", "'rain'"), env={"PYTHONPATH": str(with_agents)})
    assert ran.returncode == 0, ran.stderr
    spans = {one["properties"]["$ai_span_name"]: one["properties"] for one in ran.events if one["event"] == "$ai_span"}
    (named,) = [one["properties"] for one in ran.events if one["event"] == "$ai_trace"]
    first, second, beside = [one["properties"] for one in ran.events if one["event"] == "$ai_generation"]
    assert set(spans) == {"a", "another name"}
    assert named["$ai_span_name"] == "workflow"
    assert "$ai_latency" not in named
    assert spans["a"]["$ai_span_id"] == "span_1"
    assert spans["a"]["$ai_agent_tools"] == ["weather"]
    assert spans["a"]["$ai_framework"] == "openai-agents"
    assert "$ai_agent_handoffs" not in spans["a"]
    tool = spans["another name"]
    assert tool["$ai_span_type"] == "tool"
    assert tool["$ai_input_state"] == {}
    assert tool["$ai_output_state"] == "rain"
    assert tool["$ai_parent_id"] == first["$ai_parent_id"] == second["$ai_parent_id"] == "span_1"
    assert {one["$ai_trace_id"] for one in (named, tool, first, second, spans["a"])} == {"trace_1"}
    assert {one["$ai_session_id"] for one in (named, tool, first, second)} == {"talk 1"}
    assert beside["$ai_trace_id"] != "trace_1"
    assert "$ai_parent_id" not in beside


def test_switched_off_the_agent_finds_the_tools_itself(run_program, with_agents):
    ran = run_program(
        "from posthog_autoinstrument import posthog_context\nwith posthog_context():\n"
        + "".join(f"    {line}\n" for line in PROGRAM.replace("OUTPUT", "'rain'").splitlines()),
        env={"PYTHONPATH": str(with_agents), "POSTHOG_AUTOINSTRUMENT_LIBRARY_SPANS": "0"},
    )
    assert ran.returncode == 0, ran.stderr
    (span,) = [one["properties"] for one in ran.events if one["event"] == "$ai_span"]
    assert span["$ai_span_name"] == "weather"
    assert "$ai_framework" not in span


def test_a_library_that_tells_of_something_else_harms_nobody(run_program, with_agents):
    program = PROGRAM.replace("OUTPUT", "object()").replace('type="function", ', "")
    ran = run_program(program, env={"PYTHONPATH": str(with_agents), "POSTHOG_AUTOINSTRUMENT_RAISE": "0"})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "done\n"
    assert "could not follow a span" in ran.stderr
    assert sum(one["event"] == "$ai_generation" for one in ran.events) == 3


def test_another_package_of_that_name_is_let_be(run_program, with_agents):
    (with_agents / "agents" / "tracing.py").write_text("mine = True\n")
    ran = run_program(
        "import openai, agents.tracing\nprint(sorted(name for name in vars(agents.tracing) if name[0] != '_'))",
        env={"PYTHONPATH": str(with_agents)},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "['mine']\n"


def test_facts_survive_the_spool():
    identity = records.Identity("u1", "t1")
    span = records.Span("a", "agent", "u", "s", 1.0, 0.5, identity, facts={"agent_tools": '["weather"]'})
    assert records.record_from_bytes(span.to_bytes()) == span


def test_models_of_pydantic_are_their_fields():
    from pydantic import BaseModel

    class Book(BaseModel):
        title: str
        pages: int

    text = safejson.dumps({"book": Book(title="Dune", pages=412), "kind": Book})
    value: dict[str, Any] = json.loads(text)
    assert value["book"] == {"title": "Dune", "pages": 412}
    assert "Book" in value["kind"]
