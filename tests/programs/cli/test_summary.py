"""`posthog-instrument --summary`: one line at the end of the program, on standard error and nowhere else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.programs import Ran, environment
from support.stored import NOON, call, span
from support.waiting import wait_until

from posthog_autoinstrument.core import diagnostics
from posthog_autoinstrument.export import posthog_links
from posthog_autoinstrument.export.run_summary import RunSummary
from posthog_autoinstrument.testing import Fault, OpenAIServer, PostHogServer

ASK = {"POSTHOG_AUTOINSTRUMENT_SUMMARY": "1"}
PROGRAM = """
import openai
client = openai.OpenAI(max_retries=0)
for model in ("gpt-4o", "gpt-4o", "error-500"):
    try:
        print(client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}]).model)
    except openai.APIError as error:
        print("failed")
"""
Run = Callable[..., Ran]


def said(ran: Ran) -> list[str]:
    """The lines that are ours, without the launcher's."""
    lines = [
        line.removeprefix(diagnostics.PREFIX) for line in ran.stderr.splitlines() if line.startswith(diagnostics.PREFIX)
    ]
    return [line for line in lines if "calls are kept in" not in line]


def test_the_line_has_calls_tokens_cost_and_the_slowest(run_program: Run) -> None:
    pytest.importorskip("genai_prices")
    plain = run_program(PROGRAM, token=False)
    ran = run_program(PROGRAM, token=False, env=ASK)
    assert (ran.returncode, ran.stdout) == (plain.returncode, plain.stdout)
    assert said(plain) == []
    (line,) = said(ran)
    found = re.fullmatch(
        r"3 calls, 1 failed, (\d+) tokens in, (\d+) out, cost \$(\S+), slowest [\d.]+ m?s \(\S+\); "
        r"see them: posthog-instrument view --db \S+/state/events.db",
        line,
    )
    assert found, line
    # gpt-4o: 2.50 and 10 USD a million
    expected = (int(found[1]) * 2.5 + int(found[2]) * 10) / 1_000_000
    assert float(found[3]) == pytest.approx(expected, rel=0.01)


def test_with_a_token_the_line_leads_to_posthog(run_program: Run) -> None:
    ran = run_program(PROGRAM, env=ASK)
    (line,) = said(ran)
    assert re.search(r"; see them: http://127\.0\.0\.1:\d+/ai-observability/traces$", line)
    assert len(ran.events) == 3


def test_a_program_that_calls_nobody_says_so(run_program: Run) -> None:
    assert said(run_program("print(1)", env=ASK)) == [
        "no calls were captured: this process imported no SDK (those of its child processes are not counted)"
    ]
    assert said(run_program("import openai", env=ASK)) == [
        "no calls were captured in this process (those of its child processes are not counted)"
    ]
    assert said(run_program("import openai", env={**ASK, "POSTHOG_AUTOINSTRUMENT_DISABLED": "1"})) == [
        "no calls were captured: POSTHOG_AUTOINSTRUMENT_DISABLED is set"
    ]
    assert said(run_program("print(1)", env={"POSTHOG_AUTOINSTRUMENT_SUMMARY": "0"})) == []


def test_children_say_nothing(run_program: Run) -> None:
    ran = run_program(
        """
        import os, subprocess, sys
        import openai
        ask = "import openai; openai.OpenAI().embeddings.create(model='text-embedding-3-small', input='x')"
        subprocess.run([sys.executable, "-c", ask], check=True)
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        exec(ask)
        child = os.fork()
        if child == 0:
            exec(ask)
            sys.exit()
        os.waitpid(child, 0)
        """,
        env=ASK,
    )
    (line,) = said(ran)
    assert line.startswith("1 call, ")
    assert len(ran.events) == 3


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_what_a_dead_process_left_in_the_spool_is_not_counted(run_program: Run, tmp_path: Path) -> None:
    ask = "import openai, os; openai.OpenAI().embeddings.create(model='text-embedding-3-small', input='x')\n"
    environ = {"POSTHOG_SPOOL": str(tmp_path / "spool"), "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"}
    killed = run_program(ask + "os.kill(os.getpid(), 9)", env=environ)
    assert (killed.returncode, killed.events) == (-9, [])
    spool = environ["POSTHOG_SPOOL"]
    wait = f"""
import posthog_autoinstrument as agent, time
until = time.time() + 20
while any(os.path.exists(file) for file in {[str(file) for file in (tmp_path / "spool").iterdir()]!r}):
    agent.flush()
    assert time.time() < until, os.listdir({spool!r})
    time.sleep(0.05)
"""
    ran = run_program(ask + wait, env={**environ, **ASK, "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "0.1"})
    (line,) = said(ran)
    assert line.startswith("1 call, ")
    assert len(ran.events) == 2


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "raise KeyboardInterrupt", "1 / 0", "os.kill(os.getpid(), 15)"])
def test_however_the_program_ends(run_program: Run, how: str) -> None:
    source = f"import os\n{PROGRAM}\nprint('end', flush=True)\n{how}\n"
    plain, ran = run_program(source), run_program(source, env=ASK)
    assert (ran.returncode, ran.stdout) == (plain.returncode, plain.stdout)
    assert [line.partition(",")[0] for line in said(ran)] == ["3 calls"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_the_option_is_before_the_command(tmp_path: Path, openai_server: OpenAIServer) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "posthog_autoinstrument", "--summary", "--local", sys.executable, str(program)]
    environ = environment(openai_server, None, POSTHOG_AUTOINSTRUMENT_DB=str(tmp_path / "state" / "events.db"))
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("\n") == 3
    assert "3 calls, 1 failed" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_a_server_that_is_stopped_sums_up(tmp_path: Path, openai_server: OpenAIServer) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "\nimport time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "posthog_autoinstrument", "--summary", "--local", sys.executable, str(program)]
    environ = environment(openai_server, None, POSTHOG_AUTOINSTRUMENT_DB=str(tmp_path / "state" / "events.db"))
    with (tmp_path / "out").open("w") as out, (tmp_path / "errors").open("w") as errors:
        child = subprocess.Popen(command, env=environ, stdout=out, stderr=errors)
    wait_until(lambda: "ready" in (tmp_path / "out").read_text(), "it does not start")
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == -signal.SIGTERM
    assert "3 calls, 1 failed" in (tmp_path / "errors").read_text().splitlines()[-1]


def test_costs_are_only_those_that_are_known(tmp_path: Path) -> None:
    pytest.importorskip("genai_prices")
    nowhere = str(tmp_path / "none.toml")

    def line(*events: dict[str, object], prices: str = nowhere) -> str:
        summary = RunSummary()
        for event in events:
            summary.note(event)
        return summary.line(prices, "end")

    unknown = call(model="no\x1b[31m-price", input_tokens=1, output_tokens=2, latency=None)
    assert line(unknown) == "1 call, 1 token in, 2 out, cost unknown (no price for no[31m-price); end"
    known = call(NOON, model="gpt-4o", input_tokens=1000, output_tokens=100, latency=2.0)
    assert line(known, span()) == "1 call, 1,000 tokens in, 100 out, cost $0.0035, slowest 2.00 s (gpt-4o); end"
    reported = call(total_cost_usd=1.5, model="x\u202ey", latency=3.0, input_tokens=None, output_tokens=None)
    assert line(known, unknown, reported) == (
        "3 calls, 1,001 tokens in, 102 out (1 call unknown), cost $1.50 and the unknown cost of 1 "
        "(no price for no[31m-price), slowest 3.00 s (xy); end"
    )
    own = tmp_path / "prices.toml"
    own.write_text('[[price]]\nmodel = "no*price"\ninput = 1\noutput = 1\n')
    assert "cost $0.000003;" in line(unknown, prices=str(own))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("https://us.i.posthog.com", "https://us.posthog.com/ai-observability/traces/t%2F1%3F"),
        ("https://eu.i.posthog.com", "https://eu.posthog.com/ai-observability/traces/t%2F1%3F"),
        (
            "https://posthog.example.com:8000/sub/",
            "https://posthog.example.com:8000/sub/ai-observability/traces/t%2F1%3F",
        ),
        ("https://user:password@example.com", None),
        ("javascript:alert(1)", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_a_trace_has_its_place_in_posthog(host: str, expected: str | None) -> None:
    assert posthog_links.trace_url(host, "t/1?") == expected
    at = posthog_links.trace_url(host, "t/1?", NOON)
    assert at == (None if expected is None else f"{expected}?timestamp=2026-11-23T12%3A00%3A00Z")


STREAM = """
import openai
client = openai.OpenAI()
for number in range(2):
    said = [{"role": "user", "content": "hi"}]
    for chunk in client.chat.completions.create(model="gpt-4o", messages=said, stream=True):
        pass
"""


def test_tokens_of_streams_that_nobody_told_are_unknown(run_program: Run, openai_server: OpenAIServer) -> None:
    host = openai_server.base_url.split("/")[2]
    (line,) = said(run_program(STREAM, env=ASK))
    assert line.startswith(f"2 calls, tokens unknown ({host} does not report tokens of streams")
    assert f"set POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS={host})" in line
    assert "cost unknown (tokens are unknown)" in line
    (line,) = said(run_program(STREAM, env={**ASK, "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS": host}))
    assert re.match(r"2 calls, [1-9]\d* tokens in, [1-9]\d* out, cost ", line), line
    mixed = run_program(PROGRAM + STREAM, env=ASK)
    assert re.match(r"5 calls, 1 failed, [1-9]\d* tokens in, [1-9]\d* out \(2 calls unknown\) \(", said(mixed)[0])


def test_what_is_left_out_is_counted(run_program: Run) -> None:
    hook = "import posthog_autoinstrument\nposthog_autoinstrument.configure(before_send=lambda event: None)\n"
    by_hook = run_program(hook + PROGRAM, env=ASK)
    left_out = "no calls were captured in this process: 3 left out (3 by before_send)"
    assert [line for line in said(by_hook) if line.startswith(left_out)]
    failing = hook.replace("lambda event: None", "lambda event: 1 / 0")
    lost = "no calls were captured in this process: 3 events were lost (those of its child processes are not counted)"
    assert lost in said(run_program(failing + PROGRAM, env=ASK))
    (line,) = said(run_program(PROGRAM, env={**ASK, "POSTHOG_AUTOINSTRUMENT_DENY_MODELS": "gpt-4o"}))
    assert line.startswith("1 call, 1 failed, 2 left out (2 by sampling or filters), ")
    ran = run_program(PROGRAM, env={**ASK, "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE": "0"})
    assert said(ran)[0].startswith("no calls were captured in this process: 3 left out (3 by sampling or filters)")


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
class TestInATerminal:
    def launch(self, source: str, environ: dict[str, str], folder: Path) -> str:
        """What a terminal shows of the program's standard error."""
        import pty
        import threading

        (folder / "program.py").write_text(source)
        ours, theirs = pty.openpty()
        shown = bytearray()

        def read() -> None:
            try:
                while data := os.read(ours, 65_536):
                    shown.extend(data)
            except OSError:
                pass  # the last one has closed the other side

        reader = threading.Thread(target=read)
        reader.start()
        command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "program.py"]
        child = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        assert child.wait(60) == 0, shown
        reader.join(30)
        os.close(ours)
        return shown.decode()

    def test_the_first_run_that_captures_something_says_so(
        self, tmp_path: Path, openai_server: OpenAIServer, posthog_server: PostHogServer
    ) -> None:
        environ = environment(openai_server, posthog_server, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
        assert self.launch("import openai", environ, tmp_path) == ""
        line = self.launch(PROGRAM, environ, tmp_path)
        assert re.match(r"posthog-autoinstrument: 3 calls, 1 failed, \d+ tokens in, \d+ out, cost ", line)
        assert line.endswith(f"; see them: {posthog_server.url}/ai-observability/traces\r\n")
        assert self.launch(PROGRAM, environ, tmp_path) == ""
        again = self.launch(PROGRAM, {**environ, **ASK}, tmp_path)
        assert again.count("3 calls, 1 failed") == 1
        # The local store is another place to look.
        local = {**environ, "POSTHOG_AUTOINSTRUMENT_LOCAL": "1"}
        assert "see them: posthog-instrument view\r\n" in self.launch(PROGRAM, local, tmp_path)
        assert "3 calls" not in self.launch(PROGRAM, local, tmp_path)

    def test_not_where_nothing_was_delivered(
        self, tmp_path: Path, openai_server: OpenAIServer, posthog_server: PostHogServer
    ) -> None:
        environ = environment(openai_server, posthog_server, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
        posthog_server.fail_next(*[Fault(status=401)] * 9)
        assert "see them" not in self.launch(PROGRAM, environ, tmp_path)


def test_where_nothing_arrived_there_is_nothing_to_see(run_program: Run, posthog_server: PostHogServer) -> None:
    posthog_server.fail_next(*[Fault(status=401)] * 9)
    ran = run_program(PROGRAM, env=ASK)
    assert "3 events were lost" in ran.stderr
    assert "see them" not in ran.stderr


def test_a_call_that_is_read_from_the_spool_again_is_counted_once(
    run_program: Run, posthog_server: PostHogServer, tmp_path: Path
) -> None:
    posthog_server.fail_next(*[Fault(503)] * 1_000)
    ran = run_program(PROGRAM, env={**ASK, "POSTHOG_SPOOL": str(tmp_path / "spool")})
    stay, line = said(ran)
    assert stay.startswith("3 events stay in the spool")
    assert line.startswith("3 calls, 1 failed, ")
