"""`posthog-instrument`: every way to start a program, and what is said when it cannot be started."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import posthog_autoinstrument
import sitecustomize_template
from posthog_autoinstrument.cli import interpreter

TEMPLATE = os.path.dirname(os.path.abspath(sitecustomize_template.__file__))
LAUNCHER = [sys.executable, "-m", "posthog_autoinstrument"]


def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
    environ.pop("PYTHONPATH", None)
    environ["POSTHOG_PROJECT_TOKEN"] = "phc_test"
    environ.update(env or {})
    return subprocess.run(
        [*LAUNCHER, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text("import sys\nprint(sys.argv[1:], 'sitecustomize' in sys.modules)\nsys.exit(3)\n")
    return path


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "app.py"],
        ["app.py"],
        ["./app.py"],
        ["-m", "app"],
        ["--", sys.executable, "app.py"],
        ["run", sys.executable, "app.py"],
        ["--debug", "--local", sys.executable, "app.py"],
    ],
    ids=" ".join,
)
def test_ways_to_start(tmp_path, program, command):
    done = run(*command, "-v", "--version", "a b", "", cwd=tmp_path)
    assert done.stdout == "['-v', '--version', 'a b', ''] True\n"
    assert done.returncode == 3


def test_the_commands_own_version_option(tmp_path):
    done = run(sys.executable, "--version", cwd=tmp_path)
    assert done.stdout == f"Python {sys.version.split()[0]}\n"
    assert done.stderr == ""


def test_a_program_on_the_path_and_an_executable_python_file(tmp_path, program):
    program.write_text(f"#!{sys.executable}\n" + program.read_text())
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert run("./app.py", "x", cwd=tmp_path).stdout == "['x'] True\n"
    found = run("app.py", "x", cwd=tmp_path, env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    assert found.stdout == "['x'] True\n"


@pytest.mark.parametrize("word", ["demo", "events", "doctor"])
def test_a_program_named_like_one_of_our_words(tmp_path, word):
    script = tmp_path / word
    script.write_text("#!/bin/sh\necho mine\n")
    script.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert run("run", word, cwd=tmp_path, env=env).stdout == "mine\n"
    assert run("--", word, cwd=tmp_path, env=env).stdout == "mine\n"


def test_a_missing_program(tmp_path):
    done = run("no-such-program", cwd=tmp_path)
    assert done.returncode == 127
    assert done.stderr == "posthog-autoinstrument: program not found: no-such-program\n"
    assert run("missing.py", cwd=tmp_path).returncode == 127


def test_a_program_that_cannot_be_executed(tmp_path):
    (tmp_path / "script").write_text("#!/bin/sh\n")
    done = run("./script", cwd=tmp_path)
    assert done.returncode == 126
    assert len(done.stderr.splitlines()) == 1
    assert run(str(tmp_path), cwd=tmp_path).returncode == 126
    (tmp_path / "bad").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad").chmod(0o755)
    done = run("./bad", cwd=tmp_path)
    assert done.returncode == 126
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["run"], ["--"], ["--local"], ["-m"]])
def test_no_command_is_a_usage_error(tmp_path, arguments):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: posthog-instrument")
    assert done.stdout == ""


def test_an_unknown_option_is_named(tmp_path):
    done = run("--nope", "python", cwd=tmp_path)
    assert done.returncode == 2
    assert "--nope" in done.stderr.splitlines()[0]


def test_help_and_version(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("demo", "events", "doctor", "run", "--local", "--debug", "POSTHOG_PROJECT_TOKEN", "127", "126"):
        assert word in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert run("--version", cwd=tmp_path).stdout == f"posthog-autoinstrument {posthog_autoinstrument.__version__}\n"


def test_pythonpath_gains_our_folder_and_loses_nothing(tmp_path):
    show = "import os; print(os.environ['PYTHONPATH'])"
    before = os.pathsep.join(["/a", "", "/b c"])
    done = run(sys.executable, "-c", show, cwd=tmp_path, env={"PYTHONPATH": before})
    assert done.stdout == os.pathsep.join([TEMPLATE, before]) + "\n"
    again = run(*LAUNCHER, sys.executable, "-c", show, cwd=tmp_path, env={"PYTHONPATH": "/a"})
    assert again.stdout == os.pathsep.join([TEMPLATE, "/a"]) + "\n"
    empty = run(sys.executable, "-c", show, cwd=tmp_path)
    assert empty.stdout == TEMPLATE + "\n"


def test_without_a_token_one_line_says_where_events_are(tmp_path):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], check=True)"
    done = run(
        sys.executable, "-c", child, cwd=tmp_path,
        env={"POSTHOG_PROJECT_TOKEN": "", "POSTHOG_AUTOINSTRUMENT_DB": str(tmp_path / "e.db")},
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "e.db") in line
    assert not (tmp_path / "e.db").exists()


def test_settings_that_do_not_parse_are_said_once(tmp_path):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import openai'], check=True)"
    done = run(sys.executable, "-c", child, cwd=tmp_path, env={"POSTHOG_AUTOINSTRUMENT_FLUSH_AT": "many"})
    (line,) = done.stderr.splitlines()
    assert "POSTHOG_AUTOINSTRUMENT_FLUSH_AT" in line
    assert "many" not in line, "it may be a secret"
    assert "whole number" in line


def test_a_personal_key_is_refused_and_never_shown(tmp_path):
    secret = "phx_abcdefghijklmnopqrstuvwxyz"
    done = run(sys.executable, "-c", "pass", cwd=tmp_path, env={"POSTHOG_PROJECT_TOKEN": secret})
    assert "POSTHOG_PROJECT_TOKEN" in done.stderr
    assert "personal key" in done.stderr
    assert secret not in done.stderr


def test_the_exit_code_of_a_signal(tmp_path):
    done = run(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", cwd=tmp_path)
    assert done.returncode == -9


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the descriptors")
@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(tmp_path, closed):
    # What the program opens gets the number of the closed descriptor: no line of ours may go there.
    (tmp_path / "app.py").write_text(
        "import os, sys\n"
        "victim = open('victim', 'w+b')\n"
        "from openai import OpenAI, APIConnectionError\n"
        "try:\n"
        "    OpenAI(base_url='http://127.0.0.1:9/v1', max_retries=0).completions.create(model='m', prompt='')\n"
        "except APIConnectionError:\n"
        "    pass\n"
    )
    environ = {**os.environ, "OPENAI_API_KEY": "k", "POSTHOG_HOST": "http://127.0.0.1:9"}
    environ["POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S"] = "0.5"
    command = f'exec "{sys.executable}" -m posthog_autoinstrument "{sys.executable}" app.py {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environ, timeout=60, check=False)
    assert done.returncode == 0
    assert (tmp_path / "victim").read_bytes() == b""


def test_the_runners_that_the_launcher_reads_are_known_where_no_agent_is():
    """The start-up file imports nothing of ours and has a list of its own."""
    tree = ast.parse(Path(TEMPLATE, "sitecustomize.py").read_text())
    (runners,) = (
        node.value.func.value.value.split()
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "RUNNERS"
    )
    assert set(runners) >= interpreter.RUNNERS
