"""What doctor found: checks under headings, and in a few words whether calls are captured and events arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...core.formatting import clean


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, as the line `title  verdict` (no line without a verdict), and what follows."""

    title: str
    verdict: str = ""
    problem: str = ""
    """What must be fixed, with the remedy."""
    note: str = ""
    """What may be intended."""
    unknown: str = ""
    """What could not be found out."""


@dataclass
class Report:
    """The lines to print, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def add(self, heading: str, checks: Iterable[Check] = (), width: int = 20) -> None:
        """One section; none if it is empty. `width`: columns of the titles."""
        checks = list(checks)
        if heading:
            self.lines += ["", heading]
        for check in checks:
            if check.verdict:
                self.lines.append(f"  {clean(check.title):<{width}} {'' if len(check.title) <= width else ' '}"
                                  f"{clean(check.verdict)}")  # fmt: skip
        self.problems += [clean(check.problem) for check in checks if check.problem]
        self.notes += [clean(check.note) for check in checks if check.note]
        self.unknown += [clean(check.unknown) for check in checks if check.unknown]

    def verdict(self, destination: str) -> str:
        """All of it in one line."""
        if self.problems:
            return f"Not well: {len(self.problems)} {'problem' if len(self.problems) == 1 else 'problems'}."
        if self.unknown:
            return f"No problem was found; events go to {destination}. Not checked: {'; '.join(self.unknown)}."
        return f"All is well: events go to {destination}."

    def print(self, destination: str) -> None:
        """Print the verdict first, and again at the end, where a terminal shows it."""
        verdict = self.verdict(destination)
        print(verdict)
        for number, problem in enumerate(self.problems, 1):
            print(f"  {number}. {problem}")
        for note in self.notes:
            print(f"  note: {note}")
        for line in self.lines:
            print(line)
        print()
        for problem in self.problems:
            print(f"problem: {problem}")
        if not self.problems:
            print(verdict)
