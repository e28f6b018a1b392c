"""English prose of any length, from the documentation that comes with Python: what compresses as prompts do."""

from __future__ import annotations

from pydoc_data.topics import topics

_TEXT = " ".join(" ".join(topics.values()).split()).replace('"', "").replace("\\", "")


def prose(start: int, n_chars: int) -> str:
    """`n_chars` characters; another `start`, other text. ASCII without quotes: as many bytes of JSON."""
    start %= len(_TEXT)
    text = _TEXT[start : start + n_chars]
    while len(text) < n_chars:
        text += _TEXT[: n_chars - len(text)]
    return text.encode("ascii", "replace").decode()
