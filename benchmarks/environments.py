"""The environments that are measured, under build/bench/: made when they are missing or what they hold has changed.

All versions stand here. What calls the model is of one version everywhere, so that the same client is compared.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import BUILD, ROOT, said

CLIENT = ("openai==3.54.0", "httpx2==2.16.2", "httpcore2==2.16.2", "pydantic==2.14.4", "jiter==0.19.0")
"""The client, and what it spends its time in."""


class CannotInstall(Exception):
    """What pip said."""


def our_environment() -> str:
    """The interpreter of the environment with this agent's wheel: bare and ours run in the same one."""
    wheel = next((ROOT / "build" / "wheel").glob("*.whl"), None)
    if wheel is None:
        raise SystemExit("there is no wheel in build/wheel: run this by make")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return environment("ours", [*CLIENT, str(wheel)], digest)


def environment(name: str, requirements: Sequence[str], digest: str = "") -> str:
    """The interpreter of an environment that holds `requirements`. Raises CannotInstall."""
    folder = BUILD / name
    stamp = folder / "installed"
    wanted = "\n".join([sys.version, *requirements, digest])
    python = str(folder / "bin" / "python")
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    said(f"making build/bench/{name}")
    subprocess.run([str(ROOT / ".ci" / "make-environment"), sys.executable, str(folder)], check=True, stdout=sys.stderr)
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *requirements],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotInstall(lines[0].removeprefix("ERROR: ") if lines else done.stderr.strip()[-300:])
    stamp.write_text(wanted)
    return python


def versions(python: str, names: Sequence[str]) -> dict[str, str]:
    """The versions of packages that an environment has."""
    show = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: found[n] for n in sys.argv[1:] if n in found}))"
    )
    done = subprocess.run([python, "-c", show, *names], capture_output=True, text=True, check=True, cwd=BUILD)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def revision() -> str:
    """What is measured: the commit, marked where the files differ from it."""
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def python_of(text: str) -> str:
    """The interpreter given on the command line, or that of our own environment."""
    return str(Path(text).absolute()) if text else our_environment()
