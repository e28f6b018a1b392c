"""What the documents say is true: generated tables and examples, links, commands, and the worked example."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import documented
from support.documents import DOCUMENTS, all_regions, example_events, generated, names
from support.paths import ROOT

import posthog_autoinstrument
from posthog_autoinstrument import cli
from posthog_autoinstrument.core import environment
from posthog_autoinstrument.processing.privacy import reduce
from posthog_autoinstrument.providers import load_providers
from posthog_autoinstrument.settings import config

README = ROOT / "README.md"
PROVIDER_GUIDE = ROOT / "docs" / "adding-a-provider.md"

MAPS = (ROOT / "docs" / "architecture.md", PROVIDER_GUIDE, ROOT / "CONTRIBUTING.md")
"""Pages for those who change the code, which name its files."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document: Path, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


@each_document
def test_what_is_generated_is_up_to_date(document: Path) -> None:
    text = document.read_text()
    assert text.count("written by `make readme` -->") == len(names(text)), "a region without its end"
    assert text == generated(text, all_regions()), "run: make readme (python docs/generate)"


def test_all_that_can_be_generated_is_on_a_page() -> None:
    assert set(all_regions()) <= {name for document in DOCUMENTS for name in names(document.read_text())}


def test_example_events_are_documented() -> None:
    assert {event["event"] for event in example_events()} == {
        kind for row in documented.properties().values() for kind in row.events
    }
    assert [problem for event in example_events() for problem in documented.undocumented(event)] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$ai_invented", 1),
        ("posthog_autoinstrument_invented", 1),
        ("$ai_input_tokens", "7"),
        ("$ai_stream", 1),
        ("$ai_metric_name", "of another kind of event"),
    ],
)
def test_an_undocumented_property_is_found(name: str, value: Any) -> None:
    (event, *_) = (event for event in example_events() if event["event"] == "$ai_generation")
    assert documented.undocumented({**event, "properties": {**event["properties"], name: value}})


SAMPLES: dict[str, Any] = {
    "text": "Some words.",
    "integer": 3,
    "number": 0.5,
    "boolean": True,
    "list": ["Some words.", {"count": 1}],
    "object": {"count": 1, "text": "Some words."},
    "JSON": "Some words.",
}


@pytest.mark.parametrize("row", documented.properties().values(), ids=lambda row: row.name)
def test_what_is_left_in_privacy_mode(row: documented.Property) -> None:
    value = SAMPLES[row.type]
    expected = {
        "as it is": {row.name: value},
        "null": {row.name: None},
        "left out": {},
        "known words": {},
        "numbers, known words": {row.name: {"count": 1}},
    }[row.private]
    assert reduce({row.name: value}) == expected
    if row.private == "known words":
        assert reduce({row.name: "stop"}) == {row.name: "stop"}


def test_documented_properties_are_written_somewhere() -> None:
    package = ROOT / "posthog_autoinstrument"
    source = "\n".join(path.read_text() for path in package.rglob("*.py"))
    for name in documented.properties():
        assert f'"{name}"' in source or f'"{name.removeprefix("$ai_")}"' in source, f"nothing writes {name}"


@each_document
def test_variables_exist(document: Path) -> None:
    known = {variable for setting in config.SETTINGS for variable in setting.names}
    named = set(re.findall(r"\bPOSTHOG_[A-Z_]*[A-Z]\b", document.read_text()))
    assert named <= known | {environment.LAUNCHED, environment.PARENT_CONTEXT}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", document.read_text()):
        if "://" not in target:
            path = document.parent / target if target else document
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


PLACES = (ROOT, ROOT / "posthog_autoinstrument", ROOT / "tests", ROOT / "benchmarks", ROOT / "sitecustomize_template")


@pytest.mark.parametrize("document", MAPS, ids=lambda path: path.name)
def test_files_and_folders_are_where_a_page_has_them(document: Path) -> None:
    """`capture/calls.py`, `integrations/web/`: from the repository's top folder or from one of those below it."""
    for name in re.findall(r"`([\w.][\w./-]*(?:\.py|/))`", document.read_text()):
        if "NAME" not in name and not name.startswith("build/"):
            assert any((place / name).exists() for place in PLACES), name


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


def test_every_captured_call_is_named() -> None:
    for provider in load_providers():
        for endpoint in provider.endpoints:
            sites = [site for site in provider.methods if site.endpoint == endpoint.name]
            assert sites or endpoint.transport_only, f"{endpoint.name}: nobody would know how to call it"


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 250


def test_public_names_are_in_the_readme() -> None:
    for name in posthog_autoinstrument.__all__:
        assert name in README.read_text() or name == "__version__"


def test_public_names_and_their_arguments_have_a_row() -> None:
    rows = dict(re.findall(r"^\| `(\w+)(.*?)` \|", (ROOT / "docs" / "functions.md").read_text(), re.MULTILINE))
    assert set(rows) == set(posthog_autoinstrument.__all__)
    for name, arguments in rows.items():
        if arguments:
            named = re.findall(r"[a-z]\w+", arguments.split("=")[0])
            assert named == list(inspect.signature(getattr(posthog_autoinstrument, name)).parameters), name


def test_commands_are_in_the_readme_and_in_the_help() -> None:
    for word in ("demo", "view", "events", "stats", "send", "doctor"):
        assert f"posthog-instrument {word}" in README.read_text()
        assert re.search(rf"^  {word} ", cli.HELP, re.MULTILINE)


def test_the_worked_example_is_a_provider_that_keeps_the_contract() -> None:
    from support.provider_contract import Exchange, check_provider

    provider_code, exchanges_code = list(blocks(PROVIDER_GUIDE, "python"))[:2]
    # As a folder of that package would be: its relative imports are found from there.
    module = ModuleType("posthog_autoinstrument.providers.acme")
    module.__package__ = "posthog_autoinstrument.providers.acme"
    exec(compile(provider_code, "acme.py", "exec"), vars(module))
    scope: dict[str, Any] = {"Exchange": Exchange}
    exec(
        compile(exchanges_code.replace("from support.provider_contract import Exchange\n", ""), "acme.py", "exec"),
        scope,
    )
    check_provider(module.PROVIDER, scope["EXCHANGES"])


FORM_PARTS = {"markdown": {"value"}, "input": {"label"}, "textarea": {"label"}}
"""Parts of an issue form that are used here, and what each must have (GitHub's schema for issue forms)."""


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_is_well_formed(name: str) -> None:
    form = pytest.importorskip("yaml").safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    identified = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in identified}) == len(identified)
    for part in form["body"]:
        assert FORM_PARTS[part["type"]] <= set(part["attributes"])


def test_the_hook_before_a_commit_is_make_lint() -> None:
    hooks = pytest.importorskip("yaml").safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (hook,) = hooks["repos"][0]["hooks"]
    assert (hook["entry"], hook["language"], hook["pass_filenames"]) == ("make lint", "system", False)


@pytest.mark.skipif(os.environ.get("TESTS_OF") != "wheel", reason="not run by make: the package may be the source")
def test_what_is_tested_is_the_installed_package() -> None:
    assert "site-packages" in Path(posthog_autoinstrument.__file__).parts
    assert ROOT not in Path.cwd().resolve().parents or Path.cwd().name == "testrun"
