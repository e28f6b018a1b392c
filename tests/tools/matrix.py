"""The tests on every openai, Python and wrapt that is supported; `make matrix` and `.ci/run` start it.

python tests/tools/matrix.py                          every openai on every Python; wrapt and requests alternate
python tests/tools/matrix.py openai=1.60 python=3.12  one cell, or those that fit
python tests/tools/matrix.py ci                       what `.ci/run` runs

A cell is an environment under build/matrix/, made once, with the built wheel in it. Also `wrapt=oldest|newest` and
`suites=capture|sdk|all`. Exit code: 0 when every cell passed, 1 otherwise.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "matrix"

# openai up to 1.60 gives httpx an argument that httpx 0.28 took away.
OPENAI = {
    "1.30": ("openai~=1.30.0", "httpx<0.28"),
    "1.60": ("openai==1.60.2", "httpx<0.28"),
    "1.109": ("openai==1.109.1",),
    "2.54": ("openai==2.54.0",),
    "newest": ("openai>=3.0",),
}
BASICS = {"1.0": ("openai==1.0.0", "httpx<0.28")}
"""Runs the tests marked `basics` only: create, streams and embeddings."""
TOOLS = ("pytest>=8.0", "pytest-timeout>=2.3", "pytest-xdist>=3.6")
"""What these need. openai 1.0 keeps anyio at 3, which the other tests are too new for."""
PYTHON = ("3.10", "3.11", "3.12", "3.13")
WRAPT = {"oldest": ("wrapt==1.16.0", "requests==2.31.0", "urllib3==1.26.20"), "newest": ("wrapt", "requests")}

_CAPTURE = [
    "unit/capture/test_calls.py",
    "unit/instrumentation/test_surface.py",
    "unit/instrumentation/test_stream_usage.py",
    "unit/instrumentation/test_websockets.py",
    "unit/context/test_api.py",
    "programs/test_smoke.py",
    "programs/cli/test_doctor.py::test_what_the_sdk_lacks_is_one_line",
    "unit/providers/test_contract.py",
    "unit/providers/openai",
]
SUITES = {
    "capture": _CAPTURE,
    "sdk": [
        *_CAPTURE,
        "programs/test_hosts.py",
        "programs/test_delivery.py",
        "unit/processing/test_event.py",
        "programs/test_hostile_values.py",
        "programs/test_fuzz.py",
        "programs/test_startup.py",
        "programs/cli/test_launcher.py",
        "promises",
    ],
    "all": ["."],
    "basics": ["unit/capture/test_calls.py", "unit/context/test_api.py"],
}
"""`capture`: what is captured, by which every SDK is tried on every Python. `sdk`: all that depends on the SDK or on
the interpreter, by which each of them is tried once."""


@dataclass(frozen=True)
class Cell:
    """One environment and what is run in it."""

    openai: str
    python: str
    wrapt: str
    suites: str = "capture"

    @property
    def requirements(self) -> list[str]:
        tools = TOOLS if self.openai in BASICS else ()
        return [*{**OPENAI, **BASICS}[self.openai], *WRAPT[self.wrapt], *tools]

    @property
    def extra(self) -> str:
        return "" if self.openai in BASICS else "[test]"

    def arguments(self, tests: Path) -> list[str]:
        """What pytest is told."""
        wanted = "basics" if self.openai in BASICS else "not packages and not memory and not browser"
        return ["-n", "2", "-m", wanted, *(str(tests / suite) for suite in SUITES[self.suites])]


CI = (
    Cell("1.30", "3.10", "oldest", "all"),
    Cell("2.54", "3.12", "newest", "capture"),
    Cell("newest", "3.13", "newest", "sdk"),
    Cell("1.0", "3.11", "newest", "basics"),
)


def whole() -> list[Cell]:
    """Every openai on every Python. wrapt alternates like the colours of a chessboard: both occur with every openai and
    on every Python. The cells of a diagonal run more."""
    cells = [
        Cell(
            openai,
            python,
            "oldest" if (row + column) % 2 == 0 else "newest",
            "sdk" if row % len(PYTHON) == column else "capture",
        )
        for (row, openai), (column, python) in itertools.product(enumerate(OPENAI), enumerate(PYTHON))
    ]
    return [*cells, *(Cell(openai, "3.11", "newest", "basics") for openai in BASICS)]


@dataclass
class Result:
    """One row of the table."""

    cell: Cell
    versions: dict[str, str]
    outcome: str
    passed: bool
    duration_s: float


def main(arguments: Sequence[str]) -> int:
    """Run the cells that the arguments name; the exit code."""
    cells = cells_of(arguments)
    if cells is None:
        print(__doc__, file=sys.stderr)
        return 2
    wheels = sorted((ROOT / "build" / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        print("build the wheel first: make matrix does", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    ran: dict[tuple[str, str, Cell], str] = {}
    for cell in cells:
        found = interpreter(cell.python)
        # Where an interpreter is missing, two cells may be the same one.
        key = (found[0], found[1], replace(cell, python=""))
        if key in ran:
            print(f"--- {describe(cell)}: the same as {ran[key]} here", flush=True)
            continue
        ran[key] = describe(cell)
        results.append(run(cell, found, wheels[0]))
    print(table(results))
    return 0 if all(result.passed for result in results) else 1


def cells_of(arguments: Sequence[str]) -> list[Cell] | None:
    """The cells that are asked for; None when the arguments are wrong."""
    words = [word for word in arguments if "=" not in word]
    chosen = dict(word.split("=", 1) for word in arguments if "=" in word)
    known = {
        "openai": {*OPENAI, *BASICS},
        "python": {*PYTHON},
        "wrapt": {*WRAPT},
        "suites": {*SUITES},
    }
    if words not in ([], ["ci"]) or any(value not in known.get(name, ()) for name, value in chosen.items()):
        return None
    suites = chosen.pop("suites", None)
    cells = list(CI) if words else whole()
    for name in ("wrapt", "python") if chosen.get("openai") in BASICS else ("wrapt",):
        if name in chosen:  # of these the table has a choice only
            cells = [replace(cell, **{name: chosen[name]}) for cell in cells]
    cells = [cell for cell in cells if all(getattr(cell, name) == value for name, value in chosen.items())]
    return [replace(cell, suites=suites) for cell in cells] if suites else cells


def describe(cell: Cell) -> str:
    """`openai 1.60, Python 3.12, wrapt oldest`."""
    return f"openai {cell.openai}, Python {cell.python}, wrapt {cell.wrapt}"


def interpreter(version: str) -> tuple[str, str]:
    """The interpreter of that version, or the default one where it is missing; and its version."""
    found = subprocess.run([ROOT / ".ci" / "find-python", version], stdout=subprocess.PIPE, text=True, check=True)
    python = found.stdout.strip() or os.environ.get("PYTHON") or "python3"
    asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return python, subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def run(cell: Cell, found: tuple[str, str], wheel: Path) -> Result:
    """Make the environment where it is missing or old, and run the tests in it."""
    python, version = found
    print(f"--- {describe(cell)}", flush=True)
    folder = FOLDER / f"openai-{cell.openai}-python-{version}-wrapt-{cell.wrapt}"
    started = time.monotonic()
    failure = prepare(folder, python, cell, wheel)
    if failure:
        return Result(cell, {"python": version}, f"cannot be installed: {failure}", False, time.monotonic() - started)
    own = str(folder / "bin" / "python")
    # An empty folder: `python -m ...` puts the current folder on sys.path, and the source would hide the wheel.
    where = folder / "testrun"
    where.mkdir(exist_ok=True)
    command = [own, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
    command += [*cell.arguments(ROOT / "tests"), *os.environ.get("PYTEST_ARGS", "").split()]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ["TESTS_OF"] = "wheel"
    last = ""
    with subprocess.Popen(command, cwd=where, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip("= \n") or last
    return Result(cell, versions(own), last.rpartition(" in ")[0], process.returncode == 0, time.monotonic() - started)


def prepare(folder: Path, python: str, cell: Cell, wheel: Path) -> str | None:
    """An environment with what the cell requires and the wheel; why it cannot be made, in pip's own words, or None."""
    stamp = folder / "installed.json"
    wanted = [python, *cell.requirements, (ROOT / "setup.cfg").read_text()]
    own = str(folder / "bin" / "python")
    pip = [own, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    commands: list[list[str]] = []
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        stamp.unlink(missing_ok=True)
        commands.append([str(ROOT / ".ci" / "make-environment"), python, str(folder)])
        commands.append([*pip, f"{wheel}{cell.extra}", *cell.requirements])
    commands.append([*pip, "--force-reinstall", "--no-deps", str(wheel)])
    for command in commands:
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    stamp.write_text(json.dumps(wanted))
    return None


def versions(python: str) -> dict[str, str]:
    """What is installed in a cell, by name."""
    ask = (
        "import importlib.metadata, json, platform\n"
        "found = {name: importlib.metadata.version(name) for name in ('openai', 'wrapt', 'requests')}\n"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    return json.loads(subprocess.run([python, "-c", ask], stdout=subprocess.PIPE, text=True, check=True).stdout)


def table(results: Iterable[Result]) -> str:
    """All results, a row for each cell."""
    names = ("openai", "python", "wrapt", "requests")
    rows = [(*names, "seconds", "result")]
    for result in results:
        shown = [result.versions.get(name) or getattr(result.cell, name, "-") for name in names]
        verdict = "" if result.passed else "FAILED: "
        rows.append((*shown, f"{result.duration_s:.0f}", verdict + result.outcome))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
