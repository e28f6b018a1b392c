"""Every block of code in README and docs runs as it is printed.

The Python blocks of a page are one program, in their order, under the launcher. A shell block is a script of its own,
in a folder with a reader's program (`app.py`), between a fake OpenAI and a fake PostHog; `pip`, `make` and `git` are
not run, but looked at. A block that cannot run has a line above it: `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.documents import DOCUMENTS
from support.features import needs
from support.paths import ROOT
from support.programs import environment

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BLOCK = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^\n]+) -->\n)?^(?P<indent> *)```(?P<language>\S*)\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_CLOUD = re.compile(r"https://(?:us|eu)\.i\.posthog\.com")
APP = """
from openai import OpenAI

answer = OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
print(answer.choices[0].message.content)
"""
NOTE = """
import json, os, sys

with open(os.environ["NOTES"], "a") as notes:
    print(json.dumps(sys.argv[1:]), file=notes)
"""


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    """Of the code's first line."""
    language: str
    code: str
    reason: str | None
    """Why it is not run."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(page, line, match["language"], textwrap.dedent(match["code"]), match["reason"]))
    return found


BLOCKS = [block for page in DOCUMENTS for block in blocks(page)]


def program(page: Path) -> str:
    """The Python blocks of a page that are run as one program, each line where it stands on the page."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and block.reason is None:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_every_fence_is_read(page: Path) -> None:
    fences = re.findall(r"^ *```", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page)), "a fence that is not closed, or closed at another depth"


@needs("responses")  # one SDK of many is enough
@pytest.mark.parametrize("page", [page for page in DOCUMENTS if program(page)], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, run_program: Callable[..., Any]) -> None:
    ran = run_program(program(page), name=f"{page.stem}.py")
    assert ran.returncode == 0, ran.stderr
    assert "posthog-instrument:" not in ran.stderr


def _stand_in(arguments: list[str]) -> str | None:
    """What is wrong with a command that is not run; None for nothing."""
    command, *rest = arguments
    if command == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        missing = [word for word in rest if "=" not in word and word not in targets]
        return f"make has no target {missing}" if missing else None
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg")
    for word in re.findall(r"\[([\w,-]+)\]", " ".join(rest)):
        missing = [extra for extra in word.split(",") if extra not in extras["options.extras_require"]]
        if missing:
            return f"there is no extra {missing}"
    return None


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH: this Python, its `posthog-instrument`, and stand-ins that only note how they are called."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "note.py").write_text(NOTE)
    scripts = {name: f"{folder / 'note.py'} {name}" for name in ("pip", "make", "git")}
    scripts |= {"python": "", "python3": "", "posthog-instrument": "-m posthog_autoinstrument"}
    for name, arguments in scripts.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """For each page a folder: what one block leaves, as calls in the local store, the next one finds."""
    return {page: tmp_path_factory.mktemp(page.stem) for page in DOCUMENTS}


@needs("responses")
@pytest.mark.skipif(os.name == "nt", reason="shell scripts")
@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language in ("sh", "bash") and block.reason is None], ids=str
)
def test_a_shell_block_runs(
    block: Block,
    commands: Path,
    homes: dict[Path, Path],
    openai_server: OpenAIServer,
    posthog_server: PostHogServer,
) -> None:
    home = homes[block.page]
    (home / "app.py").write_text(APP)
    notes = home / "notes"
    notes.write_text("")
    environ = environment(
        openai_server,
        None,
        HOME=str(home),
        XDG_STATE_HOME=str(home / "state"),
        NOTES=str(notes),
        PATH=f"{commands}{os.pathsep}{os.environ['PATH']}",
    )
    script = _CLOUD.sub(posthog_server.url, block.code)
    with subprocess.Popen(
        ["sh", "-eu", "-c", script],
        env=environ,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # all that the block has started: a server, for one
            raise
    assert shell.returncode == 0, output
    wrong = [_stand_in(json.loads(line)) for line in notes.read_text().splitlines()]
    assert not any(wrong), wrong
    if re.search(r"posthog-instrument (?!doctor).*\bapp\.py", script):
        assert openai_server.requests, "the program made no call"


PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "ini": lambda text: configparser.ConfigParser(strict=False).read_string(text),
    "yaml": lambda text: list(pytest.importorskip("yaml").safe_load_all(text)),
    "python": lambda text: compile(text, "block", "exec"),
}
OTHERS = frozenset(("sh", "bash", "dockerfile", "js", "text", ""))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_well_formed(block: Block) -> None:
    if block.language in PARSERS:
        PARSERS[block.language](block.code)
    else:
        assert block.language in OTHERS, f"nothing checks {block.language}"
