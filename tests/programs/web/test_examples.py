"""The programs of `examples/` that are no web apps, run as their docstrings say."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT
from support.programs import environment
from support.waiting import wait_until

from posthog_autoinstrument.testing import Answer

EXAMPLES = ROOT / "examples"
LAUNCHER = [sys.executable, "-m", "posthog_autoinstrument", sys.executable]


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event["properties"] for event in events if event["event"] == kind]


def asking_for(*names: str) -> Answer:
    """What a model answers that asks for tools."""
    calls = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": '{"title": "Dune"}'}}
        for name in names
    ]
    choice = {
        "index": 0,
        "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": None, "tool_calls": calls},
    }
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [choice]}
    return Answer(body=body)


def test_the_agent_with_tools(run_program, openai_server):
    openai_server.script(asking_for("stock_of", "price_of"))
    ran = run_program((EXAMPLES / "agent.py").read_text())
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 2
    assert {event["distinct_id"] for event in ran.events} == {"user-42"}
    assert {event["properties"]["$ai_session_id"] for event in ran.events} == {"visit-7"}
    traces = {one["$ai_trace_id"]: one for one in of_kind(ran.events, "$ai_trace")}
    assert [one["$ai_span_name"] for one in traces.values()] == ["bookseller"] * 2
    (first,) = [trace for trace, one in traces.items() if one["$ai_input_state"] == {"question": "Is Dune in stock?"}]
    turn = [event for event in ran.events if event["properties"]["$ai_trace_id"] == first]
    spans = {one["$ai_span_name"]: one for one in of_kind(turn, "$ai_span")}
    asking, telling = sorted(of_kind(turn, "$ai_generation"), key=lambda one: len(one["$ai_input"]))
    assert set(spans) == {"bookseller", "stock_of", "price_of"}
    assert spans["bookseller"]["$ai_span_type"] == "agent"
    agent = spans["bookseller"]["$ai_span_id"]
    assert asking["$ai_parent_id"] == telling["$ai_parent_id"] == spans["stock_of"]["$ai_parent_id"] == agent
    assert (spans["stock_of"]["$ai_input_state"], spans["stock_of"]["$ai_output_state"]) == ({"title": "Dune"}, 4)
    assert spans["price_of"]["$ai_parent_id"] == asking["$ai_span_id"]
    assert spans["price_of"]["$ai_output_state"] == "4.50"


@pytest.mark.parametrize("name", ["agent.py", "async_chat.py", "chat.py", "with_context.py"])
def test_each_program_runs_with_and_without_the_launcher(run_program, name):
    source = (EXAMPLES / name).read_text()
    bare, launched = run_program(source, launched=False, token=False), run_program(source)
    assert (bare.returncode, bare.stderr) == (0, "")
    assert (launched.returncode, launched.stdout, launched.stderr) == (0, bare.stdout, "")
    assert bare.events == []
    assert launched.events


@pytest.mark.timeout(300)
def test_the_celery_jobs(tmp_path: Path, openai_server: Any, posthog_server: Any) -> None:
    pytest.importorskip("celery")
    folder = Path(shutil.copytree(EXAMPLES / "celery_jobs", tmp_path / "jobs"))
    environ = environment(openai_server, posthog_server)
    with (tmp_path / "output").open("wb") as output:
        worker = subprocess.Popen(
            [*LAUNCHER, "-m", "celery", "-A", "tasks", "worker", "-c", "2"],
            cwd=folder, env=environ, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        ordered = subprocess.run(
            [*LAUNCHER, "order.py"], cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert ordered.returncode == 0, ordered.stderr + (tmp_path / "output").read_text()
        assert len(ordered.stdout.splitlines()) == 2
        wait_until(lambda: len(posthog_server.events) == 4, "not all events", timeout_s=60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(90) == 0, (tmp_path / "output").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    for user in ("ann", "bob"):
        mine = [event for event in posthog_server.events if event["distinct_id"] == user]
        (span,), (call,) = of_kind(mine, "$ai_span"), of_kind(mine, "$ai_generation")
        assert span["$ai_span_name"] == "summarise"
        assert call["$ai_parent_id"] == span["$ai_span_id"]
        assert call["$ai_trace_id"] == span["$ai_trace_id"]
        assert f"A long letter of {user}." in call["$ai_input"][0]["content"]
        assert (call["plan"], span["plan"]) == ("pro", "pro")
