"""The documents, and the code that writes their generated parts."""

from __future__ import annotations

import sys

from .paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))
from generate import DOCUMENTS, all_regions, generated, names  # the documents' own code
from generate.events import captured as example_events

__all__ = ["DOCUMENTS", "all_regions", "example_events", "generated", "names"]
