"""The site that `make docs` builds: README, the pages of this folder in the order of PAGES, every link checked.

Sphinx with MyST and furo. The pages are plain Markdown, which also reads well in the repository: no directives, no
front matter; what the site needs beside them is added here while Sphinx reads. The source folder is the repository's
top folder, so that a link means the same here and there. The site loads nothing from any other host.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

PAGES: dict[str, tuple[str, ...]] = {
    "Start": ("README", "docs/install", "docs/upgrade", "docs/troubleshooting"),
    "Use": (
        "docs/context",
        "docs/web",
        "docs/spans",
        "docs/privacy",
        "docs/local-store",
        "docs/costs",
        "docs/other-tools",
        "docs/testing",
    ),
    "Reference": ("docs/functions", "docs/settings", "docs/captured", "docs/events"),
    "Operate": ("docs/delivery", "docs/performance"),
    "Develop": ("docs/architecture", "docs/adding-a-provider", "docs/decisions", "CONTRIBUTING", "CHANGELOG"),
}
"""The navigation, by section. A page of this folder that is not named stands below MORE."""
MORE = "More"


def _version() -> str:
    for name in ("_version.py", "__init__.py"):
        path = ROOT / "posthog_autoinstrument" / name
        found = re.search(r"^__version__ = (.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
        if found:
            return str(ast.literal_eval(found.group(1)))
    raise LookupError("no __version__ in the package")


project = "posthog-autoinstrument"
version = release = _version()
copyright = "the authors of posthog-autoinstrument"

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
# Not walked through: environments, and what is built.
exclude_patterns = [".*", "build", "dist", "tests", "benchmarks", "examples", "posthog_autoinstrument", "*.egg-info"]
nitpicky = True
language = "en"

myst_heading_anchors = 4
"""Headings have the anchors that they have in the repository's web view; a link to any other fails the build."""

html_theme = "furo"
html_title = f"posthog-autoinstrument {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
html_domain_indices = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    if page != root_doc:
        return
    named = {name for pages in PAGES.values() for name in pages} | {root_doc}
    others = {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")} - named
    for section, pages in {**PAGES, MORE: tuple(sorted(others))}.items():
        there = [f"/{name}" for name in pages if (ROOT / f"{name}.md").exists()]
        if not there:
            continue
        source[0] += "\n".join(["\n", "```{toctree}", ":hidden:", f":caption: {section}", "", *there, "```", ""])


LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+)\)")


def _unlink_folders(app: Sphinx, page: str, source: list[str]) -> None:
    """A folder can be looked at in the repository; the site has none."""
    folder = (ROOT / page).parent

    def replace(match: re.Match[str]) -> str:
        return match[1] if (folder / match[2]).is_dir() else match[0]

    source[0] = LINK.sub(replace, source[0])


def _write_entrance(app: Sphinx, failure: Exception | None) -> None:
    if failure is None:
        entrance = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(entrance)


def setup(app: Sphinx) -> None:
    app.connect("source-read", _unlink_folders)
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _write_entrance)
