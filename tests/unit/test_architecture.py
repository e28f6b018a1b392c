"""The import rules of the package, kept by reading its syntax trees; each rule fails on a planted violation."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

import pytest

import posthog_autoinstrument

FOLDER = Path(posthog_autoinstrument.__file__).parent
NAME = "posthog_autoinstrument"

GROUND = {"core", "scrubbing", "settings", "_version"}
HOST = {"context", "providers", "capture", "instrumentation", "propagation", "integrations"}
DELIVERY = {"processing", "store", "export"}
AGENT = GROUND | HOST | DELIVERY | {"lifecycle", "bootstrap"}

ALLOWED: dict[str, set[str]] = {
    # What stands at the top level of the package is a package of one file.
    "_version": set(),
    "scrubbing": set(),
    "core": {"scrubbing"},
    "settings": {"core", "scrubbing"},
    "context": GROUND,
    "providers": GROUND,
    # Of the program's threads.
    "capture": GROUND | {"context", "providers"},
    "instrumentation": GROUND | {"context", "providers", "capture"},
    "propagation": GROUND | {"context"},
    "integrations": GROUND | {"context", "providers", "capture", "instrumentation", "propagation"},
    # Of the agent's thread.
    "processing": GROUND | {"context", "providers"},
    "store": GROUND,
    "export": GROUND | {"context", "providers", "processing", "store"},
    # Of the process.
    "lifecycle": GROUND,
    "bootstrap": {"core", "integrations", "api"},
    "agent": AGENT,
    "api": AGENT | {"agent"},
    "auto": {"api"},
    "pyinstaller": set(),
    # Programs of their own.
    "testing": GROUND,
    "viewer": GROUND | {"store", "export", "testing"},
    # `__init__`: the demo's program uses the public names, as any program does.
    "cli": AGENT | {"api", "viewer", "testing", "__init__"},
    "__main__": {"cli"},
    "__init__": {"_version", "api", "capture", "context"},
}
"""Package -> the packages that its files may import, also for types and inside functions."""

ONLY_IN = {
    # Not by `import`, which could find the program's: `dependencies.load`, and a copy in `export.http_session`.
    "wrapt": set(),
    "requests": set(),
    "sqlite3": set(),
    # What a host program would do: the demo's is one. Everything else must not: openai 3 looks at what is loaded.
    "openai": {"cli.demo_app"},
    "httpx": set(),
    "httpx2": set(),
    "posthog": set(),
    # Of the extra `viewer`: who has it not must be able to import the rest of it.
    "starlette": {"viewer.app", "viewer.access", "viewer.views", "viewer.ingest"},
    "uvicorn": {"viewer.server"},
    "jinja2": {"viewer.rendering"},
    "markupsafe": {"viewer.rendering"},
    "genai_prices": {"store.prices"},
    "tomllib": {"store.custom_prices"},
    "tomli": {"store.custom_prices"},
    # Of the extra `cli`.
    "rich": {"cli.stats"},
}
START_UP = "bootstrap."
BROAD_EXCEPT = {"core.guard", "bootstrap.startup"}
ENVIRONMENT = {
    "settings.loader",
    "core.environment",
    "context.scope",
    "bootstrap.startup",
    "cli",
    "cli.launcher",
    "cli.demo",
    "cli.doctor",
}
"""The command line is a process of its own: it reads the environment to pass it on, and to show it. `bootstrap` reads
one setting, before `config` may be imported; `context` reads what a parent process propagated."""
AI_NAMES = {"processing.kept_events", "processing.event", "store.columns", "processing.privacy"}


class Import(NamedTuple):
    """One imported name. `ours`: it stands below this package, and `target` is its module from there."""

    target: str
    ours: bool
    runs: bool
    """Not only for types."""


def sources() -> dict[str, str]:
    """Module name below the package -> source. The package's own is `__init__`."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        if path.stem.isidentifier():
            parts = path.relative_to(FOLDER).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path.read_text(
                "utf-8"
            )
    return found


def package_of(module: str) -> str:
    return module.partition(".")[0]


@functools.cache
def imports(module: str, source: str, known: frozenset[str]) -> list[Import]:
    return list(_imports(module, source, known))


def _imports(module: str, source: str, known: frozenset[str]) -> Iterator[Import]:
    is_package = module == "__init__" or any(other.startswith(module + ".") for other in known)
    is_package = is_package or FOLDER.joinpath(*module.split("."), "__init__.py").exists()
    place = [] if module == "__init__" else module.split(".")
    tree = ast.parse(source)
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        runs = id(node) not in only_types
        if isinstance(node, ast.Import):
            for alias in node.names:
                ours = package_of(alias.name) == NAME
                yield Import(alias.name.removeprefix(NAME + ".") if ours else alias.name, ours, runs)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                drop = node.level - (1 if is_package else 0)
                base = place[: len(place) - drop] if drop else place
                target = ".".join([*base, *([node.module] if node.module else [])])
            elif package_of(node.module or "") == NAME:
                target = (node.module or "").removeprefix(NAME).lstrip(".")
            else:
                yield Import(node.module or "", False, runs)
                continue
            for alias in node.names:
                inner = f"{target}.{alias.name}".lstrip(".")
                yield Import(inner if inner in known else target or "__init__", True, runs)


def violations(files: dict[str, str]) -> list[str]:
    """Every breach of a rule, as `module: what`."""
    known = frozenset(files)
    return [breach for module, source in files.items() for breach in violations_of(module, source, known)]


@functools.cache
def violations_of(module: str, source: str, known: frozenset[str]) -> list[str]:
    found = []
    here = package_of(module)
    if here not in ALLOWED:
        return [f"{module}: its package is not in the table"]
    tree = ast.parse(source)
    for one in imports(module, source, known):
        there = package_of(one.target)
        if one.ours:
            if there != here and there not in ALLOWED[here]:
                found.append(f"{module}: imports {one.target}")
        elif one.runs and there in ONLY_IN and module not in ONLY_IN[there]:
            found.append(f"{module}: imports {there}")
    if module.startswith(START_UP):
        for statement in tree.body:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in statement.names]
                if names not in (["sys"], ["import_hook"]):
                    found.append(f"{module}: imports {names} at start-up")
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and module not in BROAD_EXCEPT and is_broad(node.type):
            found.append(f"{module}: line {node.lineno} has a broad except")
        if module not in ENVIRONMENT and reads_environment(node):
            found.append(f"{module}: line {node.lineno} reads the environment")
        if module not in AI_NAMES and isinstance(node, ast.Constant) and "$ai_" in str(node.value):
            found.append(f"{module}: line {node.lineno} spells a property name")
    return found


def reads_environment(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    )


def is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(one, ast.Name) and one.id in ("Exception", "BaseException") for one in kinds)


def cycles(files: dict[str, str]) -> list[list[str]]:
    """Files that import each other when they run, also in a roundabout way and inside functions: each knot once.

    Not by way of `__init__` alone: a package's own is imported before what stands in it.
    """
    known = frozenset(files)
    graph = {
        module: {one.target for one in imports(module, source, known) if one.ours and one.runs and one.target in known}
        for module, source in files.items()
    }
    reach = {}
    for module in graph:
        seen: set[str] = set()
        todo = list(graph[module])
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += graph[one]
        reach[module] = seen
    knots = {frozenset(other for other in reach[module] if module in reach[other]) for module in graph}
    return sorted(sorted(knot) for knot in knots if knot)


def loaded_by_name(source: str) -> Iterator[tuple[str, str | None]]:
    """Modules of ours, and functions in them, that a file names by strings: `package.load`, `package.loaded`,
    `deferred`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            of_package = isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "package"
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            if texts and ((name in ("load", "loaded") and of_package) or name == "deferred"):
                yield texts[0], texts[1] if len(texts) > 1 else None


def test_the_rules_hold():
    assert violations(sources()) == []


def test_a_package_of_one_file_imports_from_its_parent(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "FOLDER", tmp_path)
    (tmp_path / "providers" / "acme").mkdir(parents=True)
    (tmp_path / "providers" / "generation.py").write_text("")
    (tmp_path / "providers" / "acme" / "__init__.py").write_text("from ..generation import Generation\n")
    assert violations(sources()) == []


def test_no_files_import_each_other():
    assert cycles(sources()) == []


def test_modules_that_are_named_by_strings_exist():
    named = {pair for source in sources().values() for pair in loaded_by_name(source)}
    assert len(named) > 10
    for path, function in named:
        module = importlib.import_module(f"{NAME}.{path}")
        if function is not None:
            assert callable(getattr(module, function)), (path, function)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_each_row_of_the_table_is_kept(package):
    forbidden = next(
        (other for other in sorted(ALLOWED) if other not in ALLOWED[package] | {package, "__init__"}), None
    )
    if forbidden is None:
        pytest.skip("it may import everything")
    files = {**sources(), f"{package}.novelty" if package not in sources() else package: f"import {NAME}.{forbidden}\n"}
    assert any(f"imports {forbidden}" in line and line.startswith(package) for line in violations(files))


@pytest.mark.parametrize(
    ("module", "line", "what"),
    [
        ("context.scope", "from ..export.local import LocalExporter", "context.scope: imports export.local"),
        ("capture.calls", "def f():\n    from ..processing import event", "capture.calls: imports processing.event"),
        ("export.queue", "import posthog_autoinstrument.agent", "export.queue: imports agent"),
        ("providers.openai.chat", "from ...cli import main", "providers.openai.chat: imports cli"),
        (
            "processing.event",
            "TYPE_CHECKING = 0\nif TYPE_CHECKING:\n    from ..capture.calls import OpenCall",
            "processing.event: imports capture.calls",
        ),
        ("instrumentation.streams", "import httpx", "instrumentation.streams: imports httpx"),
        ("agent", "def f():\n    import openai.types", "agent: imports openai"),
        ("export.flusher", "import requests", "export.flusher: imports requests"),
        ("capture.calls", "import wrapt", "capture.calls: imports wrapt"),
        ("cli.events", "import sqlite3", "cli.events: imports sqlite3"),
        ("bootstrap.startup", "import json", "bootstrap.startup: imports ['json'] at start-up"),
        ("bootstrap.startup", "from ..settings import config", "bootstrap.startup: imports ['config'] at start-up"),
        ("export.queue", "try:\n    pass\nexcept Exception:\n    pass", "export.queue: line 3 has a broad except"),
        (
            "export.queue",
            "try:\n    pass\nexcept (ValueError, BaseException):\n    pass",
            "export.queue: line 3 has a broad except",
        ),
        ("export.queue", "try:\n    pass\nexcept:\n    pass", "export.queue: line 3 has a broad except"),
        ("export.queue", "import os\nx = os.environ['A']", "export.queue: line 2 reads the environment"),
        ("export.queue", "x = '$ai_input'", "export.queue: line 1 spells a property name"),
        ("novelty.thing", "x = 1", "novelty.thing: its package is not in the table"),
    ],
)
def test_a_planted_violation_is_found(module, line, what):
    assert what in violations({**sources(), module: line + "\n"})


def test_a_planted_cycle_is_found():
    files = {
        "core.one": "from . import two",
        "core.two": "def f():\n    from .three import x",
        "core.three": "from . import one",
    }
    assert cycles(files) == [["core.one", "core.three", "core.two"]]


def test_a_wrong_name_of_a_module_is_found():
    wrong = "read = deferred('providers.openai.chat', 'read_chats')\npackage.load('integrations.nothing')"
    assert set(loaded_by_name(wrong)) == {("providers.openai.chat", "read_chats"), ("integrations.nothing", None)}
