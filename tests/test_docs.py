"""What the documents say is true: tables, file lists, links, commands, and the worked example.

`make readme` (this file as a program) writes the table of settings into README.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import posthog_autoinstrument
from posthog_autoinstrument import cli, config
from posthog_autoinstrument.providers import load_providers

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PROVIDER_GUIDE = ROOT / "docs" / "adding-a-provider.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
CALLS_BEGIN, CALLS_END = "<!-- calls: written by `make readme` -->\n", "<!-- end of calls -->\n"
BEGIN, END = "<!-- settings: written by `make readme` -->\n", "<!-- end of settings -->\n"

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def settings_table() -> str:
    """The rows of `config.SETTINGS` as a table."""
    lines = ["| Variable | Accepts | Default | Meaning |", "|---|---|---|---|"]
    for setting in config.SETTINGS:
        names = "<br>or ".join(f"`{name}`" for name in (setting.variable, *setting.aliases))
        lines.append(f"| {names} | {setting.accepts} | {_default(setting.default)} | {setting.help} |")
    return "\n".join(lines) + "\n"


def calls_table() -> str:
    """What is captured, from the tables of the providers: methods with a call site, paths, events."""
    lines = ["| Call | Path | Event |", "|---|---|---|"]
    events = {"generation": "`$ai_generation`", "embedding": "`$ai_embedding`", "span": "`$ai_span`"}
    for provider in load_providers():
        for endpoint in provider.endpoints:
            methods: dict[str, None] = {}
            for site in provider.sites:
                if site.endpoint == endpoint.name and not site.is_async:
                    resource = resource_of(site.module, provider.package)
                    methods.update(dict.fromkeys(f"`{resource}.{name}`" for name in (*site.methods, *site.streams)))
            path = endpoint.path if endpoint.method == "POST" else f"{endpoint.method} {endpoint.path}"
            names = ", ".join([*methods, *(f"`{name}`" for name in endpoint.wire_only)])
            event = events.get(endpoint.kind, "none of its own: the outcome of a call in the background")
            lines.append(f"| {names} | `{path}` | {event} |")
        sockets: dict[str, None] = {}
        for socket in provider.sockets:
            sockets[f"`{resource_of(socket.module, provider.package)}.connect`"] = None
        if sockets:
            lines.append(f"| {', '.join(sockets)} | WebSocket | {events['generation']} for each response |")
    return "\n".join(lines) + "\n"


def resource_of(module: str, package: str) -> str:
    """Where a module's class hangs below the client: `chat.completions`."""
    return ".".join(dict.fromkeys(module.removeprefix(f"{package}.resources.").split(".")))


def _default(value: Any) -> str:
    if value is None or value == {} or value == frozenset():
        return ""
    return f"`{int(value) if isinstance(value, bool) else value}`"


def with_tables(text: str) -> str:
    """The README's text with its tables as they should be."""
    for begin, end, table in ((BEGIN, END, settings_table()), (CALLS_BEGIN, CALLS_END, calls_table())):
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + table + end + after
    return text


def blocks(document: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def test_the_tables_are_those_of_the_code() -> None:
    text = README.read_text()
    for mark in (BEGIN, END, CALLS_BEGIN, CALLS_END):
        assert text.count(mark) == 1
    assert text == with_tables(text), "run: make readme"


@each_document
def test_variables_exist(document: Path) -> None:
    known = {variable for setting in config.SETTINGS for variable in (setting.variable, *setting.aliases)}
    named = set(re.findall(r"\bPOSTHOG_[A-Z_]*[A-Z]\b", document.read_text()))
    assert named <= known | {config.LAUNCHED, config.HANDED_DOWN}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", document.read_text()):
        if "://" not in target:
            path = document.parent / target if target else document
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Those of a document's headings, as the repository's web view and the site make them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = (
        re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    )
    return {heading.replace(" ", "-") for heading in headings}


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\s*)make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= targets


@each_document
def test_python_in_the_documents_compiles(document: Path) -> None:
    for number, block in enumerate(blocks(document, "python")):
        compile(block, f"{document.name} block {number}", "exec")


def test_every_captured_call_is_named() -> None:
    for provider in load_providers():
        for endpoint in provider.endpoints:
            sites = [site for site in provider.sites if site.endpoint == endpoint.name]
            assert sites or endpoint.wire_only, f"{endpoint.name}: nobody would know how to call it"


def test_public_names_are_in_the_readme() -> None:
    for name in posthog_autoinstrument.__all__:
        assert name in README.read_text() or name == "__version__"


def test_commands_are_in_the_readme_and_in_the_help() -> None:
    for word in ("demo", "view", "events", "stats", "send", "doctor"):
        assert f"posthog-instrument {word}" in README.read_text()
        assert re.search(rf"^  {word} ", cli.HELP, re.MULTILINE)


def test_the_architecture_names_every_file() -> None:
    table = ARCHITECTURE.read_text()
    package = ROOT / "posthog_autoinstrument"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    named = {name for name in re.findall(r"`([\w/-]+\.py)`", table) if (package / name).exists()}
    assert files - named == set(), "not in docs/architecture.md"
    gone = set(re.findall(r"^\| `([\w/-]+\.py)`", table, re.MULTILINE)) - files
    assert gone == set(), "in docs/architecture.md, but there is no such file"


def test_the_worked_example_is_a_provider_that_keeps_the_contract() -> None:
    from providers.contract import Exchange, check_provider

    provider_code, exchanges_code = list(blocks(PROVIDER_GUIDE, "python"))[:2]
    # As a file of that package would be: its relative imports are found from there.
    module = ModuleType("posthog_autoinstrument.providers.acme")
    module.__package__ = "posthog_autoinstrument.providers"
    exec(compile(provider_code, "acme.py", "exec"), vars(module))
    scope: dict[str, Any] = {"Exchange": Exchange}
    exec(compile(exchanges_code.replace("from .contract import Exchange\n", ""), "test_acme_readers.py", "exec"), scope)
    check_provider(module.PROVIDER, scope["EXCHANGES"])


@pytest.mark.skipif(os.environ.get("TESTS_OF") != "wheel", reason="not run by make: the package may be the source")
def test_what_is_tested_is_the_installed_package() -> None:
    assert "site-packages" in Path(posthog_autoinstrument.__file__).parts
    assert ROOT not in Path.cwd().resolve().parents or Path.cwd().name == "testrun"


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
