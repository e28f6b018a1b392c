"""The Python that a command would run, and what would keep the agent from starting in it, as far as the command line
and its files show. Nothing is started.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PYTHON = re.compile(r"(python|pypy)w?[\d.]*t?(\.exe)?", re.IGNORECASE)
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ash", "ksh", "busybox"))
RUNNERS = frozenset(("uv", "poetry", "pipenv", "pdm", "hatch", "rye", "conda", "mamba", "micromamba"))
"""Programs that run a command in an environment of their own choice: `NAME run [OPTION ...] COMMAND`."""
_RUNNERS_VALUES = re.compile(
    r"-[neCpP]|--(name|prefix|python|package|with|with-editable|with-requirements|extra|group|only-group|env-file|project"
    r"|directory|config-file|index|index-url|default-index|env|cwd)"
)
"""Their options that take the next word as their value."""
_TAKES_VALUE = frozenset("WXQ")
"""Python's options of one letter that do."""
_MAX_SCRIPT = 256 * 1024
_TRAMPOLINE = re.compile(rb"""^'''exec' "?([^"\n]+?)"? "\$0" "\$@"$""", re.MULTILINE)
"""What pip and uv write as the second line of a script whose interpreter has too long a path for a #! line."""

IGNORES = {
    "I": "does not read PYTHONPATH",
    "E": "does not read PYTHONPATH",
    "S": "runs no sitecustomize",
}


@dataclass
class Found:
    """What is known of the Python that a command runs."""

    python: str | None = None
    """Its path; None where it cannot be seen."""
    options: list[str] = field(default_factory=list)
    """Its own options, before the program."""
    runner: list[str] | None = None
    """The command that chooses it, up to where the program stands: `uv run`."""
    script: str | None = None
    """The file that it runs."""
    obstacles: list[str] = field(default_factory=list)
    """Why the agent would not start: one sentence each, without a full stop."""


def find(command: Sequence[str], environ: Mapping[str, str]) -> Found:
    """What `command`, as it would be executed, runs."""
    path = shutil.which(command[0], path=environ.get("PATH")) or command[0]
    name = os.path.basename(command[0])
    if _PYTHON.fullmatch(name):
        return _of_python(path, command[1:])
    if name == "env":
        return _of_env(command[1:], environ)
    if name in RUNNERS:
        return _of_runner(command, environ)
    if name in _SHELLS:
        return _of_shell(command[1:])
    return _of_file(path, command[1:], environ)


def _of_python(python: str, arguments: Sequence[str]) -> Found:
    found = Found(python)
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            found.script = word
            break
        if word.startswith("--"):
            found.options.append(word)
            if word == "--check-hash-based-pycs" and words:
                found.options.append(words.pop(0))
            continue
        option, value = _until_value(word[1:])
        if option[-1:] in ("c", "m"):
            if option[:-1]:
                found.options.append("-" + option[:-1])
            break
        found.options.append(word)
        if option[-1:] in _TAKES_VALUE and not value and words:
            found.options.append(words.pop(0))
    for letter, reason in IGNORES.items():
        if _has(found.options, letter):
            found.obstacles.append(f"{os.path.basename(python)} -{letter} {reason} (leave -{letter} out)")
    if found.script is not None:
        found.obstacles += _of_archive(found.script)
    return found


def _has(options: Sequence[str], letter: str) -> bool:
    """Whether one of Python's options, not the value of one, has this letter."""
    after_value = False
    for option in options:
        if after_value:
            after_value = False
            continue
        if not option.startswith("-") or option.startswith("--"):
            continue
        letters, value = _until_value(option[1:])
        if letter in letters:
            return True
        after_value = letters[-1:] in _TAKES_VALUE and not value
    return False


def _until_value(letters: str) -> tuple[str, str]:
    """Options of one letter written together, up to one that takes a value or ends them; and that value."""
    for index, letter in enumerate(letters):
        if letter in _TAKES_VALUE or letter in "cm":
            return letters[: index + 1], letters[index + 1 :]
    return letters, ""


def _of_env(arguments: Sequence[str], environ: Mapping[str, str]) -> Found:
    """`env [OPTION ...] [NAME=VALUE ...] COMMAND`."""
    words, changed, obstacles = list(arguments), dict(environ), []
    while words:
        word = words.pop(0)
        if word in ("-i", "-", "--ignore-environment"):
            obstacles.append("env -i empties the environment (leave -i out)")
        elif word in ("-u", "--unset") and words:
            if words.pop(0) == "PYTHONPATH":
                obstacles.append("env takes PYTHONPATH away (leave that out)")
        elif word in ("-C", "--chdir") and words:
            words.pop(0)
        elif word in ("-S", "--split-string") and words:
            words[:1] = shlex.split(words[0])
        elif word.startswith("-S"):
            words[:0] = shlex.split(word[2:])
        elif word.startswith("-"):
            if word == "--unset=PYTHONPATH" or word == "-uPYTHONPATH":
                obstacles.append("env takes PYTHONPATH away (leave that out)")
        elif "=" in word:
            name, _, value = word.partition("=")
            changed[name] = value
            if name == "PYTHONPATH":
                obstacles.append("env sets PYTHONPATH anew (set it before posthog-instrument)")
        else:
            found = find([word, *words], changed)
            found.obstacles[:0] = obstacles
            return found
    return Found(obstacles=obstacles)


def _of_runner(command: Sequence[str], environ: Mapping[str, str]) -> Found:
    words = list(command)
    if "run" not in words:
        return Found()
    at = words.index("run") + 1
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        at += 2 if _RUNNERS_VALUES.fullmatch(words[at]) else 1
    if at < len(words) and words[at] == "--":
        at += 1
    found = Found(runner=words[:at])
    inner = words[at:]
    if inner and _PYTHON.fullmatch(os.path.basename(inner[0])):
        seen = _of_python(inner[0], inner[1:])
        found.options, found.script, found.obstacles = seen.options, seen.script, seen.obstacles
    elif inner and os.path.dirname(inner[0]):
        found.obstacles = _of_file(inner[0], inner[1:], environ).obstacles
    return found


def _of_shell(arguments: Sequence[str]) -> Found:
    words = list(arguments)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if "c" in word and not word.startswith("--") and words:
            return Found(obstacles=_of_shell_text(words[0], "its command"))
    if words and os.path.isfile(words[0]):
        return Found(obstacles=_of_shell_text(_text(words[0]), words[0]))
    return Found()


def _of_file(path: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Found:
    """A file that is executed: by the interpreter that its first line names."""
    head = _head(path)
    if not head.startswith(b"#!"):
        return Found()
    try:
        words = shlex.split(head[2:].partition(b"\n")[0].decode("utf-8", "replace"))
    except ValueError:
        return Found()
    if not words:
        return Found()
    trampoline = _TRAMPOLINE.search(head)
    if trampoline is not None:
        words = [trampoline[1].decode("utf-8", "replace")]
    name = os.path.basename(words[0])
    if name in _SHELLS or (name == "env" and os.path.basename(words[-1]) in _SHELLS):
        return Found(obstacles=_of_shell_text(_text(path), path))
    return find([*words, path, *arguments], environ)


_SETS = re.compile(r"(?:^|[\s;&|(])(?:export\s+|ENV\s+)?PYTHONPATH=(?P<value>\"[^\"]*\"|'[^']*'|[^\s;&|]*)")
_TAKES_AWAY = re.compile(r"\bunset\s+(?:\w+\s+)*PYTHONPATH\b|\benv\s+(?:-\w+\s+)*(?:-i|-u\s*PYTHONPATH)\b")
_ISOLATED = re.compile(r"\b(?P<name>python[\d.]*)\s+(?:-[A-DF-HJ-RT-Za-z]+\s+)*-[a-zA-Z]*(?P<letter>[IES])[a-zA-Z]*\s")


def _of_shell_text(text: str, where: str) -> list[str]:
    """What in a shell script keeps the agent from the Pythons that it starts."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", line)
        at = where if "\n" not in text.strip() else f"{where}, line {number},"
        for match in _SETS.finditer(line):
            if not re.search(r"\$\{?PYTHONPATH\b", match["value"]):
                found.append(f"{at} sets PYTHONPATH anew (write PYTHONPATH={_joined(match['value'])})")
        if _TAKES_AWAY.search(line):
            found.append(f"{at} takes PYTHONPATH away (leave that out)")
        isolated = _ISOLATED.search(line + " ")
        if isolated is not None:
            name, letter = isolated["name"], isolated["letter"]
            found.append(f"{at} runs {name} -{letter}, which {IGNORES[letter]} (leave it out)")
    return found


def _joined(value: str) -> str:
    quote = value[:1] if value[:1] in ("'", '"') else ""
    return f'"{value.strip(quote)}:$PYTHONPATH"' if quote else f"{value}:$PYTHONPATH"


def _of_archive(path: str) -> list[str]:
    """A pex runs `python -I` on itself, without anything from outside (pex 2.105); a shiv or zipapp does not."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _MAX_SCRIPT))
            tail = file.read()
    except OSError:
        return []
    if b"PK\x05\x06" not in tail[-65_600:]:
        return []
    if b"PEX-INFO" in tail:
        return [f"{path} is a pex, which keeps out what is not in it (put posthog-autoinstrument into it)"]
    return []


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(2048)
    except OSError:
        return b""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_SCRIPT)
    except OSError:
        return ""
