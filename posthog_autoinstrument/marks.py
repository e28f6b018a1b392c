"""Marks: short texts that are looked for in long bytes, on the program's thread.

Python finds a byte in 100 KB in 1 us and a text in 50. So a mark is looked for by a rare byte of its own and what
stands before it, and only what these let stand is looked for whole. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter

_RARE = b'JzA_-"'
"""Bytes that most prose and code have few of, the rarest first."""
_WINDOW = 65_536
"""Bytes that are taken apart at once: as much memory is used for it."""
_SHORT = 256
"""In so many bytes one expression finds them as soon."""
_AS_DEAR = 240
"""To look at what stands before one byte takes as long as to look for one text in so many bytes."""
_last_3, _last_2 = itemgetter(slice(-3, None)), itemgetter(slice(-2, None))

_Mark = tuple[bytes, "re.Pattern[bytes] | None"]


@dataclass
class _Group:
    """Marks with the same rare byte, by the three bytes before it, or by two where they have no more."""

    byte: bytes
    marks: list[_Mark] = field(default_factory=list)
    by_3: dict[bytes, list[_Mark]] = field(default_factory=dict)
    by_2: dict[bytes, list[_Mark]] = field(default_factory=dict)

    def add(self, mark: _Mark) -> None:
        before = mark[0].split(self.byte)[-2]
        self.marks.append(mark)
        if len(before) > 2:
            self.by_3.setdefault(_last_3(before), []).append(mark)
        else:
            self.by_2.setdefault(before, []).append(mark)

    def suspects(self, window: bytes) -> list[_Mark]:
        """Those that may be there."""
        if self.byte not in window:
            return []
        parts = window.split(self.byte)
        if len(parts) * _AS_DEAR > len(self.marks) * len(window):
            return self.marks
        before = set(map(_last_3, parts))
        found = [mark for ending in self.by_3.keys() & before for mark in self.by_3[ending]]
        if self.by_2:
            found += [mark for ending in self.by_2.keys() & set(map(_last_2, before)) for mark in self.by_2[ending]]
        return found


class Marks:
    """Texts, each alone or with an expression that must match where it stands, too."""

    def __init__(self, marks: Mapping[bytes, re.Pattern[bytes] | None]) -> None:
        """Raises ValueError for a mark that has no rare byte after two others."""
        self._any = re.compile(b"|".join(map(re.escape, marks)))
        self._groups: dict[bytes, _Group] = {}
        self._longest = max(map(len, marks))
        for mark in marks.items():
            rare = next((bytes((byte,)) for byte in _RARE if byte in mark[0][2:]), None)
            if rare is None:
                raise ValueError(f"{mark[0]!r} has no rare byte after its first two")
            self._groups.setdefault(rare, _Group(rare)).add(mark)

    def in_(self, data: bytes) -> bool:
        """Whether one of them is in `data`."""
        if len(data) <= _SHORT and self._any.search(data) is None:
            return False
        for start in range(0, len(data), _WINDOW):
            begin, end = max(0, start - self._longest), start + _WINDOW
            window = data if len(data) <= _WINDOW else data[begin:end]
            for group in self._groups.values():
                for text, pattern in group.suspects(window):
                    if _is_in(data, text, pattern, begin, end + self._longest):
                        return True
        return False


def _is_in(data: bytes, text: bytes, pattern: re.Pattern[bytes] | None, begin: int, end: int) -> bool:
    at = data.find(text, begin, end)
    while at >= 0:
        if pattern is None or pattern.match(data, at):
            return True
        at = data.find(text, at + 1, end)
    return False
