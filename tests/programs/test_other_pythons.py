"""Another Python than the launcher's, and Pythons that the agent cannot get into: one line says so, and nothing else
is claimed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pythons import find_python

LAUNCHER = [sys.executable, "-m", "posthog_autoinstrument"]
Run = Callable[..., subprocess.CompletedProcess[str]]
SHOW = "import sys; print('ran', hasattr(sys, '_posthog_autoinstrument_finder'))"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="scripts with #! lines")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has nothing installed."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(*command, **environment)` under the launcher, without a token, in the test's folder."""

    def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
        environ.pop("PYTHONPATH", None)
        environ |= {"POSTHOG_AUTOINSTRUMENT_DB": str(tmp_path / "events.db"), **environment}
        return subprocess.run(
            [*LAUNCHER, *command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def check_other(done: subprocess.CompletedProcess[str], other: str) -> None:
    """One line that names both Pythons and the remedy."""
    assert done.stdout.splitlines() == ["ran False"]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"posthog-autoinstrument: no call is captured: {other}, which runs the program, has no ")
    assert f"posthog-instrument belongs to {sys.executable}. " in line
    assert line.endswith(f"{other} -m pip install posthog-autoinstrument")


def test_the_python_of_another_environment(run: Run, other: str, tmp_path: Path) -> None:
    check_other(run(other, "-c", SHOW), other)
    check_other(run("python", "-c", SHOW, PATH=f"{os.path.dirname(other)}{os.pathsep}{os.environ['PATH']}"), other)
    check_other(run(script(tmp_path / "app", f"#!{other}\n{SHOW}\n")), other)
    check_other(run(script(tmp_path / "start.sh", f'#!/bin/sh\nexec {other} -c "{SHOW}"\n')), other)
    check_other(run(other, "-c", SHOW, POSTHOG_PROJECT_TOKEN="phc_x"), other)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells what the parent is")
def test_below_a_program_that_is_no_python(run: Run, other: str, tmp_path: Path) -> None:
    check_other(run("sh", "-c", f'{other} -c "{SHOW}"; exit'), other)
    several = run("sh", "-c", f'{other} -c "{SHOW}"; {other} -c ""; {other} -c ""; exit')
    check_other(several, other)
    done = run("sh", "-c", f'{sys.executable} -c "{SHOW}"; {sys.executable} -c ""; exit')
    assert done.stdout == "ran True\n"
    assert [line.split(" in ")[0] for line in done.stderr.splitlines()] == ["posthog-autoinstrument: calls are kept"]


def test_children_of_a_program_that_is_captured_are_silent(run: Run, other: str) -> None:
    child = f"import subprocess, sys; subprocess.run([{other!r}, '-c', {SHOW!r}], check=True)"
    done = run(sys.executable, "-c", child, POSTHOG_PROJECT_TOKEN="phc_x")
    assert (done.stdout, done.stderr) == ("ran False\n", "")


def test_a_program_that_executes_itself_again_says_it_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, sys\nif not sys.argv[1:]: os.execv(sys.executable, [sys.executable, 'app.py', 'again'])\n"
        "print('POSTHOG_AUTOINSTRUMENT_KEPT' in os.environ)\n"
    )
    done = run(sys.executable, "app.py")
    assert done.stdout == "False\n"
    assert len(done.stderr.splitlines()) == 1


def test_a_runner_in_python_is_not_the_program(run: Run, other: str, tmp_path: Path) -> None:
    poetry = f"#!{other}\nimport os, sys\nos.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[3:]])\n"
    done = run(script(tmp_path / "poetry", poetry), "run", "python", "-c", SHOW, POSTHOG_PROJECT_TOKEN="phc_x")
    assert (done.stdout, done.stderr) == ("ran True\n", "")


def test_a_program_that_is_no_python_is_told_nothing(run: Run) -> None:
    done = run("true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("version", ["2.7", "3.8", "3.9"])
def test_a_python_that_is_too_old(run: Run, version: str) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"no python{version} here")
    (line,) = run(python, "-c", "pass").stderr.splitlines()
    assert f"is Python {version}, older than the 3.10 that it needs" in line
    assert "calls are kept" not in line


@pytest.mark.parametrize("options", ["-I", "-E", "-S", "-uI", "-sE", "-X dev -I", "-W error -BE", "-Wignore -I"])
def test_options_that_keep_the_agent_out(run: Run, options: str) -> None:
    letter = next(letter for letter in "IES" if letter in options.rpartition("-")[2])
    done = run(sys.executable, *options.split(), "-c", SHOW)
    assert done.stdout == "ran False\n"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("posthog")]
    name = os.path.basename(sys.executable)
    assert line.startswith(f"posthog-autoinstrument: no call is captured: {name} -{letter} ")
    assert f"leave -{letter} out" in line
    assert "import posthog_autoinstrument.auto" in line


@pytest.mark.parametrize(
    "options", [["-u", "-c", SHOW], ["-X", "importtime=IES", "-c", SHOW], ["-W", "ignore::ImportWarning", "-c", SHOW]]
)
def test_options_that_do_not(run: Run, options: list[str]) -> None:
    done = run(sys.executable, *options, "-I", "-E", POSTHOG_PROJECT_TOKEN="phc_x")
    assert "posthog-autoinstrument:" not in done.stderr


@pytest.mark.parametrize("first", ["{python} -I", "{python} -sE", "/usr/bin/env -S {python} -I"])
def test_scripts_whose_first_line_keeps_it_out(run: Run, tmp_path: Path, first: str) -> None:
    if first.startswith("/usr/bin/env") and not os.access("/usr/bin/env", os.X_OK):
        pytest.skip("no env")
    done = run(script(tmp_path / "app", f"#!{first.format(python=sys.executable)}\n{SHOW}\n"))
    assert done.stdout == "ran False\n"
    (line,) = done.stderr.splitlines()
    assert "no call is captured" in line
    assert "does not read PYTHONPATH" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\n# starts it\nexport PYTHONPATH=/srv/app\nexec {python} app.py\n", "line 3, sets PYTHONPATH anew"),
        ("#!/usr/bin/env bash\nPYTHONPATH='/a b' {python} app.py\n", "line 2, sets PYTHONPATH anew"),
        ("#!/bin/sh\nunset PYTHONPATH\nexec {python} app.py\n", "line 2, takes PYTHONPATH away"),
        ("#!/bin/sh\nexec {python} -I app.py\n", "line 2, runs"),
    ],
)
def test_a_shell_script_that_keeps_it_out(run: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "app.py").write_text(SHOW)
    path = script(tmp_path / "start.sh", text.format(python=sys.executable))
    for command in ([path], ["sh", path]):
        if "bash" in text and shutil.which("bash") is None:
            pytest.skip("no bash")
        done = run(*command)
        assert done.stdout == "ran False\n"
        (line,) = done.stderr.splitlines()
        assert f"no call is captured: {path}, {said}" in line


@pytest.mark.parametrize(
    "text",
    [
        "export PYTHONPATH=/srv/app:$PYTHONPATH",
        'export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}/srv/app"',
        "# PYTHONPATH=/srv/app",
        "echo MY_PYTHONPATH=/srv/app > /dev/null",
    ],
)
def test_a_shell_script_that_does_not(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "app.py").write_text(SHOW)
    done = run(script(tmp_path / "start.sh", f"#!/bin/sh\n{text}\nexec {sys.executable} app.py\n"))
    assert done.stdout == "ran True\n"
    (line,) = done.stderr.splitlines()
    assert "calls are kept in" in line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["env", "PYTHONPATH=/srv", "{python}", "-c", SHOW], "env sets PYTHONPATH anew"),
        (["env", "-u", "PYTHONPATH", "{python}", "-c", SHOW], "env takes PYTHONPATH away"),
        (["env", "-i", "{python}", "-c", SHOW], "env -i empties the environment"),
        (["sh", "-c", "PYTHONPATH=/srv '{python}' -c \"" + SHOW + '"'], "its command sets PYTHONPATH anew"),
        (["env", "A=1", "{python}", "-I", "-c", SHOW], "-I does not read PYTHONPATH"),
    ],
)
def test_commands_that_keep_it_out(run: Run, command: list[str], said: str) -> None:
    done = run(*(word.replace("{python}", sys.executable) for word in command))
    assert done.stdout == "ran False\n"
    (line,) = done.stderr.splitlines()
    assert f"no call is captured: {said}" in line or (said in line and "no call is captured: " in line)


def test_a_pex_is_named(run: Run, tmp_path: Path) -> None:
    # As pex 2.105 lays it out: a first line, the archive, and in it PEX-INFO; it runs `python -I` on itself.
    path = tmp_path / "app.pex"
    path.write_bytes(f"#!{sys.executable}\n".encode())
    again = "import os, sys\nif not sys.flags.isolated: os.execv(sys.executable, [sys.executable, '-I', *sys.argv])\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("PEX-INFO", "{}")
        archive.writestr("__main__.py", again + SHOW)
    path.chmod(0o755)
    for command in ([str(path)], [sys.executable, str(path)]):
        done = run(*command)
        assert done.stdout == "ran False\n"
        (line,) = done.stderr.splitlines()
        assert f"no call is captured: {path} is a pex" in line


def test_another_zip_application_is_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "app.pyz"
    path.write_bytes(f"#!{sys.executable}\n".encode())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__main__.py", SHOW)
    path.chmod(0o755)
    done = run(str(path))
    assert done.stdout == "ran True\n"
    assert "calls are kept in" in done.stderr
