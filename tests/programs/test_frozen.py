"""`import posthog_autoinstrument.auto` in a program that PyInstaller has frozen, by the hook in the package."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.programs import environment

PROGRAM = """
import posthog_autoinstrument.auto
import openai
said = [{"role": "user", "content": "Hi"}]
print(openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].finish_reason)
"""


def test_pyinstaller_finds_the_hook():
    (found,) = [point for point in entry_points(group="pyinstaller40") if point.value.startswith("posthog_auto")]
    (folder,) = found.load()()
    assert (Path(folder) / "hook-posthog_autoinstrument.py").is_file()


@pytest.mark.packages
@pytest.mark.timeout(900)
def test_a_frozen_program(tmp_path, openai_server, posthog_server):
    pytest.importorskip("PyInstaller")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "--exclude-module", "numpy", "program.py"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=800)
    environ = environment(openai_server, posthog_server)
    program = tmp_path / "dist" / "program" / "program"
    done = subprocess.run([program], env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("stop\n", "", 0)
    assert len(posthog_server.events) == 1
