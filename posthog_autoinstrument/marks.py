"""Marks: short texts that are looked for in long bytes, on the program's thread.

Python finds a byte in 100 KB in 1 us and a text in 50. So a mark is looked for by a rare byte of its own and the two
bytes before it, and only what these let stand is looked for whole. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from operator import itemgetter

_RARE = b"JzA_-"
"""Bytes that most prose and code have few of, the rarest first."""
_WINDOW = 65_536
"""Bytes that are taken apart at once: as much memory is used for it."""
_BEFORE = 2
_last = itemgetter(slice(-_BEFORE, None))

_Suspect = tuple[bytes, "re.Pattern[bytes] | None"]


class Marks:
    """Texts, each alone or with an expression that must match where it stands, too."""

    def __init__(self, marks: Mapping[bytes, re.Pattern[bytes] | None]) -> None:
        self._common: list[_Suspect] = []
        groups: dict[bytes, dict[bytes, list[_Suspect]]] = {}
        for text, pattern in marks.items():
            rare = next((bytes((byte,)) for byte in _RARE if byte in text[_BEFORE:]), None)
            if rare is None:
                self._common.append((text, pattern))
            else:
                before = _last(text[: text.rindex(rare)])
                groups.setdefault(rare, {}).setdefault(before, []).append((text, pattern))
        self._groups = [(rare, by_before, frozenset(by_before)) for rare, by_before in groups.items()]

    def in_(self, data: bytes) -> bool:
        """Whether one of them is in `data`."""
        suspects = dict.fromkeys(self._common)
        for start in range(0, len(data), _WINDOW):
            window = data if len(data) <= _WINDOW else data[max(0, start - _BEFORE) : start + _WINDOW]
            for rare, by_before, known in self._groups:
                if rare in window and not known.isdisjoint(map(_last, window.split(rare))):
                    for before in known.intersection(map(_last, window.split(rare))):
                        suspects.update(dict.fromkeys(by_before[before]))
        return any(_is_in(data, text, pattern) for text, pattern in suspects)


def _is_in(data: bytes, text: bytes, pattern: re.Pattern[bytes] | None) -> bool:
    at = data.find(text)
    while at >= 0:
        if pattern is None or pattern.match(data, at):
            return True
        at = data.find(text, at + 1)
    return False
