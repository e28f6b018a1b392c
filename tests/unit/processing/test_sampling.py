"""Sampling keeps whole traces, the same in every process; filters leave out calls. Neither is a loss."""

from __future__ import annotations

import textwrap
import uuid

import pytest

from posthog_autoinstrument.processing.sampling import Patterns, share

PREAMBLE = """
import os, subprocess, sys
import openai
from posthog_autoinstrument import capture_metric, posthog_context, posthog_span

client = openai.OpenAI(max_retries=0)

def ask(model="gpt-4o-mini"):
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    except openai.APIError:
        pass
"""


def variables(**settings: str) -> dict[str, str]:
    return {f"POSTHOG_AUTOINSTRUMENT_{name}": value for name, value in settings.items()}


def test_where_a_trace_stands():
    # printf trace-1 | sha256sum: 17fe6f303311...
    assert share("trace-1") == 0x17FE6F303311 / 2**48
    shares = [share(str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))) for number in range(10_000)]
    assert min(shares) >= 0
    assert max(shares) < 1
    for rate in (0.01, 0.3, 0.9):
        assert abs(sum(one < rate for one in shares) / 10_000 - rate) < 0.02


def test_whole_traces_in_two_processes(run_program):
    ran = run_program(
        PREAMBLE
        + textwrap.dedent(
            """
            if sys.argv[1:]:
                for number in range(20):
                    with posthog_context(trace_id=f"trace-{number}"):
                        ask()
            else:
                for number in range(20):
                    with posthog_context(trace_id=f"trace-{number}"), posthog_span("step", trace=True):
                        ask()
                        capture_metric("score", 1)
                subprocess.run([sys.executable, __file__, "child"], check=True)
            """
        ),
        env=variables(SAMPLE_RATE="0.5"),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    kept = [f"trace-{number}" for number in range(20) if share(f"trace-{number}") < 0.5]
    assert 0 < len(kept) < 20
    traces = [event["properties"]["$ai_trace_id"] for event in ran.events]
    assert sorted(traces) == sorted(kept * 5)  # two calls, span, trace and metric
    assert not [event for event in ran.events if "posthog_autoinstrument_lost_events" in event["properties"]]


@pytest.mark.parametrize("keep", ["0", "1"])
@pytest.mark.parametrize("spool", [False, True])
def test_errors_are_kept_where_they_are_to_be(run_program, tmp_path, keep, spool):
    env = variables(SAMPLE_RATE="0", SAMPLE_ERRORS=keep, RAISE="1")
    if spool:
        env["POSTHOG_SPOOL"] = str(tmp_path / "spool")
    ran = run_program(
        PREAMBLE
        + textwrap.dedent(
            """
            ask()
            ask("error-400")
            with posthog_context(privacy_mode=True):  # written down as an event, where there is a spool
                ask()
            try:
                with posthog_span("fails"):
                    raise ValueError
            except ValueError:
                pass
            """
        ),
        env=env,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    found = [(event["event"], event["properties"].get("$ai_http_status")) for event in ran.events]
    assert found == ([("$ai_generation", 400), ("$ai_span", None)] if keep == "1" else [])
    assert spool is (tmp_path / "spool").exists()
    assert list((tmp_path / "spool").glob("*.db")) == []


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"DENY_MODELS": "gpt-4o*"}, ["gpt-4.1-2025-04-14", "embedding"]),
        ({"ALLOW_MODELS": "GPT-4O, o1-*"}, ["gpt-4o-2024-08-06"]),
        ({"ALLOW_MODELS": "gpt-*", "DENY_MODELS": "gpt-4o-2024-08-06"}, ["gpt-4.1-2025-04-14"]),
        ({"DENY_ENDPOINTS": "embeddings"}, ["gpt-4o-2024-08-06", "gpt-4.1-2025-04-14"]),
        ({"ALLOW_ENDPOINTS": "/embed*,/audio/*"}, ["embedding"]),
        ({"ALLOW_HOSTS": "127.*"}, ["gpt-4o-2024-08-06", "gpt-4.1-2025-04-14", "embedding"]),
        ({"ALLOW_HOSTS": "api.openai.com"}, []),
        ({"DENY_HOSTS": "127.0.0.1:*"}, []),
    ],
)
def test_lists(run_program, settings, kept):
    ran = run_program(
        PREAMBLE
        + textwrap.dedent(
            """
            with posthog_span("step"):
                ask("gpt-4o")
                ask("gpt-4.1")
                client.embeddings.create(model="text-embedding-3-small", input="Hi")
            """
        ),
        env=variables(**settings),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    models = [
        "embedding" if event["event"] == "$ai_embedding" else event["properties"]["$ai_model"]
        for event in ran.events
        if event["event"] != "$ai_span"
    ]
    assert models == kept
    assert len(ran.events) == len(kept) + 1


@pytest.mark.parametrize(
    ("allowed", "denied", "names", "taken"),
    [
        ([], [], ["a"], True),
        ([], ["a"], [], True),
        (["a"], [], [], False),
        (["a", "b*"], [], ["x", "bc"], True),
        (["a"], [], ["ab"], False),
        (["a*"], ["ab"], ["ab"], False),
        (["a.b"], [], ["axb"], False),
    ],
)
def test_patterns(allowed, denied, names, taken):
    assert Patterns(allowed, denied).take(names) is taken


def test_a_filter_that_is_not_understood_lets_no_call_through(run_program):
    ran = run_program(PREAMBLE + "ask('gpt-4o')\n", env=variables(DENY_MODELS='["gpt-4o"]'))
    assert ran.events == []
    (line,) = ran.stderr.splitlines()
    assert "POSTHOG_AUTOINSTRUMENT_DENY_MODELS" in line
    assert line.endswith("no call makes an event")
