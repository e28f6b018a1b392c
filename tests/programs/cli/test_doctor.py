"""`posthog-instrument doctor`: what it finds well, what it finds wrong, and what it never shows."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import socketserver
import ssl
import stat
import subprocess
import sys
import threading
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from support.features import has
from support.ports import free_port

import sitecustomize_template
from posthog_autoinstrument.settings.config import SETTINGS
from posthog_autoinstrument.testing import Answer, LoopbackServer, PostHogServer

TOKEN = "phc_doctor_token_of_the_test_suite"
Run = Callable[..., subprocess.CompletedProcess[str]]


def doctor(folder: Path, host: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Doctor with a token, of this Python, which is also the one on PATH."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
    environ |= {
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
        "POSTHOG_AUTOINSTRUMENT_DB": str(folder / "state" / "events.db"),
        "POSTHOG_PROJECT_TOKEN": TOKEN,
        "POSTHOG_HOST": host,
        **environment,
    }
    command = [sys.executable, "-m", "posthog_autoinstrument", *(options or ("doctor",))]
    return subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=110, check=False)


@pytest.fixture
def run(tmp_path: Path, posthog_server: PostHogServer) -> Run:
    """`run(*options, **environment)`: doctor with a host that answers; "" takes a variable away."""
    return functools.partial(doctor, tmp_path, posthog_server.url)


@dataclass
class Well:
    """Doctor where nothing is wrong: what it printed, where it ran, and the PostHog that it asked."""

    done: subprocess.CompletedProcess[str]
    folder: Path
    posthog: PostHogServer


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Well]:
    folder = tmp_path_factory.mktemp("well")
    with PostHogServer() as posthog:
        yield Well(doctor(folder, posthog.url), folder, posthog)


def line_of(output: str, words: str) -> str:
    """The one line that starts with these words."""
    (line,) = [line for line in output.splitlines() if line.split()[: len(words.split())] == words.split()]
    return line


def unused_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_all_is_well(well: Well) -> None:
    done = well.done
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
    assert line_of(done.stdout, well.posthog.url).endswith("responds")
    token = line_of(done.stdout, "token")
    assert (
        token.split(maxsplit=1)[1]
        == "phc_doct...uite belongs to a project there (/flags/ answers 200; no event was sent)"
    )
    assert "3.10, 3.11, 3.12, 3.13, 3.14" in line_of(done.stdout, "tested Pythons")
    assert done.stdout.splitlines()[0] == "All is well: events go to PostHog."
    assert line_of(done.stdout, str(well.folder / "state" / "events.db"))
    assert "the agent starts" in done.stdout
    assert done.stdout.splitlines()[-1] == "All is well: events go to PostHog."
    assert well.posthog.events == []
    assert list(well.folder.iterdir()) == [], "asking makes no store"


def test_other_integrations_are_named(run: Run, tmp_path: Path) -> None:
    for name in ("litellm", "langchain_core"):  # as an installer leaves them; nothing of them is imported
        folder = tmp_path / "site" / f"{name}-1.2.3.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.2.3\n")
    done = run(PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout
    assert "calls that one of them captures are not captured twice" in done.stdout
    assert line_of(done.stdout, "posthog.ai.openai").endswith("available")
    assert line_of(done.stdout, "posthog.ai.langchain").endswith("available")
    assert line_of(done.stdout, "posthog.ai.openai_agents").endswith("unavailable: openai-agents is not installed")
    assert line_of(done.stdout, "litellm's posthog").endswith("available")
    assert "gateway.us.posthog.com" in line_of(done.stdout, "AI gateway")


def test_which_libraries_are_instrumented(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "site" / "openai_agents-1.2.3.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 1.2.3\n")
    (tmp_path / "site" / "agents").mkdir()
    (tmp_path / "site" / "agents" / "__init__.py").write_text("")
    (tmp_path / "site" / "agents" / "tracing.py").write_text("")
    folder = tmp_path / "site" / "chainlit-2.3.4.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: chainlit\nVersion: 2.3.4\n")
    (tmp_path / "site" / "chainlit").mkdir()
    (tmp_path / "site" / "chainlit" / "__init__.py").write_text("raise SystemExit('it was imported')")
    done = run(PYTHONPATH=str(tmp_path / "site"))
    assert line_of(done.stdout, "chainlit").endswith("each turn of a session has a context (not imported here)")
    servers = ("uvicorn", "hypercorn", "daphne", "granian", "gunicorn", "waitress", "werkzeug", "cheroot")
    for name in (*servers, "starlette", "fastapi", "flask", "django", "aiohttp", "tornado", "sanic"):
        assert line_of(done.stdout, name).endswith("each request has a context"), done.stdout
    assert "langchain-core" in line_of(done.stdout, "not installed")
    state = "agents.tracing of this version is not known and not instrumented"
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


def test_what_the_sdk_lacks_is_one_line(well: Well) -> None:
    done = well.done
    assert done.returncode == 0, done.stdout + done.stderr
    # In some versions these two are kept elsewhere, and patched there.
    kept = {f"chat.completions.{name}" for name in ("parse", "stream") if has(f"beta.chat.completions.{name}")}
    lacks = {path for path in PATHS if not has(path)} - kept
    lines = [line for line in done.stdout.splitlines() if "not in this version" in line]
    assert len(lines) == bool(lacks)
    said = "".join(lines).replace("not in this version", "").replace(",", "").split()
    assert {path for path in said if path in PATHS} == lacks
    assert not [path for path in said if has(path)]


def test_the_token_is_never_shown_whole(well: Well) -> None:
    done = well.done
    assert TOKEN not in done.stdout + done.stderr
    assert line_of(done.stdout, "POSTHOG_PROJECT_TOKEN").split()[1:] == ["phc_doct...uite", "(environment)"]


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
    assert line_of(done.stdout, "POSTHOG_PROJECT_TOKEN").endswith("phc_doct...uite  (environment: POSTHOG_API_KEY)")
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
    assert line_of(done.stdout, "problem:").startswith(f"problem: no event would arrive at {host}: ")


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
        done = run(POSTHOG_HOST=server.url)
    finally:
        server.close()
    assert done.returncode == 0
    assert "All is well" not in done.stdout
    first = done.stdout.splitlines()[0]
    assert first.startswith("No problem was found; events go to PostHog. Not checked: whether a project has the token")
    assert done.stdout.splitlines()[-1] == first


def test_a_token_that_no_project_has(run: Run, posthog_server: PostHogServer) -> None:
    posthog_server.tokens = {"phc_another"}
    done = run()
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "Not well: 1 problem."
    problem = line_of(done.stdout, "problem:")
    assert (
        f"no project at {posthog_server.url} has the token phc_doct...uite: PostHog accepts its events and drops them"
        in problem
    )
    assert done.stdout.splitlines()[1] == problem.replace("problem:", "  1.")
    assert TOKEN not in done.stdout
    assert run("--local", "doctor").returncode == 0, "it is not used"


def test_a_token_is_looked_up_where_there_are_no_feature_flags(run: Run) -> None:
    known = {"/array/" + TOKEN + "/config.js": Answer(200, body="(function() {})()")}

    def answer(request: object) -> Answer:
        path = getattr(request, "path", "")
        return known.get(path, Answer(404 if path.startswith(("/flags", "/array")) else 405))

    server = LoopbackServer(answer)
    try:
        assert run(POSTHOG_HOST=server.url).stdout.startswith("All is well: events go to PostHog.\n")
        done = run(POSTHOG_HOST=server.url, POSTHOG_PROJECT_TOKEN="another-kind-of-secret")
    finally:
        server.close()
    assert done.returncode == 1
    assert "does not look like a project token" in line_of(done.stdout, "problem:")
    assert "another-kind-of-secret" not in done.stdout


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[tuple[dict[str, PostHogServer], dict[str, str]]]:
    """PostHog's two regions behind a proxy, over TLS; and the environment that leads there."""
    regions = {"us.i.posthog.com": PostHogServer(), "eu.i.posthog.com": PostHogServer()}
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    contexts = {}
    for name in regions:
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(contexts[name])

    class Tunnel(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            name = self.rfile.readline().split()[1].partition(b":")[0].decode()
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with (
                contexts[name].wrap_socket(self.connection, server_side=True) as inner,
                socket.create_connection(("127.0.0.1", urlsplit(regions[name].url).port or 0)) as outer,
            ):
                there = threading.Thread(target=pump, args=(inner, outer))
                there.start()
                pump(outer, inner)
                there.join()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{proxy.server_address[1]}"
    environment = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), address) | dict.fromkeys(("NO_PROXY", "no_proxy"), "")
    yield regions, {**environment, "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem")}
    proxy.shutdown()
    proxy.server_close()
    for region in regions.values():
        region.close()


@pytest.mark.parametrize(("here", "there"), [("us", "eu"), ("eu", "us")])
def test_a_token_of_the_other_region(
    run: Run, cloud: tuple[dict[str, PostHogServer], dict[str, str]], here: str, there: str
) -> None:
    regions, environment = cloud
    regions[f"{here}.i.posthog.com"].tokens = set()
    done = run(**environment, POSTHOG_HOST=f"https://{here}.posthog.com")
    assert done.returncode == 1, done.stdout
    assert line_of(done.stdout, "problem:") == (
        "problem: the token phc_doct...uite is of a project in the other region: "
        f"set POSTHOG_HOST=https://{there}.i.posthog.com"
    )
    regions[f"{there}.i.posthog.com"].tokens = set()
    done = run(**environment, POSTHOG_HOST=f"https://{here}.posthog.com")
    assert f"no project at https://{here}.i.posthog.com has the token" in line_of(done.stdout, "problem:")
    assert not any(region.events for region in regions.values())


def test_what_delivery_refuses(run: Run) -> None:
    done = run(POSTHOG_HOST="http://posthog.example")
    assert done.returncode == 1
    assert "http://posthog.example is plain http" in line_of(done.stdout, "problem:")


@pytest.mark.parametrize(
    ("version", "said", "code"),
    [
        (
            "0.28.1",
            "problem: openai 0.28.1 is too old, none of its calls are captured: pip install 'openai>=1.30,<4'",
            1,
        ),
        (
            "1.12.0",
            "  note: openai 1.12.0 is old, only its most common calls are captured: pip install 'openai>=1.30,<4'",
            0,
        ),
        ("4.0.1", "  note: openai 4.0.1 is newer than what this version of posthog-autoinstrument is tested with", 0),
    ],
)
def test_too_old_and_too_new_sdks(run: Run, tmp_path: Path, version: str, said: str, code: int) -> None:
    folder = tmp_path / "site" / f"openai-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: openai\nVersion: {version}\n")
    done = run(PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == code, done.stdout
    assert any(line.startswith(said) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has nothing installed."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


class TestOfACommand:
    def test_of_a_module(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "job.py").write_text("open('was run', 'w')\n")
        done = run("doctor", "-m", "job", "--fast")
        assert done.returncode == 0, done.stdout + done.stderr
        assert line_of(done.stdout, "command").endswith(" -m job --fast")
        assert not (tmp_path / "was run").exists()

    @pytest.mark.parametrize("command", ["python -u inner/app.py -I", "inner/app.py"])
    def test_of_this_python(self, run: Run, tmp_path: Path, command: str) -> None:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "app.py").write_text("open('was run', 'w')\ndef scrub(event): return event\n")
        words = [sys.executable if word == "python" else word for word in command.split()]
        done = run("doctor", *words, POSTHOG_AUTOINSTRUMENT_BEFORE_SEND="app:scrub")
        assert done.returncode == 0, done.stdout
        assert done.stdout.splitlines()[0] == "All is well: events go to PostHog."
        assert line_of(done.stdout, "its Python")
        assert f"found in {tmp_path / 'inner' / 'app.py'}" in done.stdout
        assert not list(tmp_path.glob("**/was run"))

    @pytest.mark.parametrize("command", ["./server --port 1", "python app.py"])
    def test_of_another_environment(self, run: Run, tmp_path: Path, other: str, command: str) -> None:
        path = tmp_path / "server"
        path.write_text(f"#!{other}\nprint('was run')\n")
        path.chmod(0o755)
        done = run("doctor", *command.split(), PATH=f"{os.path.dirname(other)}{os.pathsep}{os.environ['PATH']}")
        assert done.returncode == 1
        problem = line_of(done.stdout, "problem:")
        assert f"{other}, which runs {command.split()[0]}, has no posthog-autoinstrument" in problem
        assert f"(this one is of {sys.executable}): {other} -m pip install posthog-autoinstrument" in problem
        assert "was run" not in done.stdout
        problem = line_of(run("doctor", other, "app.py").stdout, "problem:")
        assert f"problem: {other} has no posthog-autoinstrument" in problem

    def test_of_another_environment_that_has_it_too(self, run: Run, tmp_path: Path) -> None:
        venv.create(tmp_path / "too", with_pip=False, symlinks=True)
        python = str(tmp_path / "too" / "bin" / "python")
        (site,) = (tmp_path / "too" / "lib").glob("python*/site-packages")
        folders = [os.path.dirname(os.path.dirname(sitecustomize_template.__file__)), *sys.path[1:]]
        (site / "ours.pth").write_text("\n".join(folder for folder in folders if os.path.isdir(folder)))
        done = run("doctor", python, "app.py")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"({python})" in line_of(done.stdout, "python")
        assert f"({python})" in line_of(done.stdout, "its Python")

    def test_with_options_that_keep_the_agent_out(self, run: Run) -> None:
        done = run("doctor", sys.executable, "-I", "app.py")
        assert done.returncode == 1
        assert f"no call is captured: {os.path.basename(sys.executable)} -I " in line_of(done.stdout, "problem:")

    def test_that_cannot_be_looked_at(self, run: Run) -> None:
        done = run("doctor", "sh", "start.sh")
        assert done.returncode == 0
        assert done.stdout.splitlines()[0].endswith(
            "Not checked: which Python sh runs, and whether the agent starts in it."
        )
        assert "All is well" not in done.stdout
        done = run("doctor", "no-such-program")
        assert done.returncode == 1
        assert line_of(done.stdout, "problem:") == "problem: program not found: no-such-program"

    def test_of_a_runner(self, run: Run, tmp_path: Path, other: str) -> None:
        path = tmp_path / "uv"
        path.write_text(f'#!/bin/sh\nshift\n[ "$1" = --with ] && shift 2\nshift\nexec {other} "$@"\n')
        path.chmod(0o755)
        done = run(
            "doctor", "uv", "run", "--with", "x", "gunicorn", "app:app",
            PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        )  # fmt: skip
        assert done.returncode == 1
        problem = line_of(done.stdout, "problem:")
        assert f"{other}, which runs uv, has no posthog-autoinstrument" in problem
        assert problem.endswith(": uv add posthog-autoinstrument")

    def test_without_one_the_python_on_the_path_is_looked_at(self, run: Run, other: str) -> None:
        done = run(PATH=f"{os.path.dirname(other)}{os.pathsep}{os.environ['PATH']}")
        (note,) = [line for line in done.stdout.splitlines() if line.startswith("  note: `python` on PATH")]
        assert f"is {other}, not {sys.executable}, and has no posthog-autoinstrument" in note


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
    for words in ("POSTHOG_PROJECT_TOKEN", "not a personal key"):
        assert words in problem


def test_a_value_that_is_not_accepted(run: Run) -> None:
    done = run(POSTHOG_AUTOINSTRUMENT_FLUSH_AT="many")
    assert done.returncode == 1
    problem = line_of(done.stdout, "problem:")
    for words in ("POSTHOG_AUTOINSTRUMENT_FLUSH_AT", "1 to 10000"):
        assert words in problem
    assert "many" not in done.stdout, "it may be a secret"
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


def test_the_spool(run: Run, tmp_path: Path, well: Well) -> None:
    assert "Spool" not in well.done.stdout
    folder = tmp_path / "spool"
    assert line_of(run(POSTHOG_SPOOL=str(folder)).stdout, str(folder)).endswith("created with the first call")
    folder.mkdir()
    (folder / "outbox-1.db").touch()
    assert line_of(run(POSTHOG_SPOOL=str(folder)).stdout, str(folder)).endswith("1 outbox of processes")
    folder = tmp_path / "file"
    folder.touch()
    done = run(POSTHOG_SPOOL=str(folder))
    assert done.returncode == 1
    assert f"problem: POSTHOG_SPOOL={folder} is no directory" in done.stdout
