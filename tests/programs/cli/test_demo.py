"""`posthog-instrument demo` as its user sees it: the calls, the table, and what is said when something is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.features import needs

from posthog_autoinstrument.testing import Fault, OpenAIServer, PostHogServer

pytestmark = needs("responses")

TOKEN = "phc_demo_token_of_the_test_suite"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(*arguments, **environment)`: the command line, its store in `tmp_path`."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ |= {"POSTHOG_AUTOINSTRUMENT_DB": str(tmp_path / "events.db"), "COLUMNS": "220", **environment}
        command = [sys.executable, "-m", "posthog_autoinstrument", *arguments]
        return subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def rows(output: str) -> list[list[str]]:
    """The cells of the table, one list a row."""
    lines = output.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("TIME"))
    return [line.split() for line in lines[head + 1 : lines.index("", head)]]


def test_every_call_is_a_row_of_the_table(run: Run) -> None:
    done = run("demo")
    assert done.returncode == 0, done.stderr
    for progress in ("chat:", "stream:", "tool call:", "response:", "embeddings:", "after a rate limit:"):
        assert f"  {progress}" in done.stdout
    table = rows(done.stdout)
    assert [row[1] for row in table] == ["gen", "gen", "gen", "span", "gen", "gen", "emb", "gen", "gen"]
    users = [cell for row in table for cell in row if "@example.com" in cell]
    assert users == ["ada@example.com"] * 5 + ["grace@example.com"] * 4
    for row in table[:-1]:
        if row[1] == "span":  # the tool that was asked for
            continue
        assert "200" in row
        tokens = next(cell for cell in row if "→" in cell)
        assert tokens.split("→")[0].isdigit()
        assert any(cell.endswith("s") and cell[:-1].replace(".", "").isdigit() for cell in row)
    assert "400" in table[-1]
    assert "temperature" in " ".join(table[-1])
    assert "POSTHOG_PROJECT_TOKEN=phc_" in done.stdout
    (line,) = done.stderr.splitlines()  # the commands in it show this store, not the usual one
    assert "demo.db; see them: posthog-instrument view --db " in line


def test_events_stay_in_the_store_and_a_second_run_shows_its_own_only(run: Run) -> None:
    first = run("demo")
    second = run("demo", POSTHOG_AUTOINSTRUMENT_PROPERTIES='{"team": "blue"}')
    assert len(rows(first.stdout)) == len(rows(second.stdout)) == 9
    events = [json.loads(line)["properties"] for line in run("events", "--json", "--db", "demo.db").stdout.splitlines()]
    assert len(events) == 18
    assert len({event["demo_run"] for event in events}) == 2
    assert [event.get("team") for event in events] == [None] * 9 + ["blue"] * 9
    assert [event["plan"] for event in events] == (["pro"] * 5 + ["free"] * 4) * 2


def test_with_a_token_the_events_go_to_posthog_and_nothing_to_disk(
    run: Run, tmp_path: Path, posthog_server: PostHogServer
) -> None:
    done = run("demo", "--send", POSTHOG_PROJECT_TOKEN=TOKEN, POSTHOG_HOST=posthog_server.url)
    assert done.returncode == 0, done.stderr
    assert len(posthog_server.events) == 9
    assert {event["properties"]["$lib"] for event in posthog_server.events} == {"posthog-autoinstrument"}
    (mark,) = {event["properties"]["demo_run"] for event in posthog_server.events}
    assert mark in done.stdout
    assert posthog_server.url in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", [("demo",), ("--local", "demo")])
def test_without_being_asked_nothing_goes_into_the_users_project_store_or_spool(
    run: Run, tmp_path: Path, posthog_server: PostHogServer, asked: tuple[str, ...]
) -> None:
    spool = tmp_path / "spool"
    done = run(*asked, POSTHOG_PROJECT_TOKEN=TOKEN, POSTHOG_HOST=posthog_server.url, POSTHOG_SPOOL=str(spool))
    assert done.returncode == 0, done.stderr
    assert len(rows(done.stdout)) == 9
    assert posthog_server.requests == []
    assert {file.name.partition("-")[0] for file in tmp_path.iterdir()} == {"demo.db"}
    command = next(line.split() for line in done.stdout.splitlines() if " events --db " in line)
    assert '"demo_run"' in run(*command[1:]).stdout


def test_to_send_a_token_is_needed(run: Run) -> None:
    done = run("demo", "--send")
    assert (done.returncode, done.stdout) == (2, "")
    assert "POSTHOG_PROJECT_TOKEN" in done.stderr


def test_events_that_posthog_does_not_take_are_no_success(run: Run, posthog_server: PostHogServer) -> None:
    posthog_server.fail_next(*[Fault(status=401)] * 10)
    done = run("demo", "--send", POSTHOG_PROJECT_TOKEN=TOKEN, POSTHOG_HOST=posthog_server.url)
    assert done.returncode == 1
    assert "not all events reached 127.0.0.1" in done.stderr
    assert "401" in done.stderr


def test_live_calls_the_server_that_the_environment_names(run: Run, openai_server: OpenAIServer) -> None:
    done = run("demo", "--live", "--model", "gpt-4.1", OPENAI_BASE_URL=openai_server.base_url, OPENAI_API_KEY="sk-x")
    assert done.returncode == 0, done.stderr
    assert len(openai_server.requests) == len([row for row in rows(done.stdout) if row[1] != "span"]) == 7
    assert openai_server.requests[0].json()["model"] == "gpt-4.1"


def test_live_without_a_key(run: Run) -> None:
    done = run("demo", "--live")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "OPENAI_API_KEY" in line
    assert done.stdout == ""


def test_a_proxy_of_the_environment_does_not_get_in_the_way(run: Run) -> None:
    nowhere = "http://127.0.0.1:1"
    done = run("demo", HTTP_PROXY=nowhere, HTTPS_PROXY=nowhere, ALL_PROXY=nowhere)
    assert done.returncode == 0, done.stderr


def test_without_the_openai_package(run: Run, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['openai'] = None\n")
    done = run("demo", PYTHONPATH=str(hidden))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'pip install "posthog-autoinstrument[demo]"' in line


def test_switched_off(run: Run) -> None:
    done = run("demo", POSTHOG_AUTOINSTRUMENT_DISABLED="1")
    assert done.returncode == 1
    assert "POSTHOG_AUTOINSTRUMENT_DISABLED" in done.stderr


def test_a_store_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("demo", POSTHOG_AUTOINSTRUMENT_DB=str(tmp_path / "file" / "events.db"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_help(run: Run) -> None:
    done = run("demo", "--help")
    assert done.returncode == 0
    assert "--live" in done.stdout
    assert run("demo", "--nonsense").returncode == 2
