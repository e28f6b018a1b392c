"""Text for terminals: harmless, of a known width, in any encoding."""

from __future__ import annotations

import os
import unicodedata
from typing import TextIO


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int, keep_end: bool = False) -> str:
    """At most `columns` columns of the text, with an ellipsis where something is missing."""
    # Every second character may be wide, none is narrower than nothing: look at a bounded part only.
    if len(text) <= columns * 4 and width(text) <= columns:
        return text
    room, kept = columns - 1, []
    for char in reversed(text) if keep_end else text:
        room -= _char_width(char)
        if room < 0:
            break
        kept.append(char)
    return "…" + "".join(reversed(kept)) if keep_end else "".join(kept) + "…"


def pad(text: str, columns: int, right: bool = False, keep_end: bool = False) -> str:
    """Exactly `columns` columns: cut, or filled up with blanks."""
    text = cut(text, columns, keep_end)
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def write(stdout: TextIO, line: str) -> None:
    """Write a line, with what the terminal's encoding lacks replaced."""
    encoding = getattr(stdout, "encoding", None) or "utf-8"
    line = line.rstrip()
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = line.replace("→", ">").replace("…", "~").encode(encoding, "replace").decode(encoding)
    stdout.write(line + "\n")


def detach(stdout: TextIO) -> None:
    """Point a broken standard output at nothing."""
    try:
        number = stdout.fileno()
    except (OSError, ValueError):  # not a file
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
