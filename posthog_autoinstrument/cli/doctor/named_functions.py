"""Whether a function that a setting names exists, found without running the program or the function's module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence

from ...settings import hook_loader


def check(text: str, folders: Sequence[str]) -> tuple[str | None, str]:
    """Why `module:function` cannot be loaded, or None; and where it was found, or what was not checked.

    `folders` come first on the path of the program: its own folder, or the current one.
    """
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        module, path = hook_loader.parse(text)
        if module in sys.modules:
            hook_loader.load(text)
            return None, f"found in {module}"
        origin = hook_loader.origin(module)
    except hook_loader.HookError as error:
        return str(error), ""
    finally:
        sys.path[:] = before
    if origin is None:
        return f"no module named {module!r} in {', '.join(folders)} or on this Python's path", ""
    if not origin.endswith(".py"):
        return None, f"{origin} was not checked"
    try:
        with open(origin, "rb") as file:
            names = set(_bound(ast.parse(file.read()).body))
    except (OSError, SyntaxError, ValueError) as error:
        return f"{origin} cannot be read ({type(error).__name__})", ""
    if path.partition(".")[0] in names:
        return None, f"found in {origin}, which was not run"
    if names & {"*", "__getattr__"}:
        return None, f"not checked: {origin} defines names dynamically"
    return f"{origin} has no {path}", ""


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that a module binds, in whatever branch; `*` where it takes all of another one."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name
