"""Settings from the environment: names, aliases, values that do not parse."""

from __future__ import annotations

import dataclasses

import pytest

from posthog_autoinstrument import config, guard


@pytest.fixture(autouse=True)
def _restore_guard():
    loud, debug = guard.loud, guard.debug
    yield
    guard.loud, guard.debug = loud, debug


def test_the_defaults_of_the_table_and_of_the_class_are_the_same():
    fields = {field.name: field for field in dataclasses.fields(config.Config)}
    empty = config.load({})
    for setting in config.SETTINGS:
        assert setting.field in fields
        assert getattr(empty, setting.field) == setting.default
        assert setting.help
        assert setting.accepts
    assert empty.problems == ()
    assert not empty.launched


def test_the_token_and_its_aliases():
    assert config.load({"POSTHOG_PROJECT_TOKEN": " 'phc_a' "}).token == "phc_a"
    assert config.load({"POSTHOG_PROJECT_API_KEY": "phc_b"}).token == "phc_b"
    assert config.load({"POSTHOG_API_KEY": "phc_c"}).token == "phc_c"
    assert config.load({"POSTHOG_API_KEY": "phc_c", "POSTHOG_PROJECT_TOKEN": "phc_a"}).token == "phc_a"


def test_a_personal_key_is_refused_and_the_next_alias_used():
    secret = "phx_abcdefghijklmnop"
    loaded = config.load({"POSTHOG_PROJECT_TOKEN": secret, "POSTHOG_API_KEY": "phc_c"})
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
        ("POSTHOG_AUTOINSTRUMENT_BEFORE_SEND", "no_colon"),
    ],
)
def test_a_value_that_does_not_parse_leaves_the_default(variable, text):
    loaded = config.load({variable: text})
    (problem,) = loaded.problems
    assert problem.startswith(f"{variable}={text!r} is not accepted")
    assert {**vars(loaded), "problems": ()} == vars(config.load({}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ftp://user:s3cret@h.example/x?key=s3cret", "ftp://[REDACTED]@h.example/x"),
        ("https://user:s3@cret@[bad", "https://[REDACTED]@[bad"),
    ],
)
def test_a_host_that_does_not_parse_is_said_without_its_secrets(text, shown):
    (problem,) = config.load({"POSTHOG_HOST": text}).problems
    assert problem.startswith(f"POSTHOG_HOST={shown!r} is not accepted")


def test_a_privacy_mode_that_does_not_parse_is_on():
    loaded = config.load({"POSTHOG_PRIVACY_MODE": "y"})
    assert loaded.privacy_mode is True
    (problem,) = loaded.problems
    assert problem.endswith("it is on")


def test_flags():
    for text in ("1", "true", "YES", " on "):
        assert config.load({"POSTHOG_PRIVACY_MODE": text}).privacy_mode is True
    for text in ("0", "false", "No", "off", ""):
        assert config.load({"POSTHOG_PRIVACY_MODE": text}).privacy_mode is False


def test_secrets_are_masked():
    assert config.mask("phc_abcdefghijklmnopqrstuvwxyz") == "phc_abcd..."
    assert config.mask("short") == "..."
