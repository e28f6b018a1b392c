"""Write every generated region into its page."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generate import DOCUMENTS, all_regions, generated

for document in DOCUMENTS:
    text = document.read_text()
    new = generated(text, all_regions())
    if new != text:
        document.write_text(new)
        print(f"written: {document.name}")
