"""The parts of the documents that are generated: tables and examples between two comments of a page.

    python docs/generate        # `make readme`: write them into README.md and docs/*.md

A region is a comment "NAME: written by `make readme`" ... a comment "end of NAME", in any page; what stands
outside is written by hand. `tests/unit/test_docs.py` fails when a region is not what this package makes of the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
)
_REGION = re.compile(r"(<!-- ([\w-]+): written by `make readme` -->\n)(.*?)(<!-- end of \2 -->\n)", re.DOTALL)

Regions = Mapping[str, Callable[[], str]]
"""What stands in a region, by its name; Markdown that ends with a line break."""


def names(text: str) -> list[str]:
    """The regions of a page."""
    return [match[2] for match in _REGION.finditer(text)]


def generated(text: str, regions: Regions) -> str:
    """The page with each region as it should be. Raises KeyError for a region that nothing makes."""
    return _REGION.sub(lambda match: f"{match[1]}{regions[match[2]]()}{match[4]}", text)


def all_regions() -> Regions:
    """Every region that there is. Imports the package, and openai when the example events are asked for."""
    from . import events, files, tables

    return {**tables.REGIONS, **files.REGIONS, **events.REGIONS}
