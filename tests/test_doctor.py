"""`posthog-instrument doctor`: what it finds well, what it finds wrong, and what it never shows."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from features import has
from ports import free_port

from posthog_autoinstrument.config import SETTINGS
from posthog_autoinstrument.testing import Answer, LoopbackServer, PostHogServer

TOKEN = "phc_doctor_token_of_the_test_suite"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, posthog_server: PostHogServer) -> Run:
    """`run(*options, **environment)`: doctor with a token and a host that answers; "" takes a variable away."""

    def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ |= {
            "POSTHOG_AUTOINSTRUMENT_DB": str(tmp_path / "state" / "events.db"),
            "POSTHOG_PROJECT_TOKEN": TOKEN,
            "POSTHOG_HOST": posthog_server.url,
            **environment,
        }
        command = [sys.executable, "-m", "posthog_autoinstrument", *(options or ("doctor",))]
        return subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def line_of(output: str, words: str) -> str:
    """The one line that starts with these words."""
    (line,) = [line for line in output.splitlines() if line.split()[: len(words.split())] == words.split()]
    return line


def unused_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_all_is_well(run: Run, tmp_path: Path, posthog_server: PostHogServer) -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for setting in SETTINGS:
        line_of(done.stdout, setting.variable)
    for name in ("python", "openai", "wrapt", "requests", "posthog"):
        assert line_of(done.stdout, name).split()[1][0].isdigit()
    assert "matched openai._base_client.SyncAPIClient: request" in " ".join(done.stdout.split())
    assert "Completions: create" in done.stdout
    assert "not matched" not in done.stdout
    assert "not loaded" not in done.stdout
    assert line_of(done.stdout, posthog_server.url).endswith(
        "answers (the token is not tried: that would send an event)"
    )
    assert line_of(done.stdout, str(tmp_path / "state" / "events.db"))
    assert "the agent wakes" in done.stdout
    assert done.stdout.splitlines()[-1] == "All is well: events go to PostHog."
    assert posthog_server.events == []
    assert list(tmp_path.iterdir()) == [], "asking makes no store"


def test_other_integrations_are_named(run: Run, tmp_path: Path) -> None:
    for name in ("litellm", "langchain_core"):  # as an installer leaves them; nothing of them is imported
        folder = tmp_path / "site" / f"{name}-1.2.3.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.2.3\n")
    done = run(PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout
    assert "their calls are left to them" in done.stdout
    assert line_of(done.stdout, "posthog.ai.openai").endswith("can be used here")
    assert line_of(done.stdout, "posthog.ai.langchain").endswith("can be used here")
    assert line_of(done.stdout, "posthog.ai.openai_agents").endswith("not here: openai-agents is not installed")
    assert line_of(done.stdout, "litellm's posthog").endswith("can be used here")
    assert "gateway.us.posthog.com" in line_of(done.stdout, "AI gateway")


def test_what_gives_context_and_what_tells_of_steps(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "site" / "openai_agents-1.2.3.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 1.2.3\n")
    (tmp_path / "site" / "agents").mkdir()
    (tmp_path / "site" / "agents" / "__init__.py").write_text("")
    (tmp_path / "site" / "agents" / "tracing.py").write_text("")
    done = run(PYTHONPATH=str(tmp_path / "site"))
    servers = ("uvicorn", "hypercorn", "daphne", "granian", "gunicorn", "waitress", "werkzeug", "cheroot")
    for name in (*servers, "starlette", "fastapi", "flask", "django"):
        assert line_of(done.stdout, name).endswith("each request has a context"), done.stdout
    assert "langchain-core" in line_of(done.stdout, "not installed")
    state = "not hooked into agents.tracing: of this version we do not know how"
    assert line_of(done.stdout, "openai-agents").endswith(state)
    assert f"problem: openai-agents 1.2.3: {state}" in done.stdout


PATHS = [
    "chat.completions.create",
    "chat.completions.parse",
    "chat.completions.stream",
    "embeddings.create",
    "completions.create",
    "responses.create",
    "responses.parse",
    "responses.stream",
    "responses.compact",
    "responses.connect",
    "moderations.create",
    "images.generate",
    "decisions.create",
]


def test_what_the_sdk_lacks_is_one_line(run: Run) -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    # In some versions these two are kept elsewhere, and patched there.
    kept = {f"chat.completions.{name}" for name in ("parse", "stream") if has(f"beta.chat.completions.{name}")}
    lacks = {path for path in PATHS if not has(path)} - kept
    lines = [line for line in done.stdout.splitlines() if "not in this version" in line]
    assert len(lines) == bool(lacks)
    said = "".join(lines).replace("not in this version", "").replace(",", "").split()
    assert {path for path in said if path in PATHS} == lacks
    assert not [path for path in said if has(path)]


def test_the_token_is_never_shown_whole(run: Run) -> None:
    done = run()
    assert TOKEN not in done.stdout + done.stderr
    assert line_of(done.stdout, "POSTHOG_PROJECT_TOKEN").split()[1:] == ["phc_doct...", "(environment)"]


def test_where_a_value_came_from(run: Run) -> None:
    done = run(
        "--local",
        "doctor",
        POSTHOG_PROJECT_TOKEN="",
        POSTHOG_API_KEY=TOKEN,
        POSTHOG_AUTOINSTRUMENT_FLUSH_AT="7",
        POSTHOG_AUTOINSTRUMENT_GROUPS='{"company": "acme"}',
    )
    assert done.returncode == 0, done.stdout
    assert line_of(done.stdout, "POSTHOG_PROJECT_TOKEN").endswith("phc_doct...  (environment: POSTHOG_API_KEY)")
    assert line_of(done.stdout, "POSTHOG_AUTOINSTRUMENT_FLUSH_AT").endswith("7  (environment)")
    assert line_of(done.stdout, "POSTHOG_AUTOINSTRUMENT_GROUPS").endswith('{"company": "acme"}  (environment)')
    assert line_of(done.stdout, "POSTHOG_AUTOINSTRUMENT_LOCAL").endswith("1  (command line)")
    assert line_of(done.stdout, "POSTHOG_PRIVACY_MODE").endswith("0  (default)")
    assert done.stdout.splitlines()[-1] == "All is well: events go to the local store."


def test_without_a_token_the_local_store_is_enough(run: Run) -> None:
    done = run(POSTHOG_PROJECT_TOKEN="", POSTHOG_HOST=unused_url())
    assert done.returncode == 0, done.stdout
    assert "Connection refused" in done.stdout
    assert done.stdout.splitlines()[-1] == "All is well: events go to the local store."


def test_a_host_that_refuses(run: Run) -> None:
    host = unused_url()
    done = run(POSTHOG_HOST=host)
    assert done.returncode == 1
    assert line_of(done.stdout, "problem:").startswith(f"problem: {host} does not answer")


@pytest.mark.parametrize(("status", "words"), [(404, "no PostHog capture service"), (503, "503"), (302, "redirects")])
def test_a_host_that_is_not_posthog(run: Run, status: int, words: str) -> None:
    server = LoopbackServer(lambda request: Answer(status, headers={"location": "https://example.com/login"}))
    try:
        done = run(POSTHOG_HOST=server.url)
    finally:
        server.close()
    assert done.returncode == 1
    assert words in line_of(done.stdout, "problem:")


def test_a_host_without_the_ai_path_answers_too(run: Run) -> None:
    def answer(request: object) -> Answer:
        return Answer(404 if "/ai/" in getattr(request, "path", "") else 405)

    server = LoopbackServer(answer)
    try:
        assert run(POSTHOG_HOST=server.url).returncode == 0
    finally:
        server.close()


def test_a_password_in_the_host_is_not_shown(run: Run, posthog_server: PostHogServer) -> None:
    done = run(POSTHOG_HOST=posthog_server.url.replace("http://", "http://me:hunter2@"))
    assert done.returncode == 0, done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_personal_key_is_refused(run: Run) -> None:
    key = "phx_personal_key_of_somebody"
    done = run(POSTHOG_PROJECT_TOKEN=key)
    assert done.returncode == 1
    assert key not in done.stdout + done.stderr
    problem = line_of(done.stdout, "problem:")
    for words in ("POSTHOG_PROJECT_TOKEN", "phx_pers...", "not a personal key"):
        assert words in problem


def test_a_value_that_is_not_accepted(run: Run) -> None:
    done = run(POSTHOG_AUTOINSTRUMENT_FLUSH_AT="many")
    assert done.returncode == 1
    problem = line_of(done.stdout, "problem:")
    for words in ("POSTHOG_AUTOINSTRUMENT_FLUSH_AT", "'many'", "1 to 10000"):
        assert words in problem
    assert line_of(done.stdout, "POSTHOG_AUTOINSTRUMENT_FLUSH_AT").endswith("100  (default)")


def test_switched_off(run: Run) -> None:
    done = run(POSTHOG_AUTOINSTRUMENT_DISABLED="1")
    assert done.returncode == 1
    assert "nothing is captured" in line_of(done.stdout, "problem:")


def test_a_store_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(POSTHOG_PROJECT_TOKEN="", POSTHOG_AUTOINSTRUMENT_DB=str(tmp_path / "file" / "events.db"))
    assert done.returncode == 1
    assert "no event can be kept" in line_of(done.stdout, "problem:")


def test_a_store_of_another_program_matters_only_where_it_is_used(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, but a text of somebody who needs it. " * 20)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert run(POSTHOG_AUTOINSTRUMENT_DB=str(path)).returncode == 0
    done = run(POSTHOG_PROJECT_TOKEN="", POSTHOG_AUTOINSTRUMENT_DB=str(path))
    assert done.returncode == 1
    assert str(path) in line_of(done.stdout, "problem:")


def test_without_the_openai_package(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text("import sys\nsys.modules['openai'] = None\n")
    done = run(PYTHONPATH=str(tmp_path / "hidden"))
    assert done.returncode == 1
    assert "openai package" in line_of(done.stdout, "problem:")


def test_an_sdk_of_which_nothing_is_known(run: Run, tmp_path: Path) -> None:
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai" / "__init__.py").write_text("from . import _base_client\n")
    (tmp_path / "openai" / "_base_client.py").write_text("class SyncAPIClient:\n    pass\n")
    done = run(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "not in this version" in done.stdout
    assert "could be patched" in done.stderr
    assert "not every call" in line_of(done.stdout, "problem:")


def test_under_the_launcher_itself(run: Run) -> None:
    done = run("--", sys.executable, "-m", "posthog_autoinstrument", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert line_of(done.stdout, "on PYTHONPATH here").split()[3] == "yes"


def test_help(run: Run) -> None:
    done = run("doctor", "--help")
    assert done.returncode == 0
    assert "exit code" in done.stdout


def test_a_hook_that_cannot_be_loaded_is_a_problem(run: Run) -> None:
    for hook, why in (
        ("no_such_module:f", "no module named"),
        ("json:nope", "nope"),
        ("json:__name__", "not callable"),
    ):
        done = run(POSTHOG_AUTOINSTRUMENT_BEFORE_SEND=hook)
        assert done.returncode == 1
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("problem:") and hook in line]
        assert why in line


def test_a_hook_beside_the_program_is_found_and_not_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('run')\ndef scrub(event): return event\n")
    done = run(POSTHOG_AUTOINSTRUMENT_BEFORE_SEND="app:scrub")
    assert done.returncode == 0, done.stdout
    assert f"found in {tmp_path / 'app.py'}, which was not run" in done.stdout
    done = run(POSTHOG_AUTOINSTRUMENT_USER="app:who")
    assert done.returncode == 1
    assert f"problem: POSTHOG_AUTOINSTRUMENT_USER=app:who: {tmp_path / 'app.py'} has no who" in done.stdout


def test_values_are_shown_as_they_are_written(run: Run) -> None:
    done = run(POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS="b:80,a.com", POSTHOG_PRIVACY_MODE="maybe")
    assert line_of(done.stdout, "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS").split()[1] == "a.com,b:80"
    assert "POSTHOG_PRIVACY_MODE is not accepted" in line_of(done.stdout, "POSTHOG_PRIVACY_MODE")


def test_a_misspelt_setting_is_named(run: Run) -> None:
    done = run(POSTHOG_AUTOINSTRUMENT_DISABLE="1")
    assert done.returncode == 1
    assert "POSTHOG_AUTOINSTRUMENT_DISABLE is not a setting" in done.stdout


def test_the_spool(run: Run, tmp_path: Path) -> None:
    assert "Spool" not in run().stdout
    folder = tmp_path / "spool"
    assert line_of(run(POSTHOG_SPOOL=str(folder)).stdout, str(folder)).endswith("made at the first call")
    folder.mkdir()
    (folder / "outbox-1.db").touch()
    assert line_of(run(POSTHOG_SPOOL=str(folder)).stdout, str(folder)).endswith("1 outbox of processes")
    folder = tmp_path / "file"
    folder.touch()
    done = run(POSTHOG_SPOOL=str(folder))
    assert done.returncode == 1
    assert f"problem: POSTHOG_SPOOL={folder} is no directory" in done.stdout
