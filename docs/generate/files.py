"""The package's files, folder by folder, each with the first sentence of its docstring."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from . import ROOT, Regions

PACKAGE = ROOT / "posthog_autoinstrument"
ORDER = (
    *(
        ".",
        "bootstrap",
        "core",
        "scrubbing",
        "settings",
        "context",
        "providers",
        "capture",
        "instrumentation",
        "propagation",
    ),
    *("integrations", "processing", "export", "store", "lifecycle", "viewer", "cli", "testing"),
)
"""Folders in the order of the data's way; those that are not named come last."""


def sentence(path: Path) -> str:
    """The first sentence of a file's docstring; "" for a file without code. Raises ValueError where there is none."""
    source = path.read_text()
    text = ast.get_docstring(ast.parse(source))
    if text is None:
        if source.strip():
            raise ValueError(f"{path.relative_to(ROOT)} has no docstring")
        return ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s(?=[A-Z`])", paragraph)[0].removesuffix(".").replace("|", "\\|")


def files() -> str:
    """A table for each folder that holds Python files."""
    folders = sorted({path.parent for path in PACKAGE.rglob("*.py")}, key=_place)
    return "\n".join(_table(folder) for folder in folders)


def _place(folder: Path) -> tuple[int, str]:
    name = folder.relative_to(PACKAGE).as_posix()
    top = name.split("/")[0]
    return ORDER.index(top) if top in ORDER else len(ORDER), name


def _table(folder: Path) -> str:
    name = folder.relative_to(PACKAGE.parent).as_posix()
    package = folder / "__init__.py"
    about = sentence(package) if package.exists() else ""
    lines = [f"**`{name}/`**{': ' + about if about else ''}"]
    rows = [path for path in sorted(folder.glob("*.py")) if path != package]
    if rows:
        lines += ["", "| File | What |", "|---|---|"]
        lines += [f"| `{path.relative_to(PACKAGE).as_posix()}` | {sentence(path)} |" for path in rows]
    return "\n".join(lines) + "\n"


REGIONS: Regions = {"files": files}
