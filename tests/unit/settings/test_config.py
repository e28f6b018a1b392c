"""Settings from the environment: names, aliases, values that do not parse."""

from __future__ import annotations

import dataclasses

import pytest

from posthog_autoinstrument.core import diagnostics, guard
from posthog_autoinstrument.settings import config, loader


@pytest.fixture(autouse=True)
def _restore_guard():
    loud, debug = guard.raise_failures, diagnostics.debug
    yield
    guard.raise_failures, diagnostics.debug = loud, debug


def test_the_defaults_of_the_table_and_of_the_class_are_the_same():
    fields = {field.name: field for field in dataclasses.fields(config.Config)}
    empty = loader.load({})
    for setting in config.SETTINGS:
        assert setting.field in fields
        assert getattr(empty, setting.field) == setting.default
        assert setting.help
        assert setting.accepts
    assert empty.problems == ()
    assert not empty.launched


def test_the_token_and_its_aliases():
    assert loader.load({"POSTHOG_PROJECT_TOKEN": " 'phc_a' "}).token == "phc_a"
    assert loader.load({"POSTHOG_PROJECT_API_KEY": "phc_b"}).token == "phc_b"
    assert loader.load({"POSTHOG_API_KEY": "phc_c"}).token == "phc_c"
    assert loader.load({"POSTHOG_API_KEY": "phc_c", "POSTHOG_PROJECT_TOKEN": "phc_a"}).token == "phc_a"


def test_a_personal_key_is_refused_and_the_next_alias_used():
    secret = "phx_abcdefghijklmnop"
    loaded = loader.load({"POSTHOG_PROJECT_TOKEN": secret, "POSTHOG_API_KEY": "phc_c"})
    assert loaded.token == "phc_c"
    (problem,) = loaded.problems
    assert "POSTHOG_PROJECT_TOKEN" in problem
    assert "phx_" in problem
    assert secret not in problem


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("POSTHOG_HOST", "ftp://x"),
        ("POSTHOG_HOST", "not a host"),
        ("POSTHOG_AUTOINSTRUMENT_KEEP_MEDIA", "maybe"),
        ("POSTHOG_AUTOINSTRUMENT_FLUSH_AT", "0"),
        ("POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S", "nan"),
        ("POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S", "-1"),
        ("POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES", "1e9"),
        ("POSTHOG_AUTOINSTRUMENT_PROPERTIES", "[1]"),
        ("POSTHOG_AUTOINSTRUMENT_PROPERTIES", "{"),
    ],
)
def test_a_value_that_does_not_parse_leaves_the_default(variable, text):
    loaded = loader.load({variable: text})
    (problem,) = loaded.problems
    assert problem.startswith(f"{variable} is not accepted (wanted: ")
    assert {**vars(loaded), "problems": ()} == vars(loader.load({}))


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda setting: setting.field)
@pytest.mark.parametrize("text", ["{s3cret!", "ftp://user:s3cret@h.example/x?key=s3cret", "phx_s3cret s3cret"])
def test_a_value_that_does_not_parse_is_not_said(setting, text):
    for problem in loader.load({setting.variable: text}).problems:
        assert problem.startswith(
            (f"{setting.variable} is not accepted (wanted: ", f"{setting.variable} does not look ")
        )
        assert "s3cret" not in problem
    loader.load()


def test_a_privacy_mode_that_does_not_parse_is_on():
    loaded = loader.load({"POSTHOG_PRIVACY_MODE": "y"})
    assert loaded.privacy_mode is True
    (problem,) = loaded.problems
    assert problem.endswith("privacy mode is on")


@pytest.mark.parametrize(
    ("variable", "field", "value", "end"),
    [
        ("POSTHOG_AUTOINSTRUMENT_DISABLED", "disabled", True, "nothing is captured"),
        ("POSTHOG_AUTOINSTRUMENT_LOCAL", "local", True, "events stay on this machine"),
        ("POSTHOG_AUTOINSTRUMENT_BEFORE_SEND", "before_send", config.NOT_ACCEPTED, "no event is sent"),
    ],
)
def test_what_may_hide_something_and_does_not_parse_hides(variable, field, value, end):
    loaded = loader.load({variable: "scrub"})
    assert getattr(loaded, field) == value
    (problem,) = loaded.problems
    assert problem.endswith(end)


@pytest.mark.parametrize("kind", ["HOSTS", "MODELS", "ENDPOINTS"])
@pytest.mark.parametrize("side", ["ALLOW", "DENY"])
@pytest.mark.parametrize("text", ['["a.com"]', "a.com b.com", "a.com;b.com", "'a.com'", ","])
def test_a_filter_that_is_not_understood_lets_nothing_through(kind, side, text):
    loaded = loader.load({f"POSTHOG_AUTOINSTRUMENT_{side}_{kind}": text})
    (problem,) = loaded.problems
    assert problem.endswith("no call makes an event")
    assert getattr(loaded, f"{side}_{kind}".lower()) == {config.NOT_ACCEPTED}


@pytest.mark.parametrize("text", ["https://api.openai.com", "api.openai.com/v1", "me@api.openai.com"])
def test_a_filter_of_hosts_wants_no_addresses(text):
    (problem,) = loader.load({"POSTHOG_AUTOINSTRUMENT_DENY_HOSTS": text}).problems
    assert problem.endswith("no call makes an event")


@pytest.mark.parametrize(
    "token",
    [
        "phc_...",
        "<your project token>".replace(" ", "_"),
        "your_token",
        "phc_your_token",
        "phc_<token>",
        "sTMFPsFhdP1Ssg",
    ],
)
def test_a_token_that_looks_like_none_is_named_and_used(token):
    for variable in ("POSTHOG_PROJECT_TOKEN", "POSTHOG_API_KEY"):
        loaded = loader.load({variable: token})
        assert loaded.token == token
        (problem,) = loaded.problems
        assert problem.startswith(f"{variable} does not look like a project token (phc_ and letters and digits): ")
        assert token not in problem
    assert loader.load({"POSTHOG_PROJECT_TOKEN": token, "POSTHOG_AUTOINSTRUMENT_LOCAL": "1"}).problems == ()


@pytest.mark.parametrize("token", ["phc_x", "phc_Ab1_c-D2", '"phc_abc"'])
def test_a_token_that_looks_like_one_is_not_named(token):
    assert loader.load({"POSTHOG_PROJECT_TOKEN": token}).problems == ()


def test_flags():
    for text in ("1", "true", "YES", " on "):
        assert loader.load({"POSTHOG_PRIVACY_MODE": text}).privacy_mode is True
    for text in ("0", "false", "No", "off", ""):
        assert loader.load({"POSTHOG_PRIVACY_MODE": text}).privacy_mode is False


def test_secrets_are_masked():
    assert config.mask("phc_abcdefghijklmnopqrstuvwxyz") == "phc_abcd..."
    assert config.mask("short") == "..."
