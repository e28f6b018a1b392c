"""The import rules of the package, kept by reading its syntax trees; each rule fails on a planted violation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

import posthog_autoinstrument

PACKAGE = Path(posthog_autoinstrument.__file__).parent
NAME = "posthog_autoinstrument"

FLOORS: dict[str, set[str]] = {
    "ground": {
        "_version", "package", "lifetime", "secrettexts", "scrubber",
        "__init__", "guard", "config", "context", "ids", "jsonsafe", "secretnames", "forks", "records", "generation",
        "reading", "deltas", "toolcalls", "sse", "blocks", "summary", "threads", "packing", "providers", "quickjson",
        "process_tree", "wake", "hookloader", "misspellings", "dependencies", "private_modules", "descriptors",
        "posthogclients",
    },
    "host": {
        "calls", "sealing", "recording", "spans", "remarks", "elsewhere", "sites", "wire", "streams", "usage",
        "sockets", "conversations", "hooks", "borders", "frameworks", "libraries",
    },
    "delivery": {
        "ownedlock", "sleeper", "keptevents",
        "background", "tools", "event", "sampling", "redact", "mend", "queue", "flusher", "courier", "sinks", "store",
        "outbox", "spool", "facts", "retention", "schema", "marks", "ownership", "privacy",
        "thoughts",
    },
    "roof": {
        "agent", "aws_lambda", "exits", "signals", "project", "firstrun", "capture", "destination", "maker", "tally",
        "ray_tasks", "durable", "auto", "pyinstaller", "__main__", "cli", "testing", "viewer",
    },
}  # fmt: skip
BELOW = {"ground": {"ground"}, "host": {"ground", "host"}, "delivery": {"ground", "delivery"}}

ONLY_IN = {
    # Not by `import`, which could find the program's: `dependencies.load`, and a copy in `sinks.http_session`.
    "wrapt": set(),
    "requests": set(),
    "sqlite3": set(),
    # What a host program would do: the demo's is one. Everything else must not: openai 3 looks at what is loaded.
    "openai": {"cli.demo_app"},
    "httpx": set(),
    "httpx2": set(),
    "posthog": set(),
    # Of the extra `viewer`: who has it not must be able to import the rest of it.
    "starlette": {"viewer.app", "viewer.fence", "viewer.views", "viewer.receiver"},
    "uvicorn": {"viewer.server"},
    "jinja2": {"viewer.rendering"},
    "markupsafe": {"viewer.rendering"},
    "genai_prices": {"viewer.prices"},
    "tomllib": {"viewer.ownprices"},
    "tomli": {"viewer.ownprices"},
    # Of the extra `cli`.
    "rich": {"cli.stats"},
}
START_UP = {"wake"}
BROAD_EXCEPT = {"guard", "wake"}
ENVIRONMENT = {"config", "context", "wake", "cli", "cli.launcher", "cli.demo", "cli.doctor"}
"""The command line is a process of its own: it reads the environment to pass it on, and to show it. `wake` reads one
setting, before `config` may be imported; `context` reads what a parent process handed down."""
AI_NAMES = {"keptevents", "event", "facts", "privacy"}


def sources() -> dict[str, str]:
    """Module name below the package -> source."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def floor(module: str) -> str | None:
    top = module.partition(".")[0]
    return next((name for name, modules in FLOORS.items() if top in modules), None)


def imports(module: str, source: str, known: set[str]) -> Iterator[tuple[str, bool]]:
    """What a module imports: (name, whether it is ours). Ours are named from the package down."""
    is_package = any(other.startswith(module + ".") for other in known) or module == "__init__"
    place = [] if module == "__init__" else module.split(".")
    tree = ast.parse(source)
    never_run = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in never_run:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.removeprefix(NAME + "."), alias.name.partition(".")[0] == NAME
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                drop = node.level - (1 if is_package else 0)
                base = place[: len(place) - drop] if drop else place
                target = ".".join([*base, *([node.module] if node.module else [])])
            elif (node.module or "").partition(".")[0] == NAME:
                target = (node.module or "").removeprefix(NAME).lstrip(".")
            else:
                yield node.module or "", False
                continue
            for alias in node.names:
                inner = f"{target}.{alias.name}".lstrip(".")
                yield (inner if inner in known else target or "__init__"), True


def violations(files: dict[str, str]) -> list[str]:
    """Every breach of a rule, as `module: what`."""
    found = []
    known = set(files)
    for module, source in files.items():
        tree = ast.parse(source)
        here = floor(module)
        if here is None:
            found.append(f"{module}: stands on no floor")
            continue
        for name, ours in imports(module, source, known):
            if ours:
                there = floor(name)
                if here in BELOW and module not in START_UP and there not in BELOW[here]:
                    found.append(f"{module}: imports {name}, which is {there}")
                if module in START_UP and name not in (
                    "agent",
                    "borders",
                    "frameworks",
                    "guard",
                    "package",
                    "posthogclients",
                    "ray_tasks",
                    "__init__",
                ):
                    found.append(f"{module}: imports {name} at start-up")
            else:
                top = name.partition(".")[0]
                if top in ONLY_IN and module not in ONLY_IN[top]:
                    found.append(f"{module}: imports {top}")
        if module in START_UP:
            for node in tree.body:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    names = [alias.name for alias in node.names]
                    if names != ["sys"]:
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


def test_the_rules_hold():
    assert violations(sources()) == []


@pytest.mark.parametrize(
    ("module", "line", "what"),
    [
        ("guard", "from . import calls", "guard: imports calls, which is host"),
        ("context", "from .sinks.local import LocalSink", "context: imports sinks.local, which is delivery"),
        ("sites", "from . import event", "sites: imports event, which is delivery"),
        ("flusher", "from .wire import patch", "flusher: imports wire, which is host"),
        ("queue", "import posthog_autoinstrument.agent", "queue: imports agent, which is roof"),
        ("sinks.local", "from .. import hooks", "sinks.local: imports hooks, which is host"),
        ("providers.openai.chat", "from ...cli import main", "providers.openai.chat: imports cli, which is roof"),
        ("streams", "import httpx", "streams: imports httpx"),
        ("agent", "def f():\n    import openai.types", "agent: imports openai"),
        ("flusher", "import requests", "flusher: imports requests"),
        ("calls", "import wrapt", "calls: imports wrapt"),
        ("cli.events", "import sqlite3", "cli.events: imports sqlite3"),
        ("wake", "import json", "wake: imports ['json'] at start-up"),
        ("wake", "from . import config", "wake: imports config at start-up"),
        ("redact", "try:\n    pass\nexcept Exception:\n    pass", "redact: line 3 has a broad except"),
        (
            "redact",
            "try:\n    pass\nexcept (ValueError, BaseException):\n    pass",
            "redact: line 3 has a broad except",
        ),
        ("redact", "try:\n    pass\nexcept:\n    pass", "redact: line 3 has a broad except"),
        ("store", "import os\nx = os.environ['A']", "store: line 2 reads the environment"),
        ("redact", "x = '$ai_input'", "redact: line 1 spells a property name"),
        ("novelty", "x = 1", "novelty: stands on no floor"),
    ],
)
def test_a_planted_violation_is_found(module, line, what):
    files = {**sources(), module: line + "\n"}
    assert what in violations(files)
