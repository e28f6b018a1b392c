"""This Python: versions, and whether the agent starts in a program that the launcher starts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

import sitecustomize_template

from ...bootstrap import import_hook
from ...core.environment import LAUNCHED
from .. import launcher
from .report import Check


def versions() -> Iterator[Check]:
    """Python and the packages that matter."""
    tested = _tested_pythons()
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    untested = bool(tested) and here not in tested
    yield Check(
        "python",
        f"{platform.python_version()} ({sys.executable})",
        note=f"Python {here} is not one of those that are tested: {', '.join(tested)}" if untested else "",
    )
    yield Check("tested Pythons", ", ".join(tested))
    for name in ("openai", "wrapt", "requests", "posthog"):
        yield Check(name, version_of(name) or "not installed")


def version_of(distribution: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers_of(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare it by."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _tested_pythons() -> list[str]:
    """The Python versions in the package's classifiers."""
    try:
        found = importlib.metadata.metadata("posthog-autoinstrument").get_all("Classifier") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    tested = [one.rpartition(" ")[2] for one in found if one.startswith("Programming Language :: Python :: 3.")]
    return sorted(tested, key=numbers_of)


def start_up(environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether the agent starts in a Python that the launcher starts: one is started to find out."""
    folder = os.path.dirname(os.path.abspath(sitecustomize_template.__file__))
    yield Check("folder", folder)
    on_path = folder in environ.get("PYTHONPATH", "").split(os.pathsep)
    launched = "; this shell was started by it" if environ.get(LAUNCHED) else ""
    yield Check("on PYTHONPATH here", "yes" if on_path else f"no, the launcher adds it{launched}")
    probe = f"import sys; sys.exit(not hasattr(sys, {import_hook.SENTINEL!r}))"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env=launcher.environment(dict(environ), local=False, debug=False),
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        yield Check("under the launcher", "the agent starts")
    else:
        problem = f"the agent does not start in {sys.executable} when posthog-instrument starts it"
        yield Check("under the launcher", "the agent does not start", problem)
