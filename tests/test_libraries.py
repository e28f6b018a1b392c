"""Libraries that tell of their steps, here by stand-ins; `make steps` runs the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posthog_autoinstrument import jsonsafe, records

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

    text = jsonsafe.dumps({"book": Book(title="Dune", pages=412), "kind": Book})
    value: dict[str, Any] = json.loads(text)
    assert value["book"] == {"title": "Dune", "pages": 412}
    assert "Book" in value["kind"]
