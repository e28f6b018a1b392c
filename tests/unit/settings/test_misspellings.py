"""Misspelt settings are named with what was meant; what may hide something hides."""

from __future__ import annotations

import pytest

from posthog_autoinstrument.core import diagnostics, guard
from posthog_autoinstrument.settings import config, loader


@pytest.fixture(autouse=True)
def _restore_guard():
    loud, debug, owner = guard.raise_failures, diagnostics.debug, diagnostics.main_pid
    yield
    guard.raise_failures, diagnostics.debug, diagnostics.main_pid = loud, debug, owner


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("POSTHOG_PROJECT_TOKN", "POSTHOG_PROJECT_TOKEN"),
        ("POSTHOG_PROJECTTOKEN", "POSTHOG_PROJECT_TOKEN"),
        ("POSTHOG_TOKEN", "POSTHOG_PROJECT_TOKEN"),
        ("POSTHOG_KEY", "POSTHOG_PROJECT_TOKEN"),
        ("POSTHOG_API_KEYS", "POSTHOG_PROJECT_TOKEN"),
        ("POSTHOG_AUTOINSTRUMENT_TOKEN", "POSTHOG_PROJECT_TOKEN"),
        ("posthog_project_token", "POSTHOG_PROJECT_TOKEN"),
        ("POSTHOG_HOSTS", "POSTHOG_HOST"),
        ("POSTHOG_HSOT", "POSTHOG_HOST"),
        ("POSTHOG_URL", "POSTHOG_HOST"),
        ("POSTHOG_ENDPOINT", "POSTHOG_HOST"),
        ("POSTHOG_API_HOST", "POSTHOG_HOST"),
        ("POSTHOG_AUTOINSTRUMENT_HOST", "POSTHOG_HOST"),
        ("POSTHOG_DISTINCTID", "POSTHOG_DISTINCT_ID"),
        ("POSTHOG_SAMPLE_RATE", "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE"),
        ("POSTHOG_INSTRUMENT_SAMPLE_RATE", "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE"),
        ("POSTHOG_AUTO_INSTRUMENT_SAMPLERATE", "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE"),
        ("POSTHOG_AUTOINTRUMENT_FLUSH_AT", "POSTHOG_AUTOINSTRUMENT_FLUSH_AT"),
        ("POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL", "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S"),
        ("POSTHOG_AUTOINSTRUMENT_SPOOL", "POSTHOG_SPOOL"),
    ],
)
def test_what_is_near_a_setting_is_named_with_it(name, meant):
    loaded = loader.load({name: "x"})
    assert loaded.problems == (f"{name} is not a setting: did you mean {meant}?",)
    assert {**vars(loaded), "problems": ()} == vars(loader.load({}))


@pytest.mark.parametrize(
    "name",
    [
        "POSTHOG_PERSONAL_API_KEY",
        "POSTHOG_PROJECT_ID",
        "POSTHOG_DEBUG",
        "POSTHOG_ENABLED",
        "POSTHOG_CLI_API_KEY",
        "POSTHOG_CLI_TOKEN",
        "POSTHOG_CLI_ENV_ID",
        "POSTHOG_CAPTURE_MODE",
        "POSTHOG_CAPTURE_COMPRESSION",
        "POSTHOG_UI_HOST",
        "POSTHOG_ENVIRONMENT",
        "POSTHOG_DB_NAME",
        "POSTHOG_SECURE_API_KEY",
        "NEXT_PUBLIC_POSTHOG_KEY",
        "NEXT_PUBLIC_POSTHOG_HOST",
        "VITE_POSTHOG_TOKEN",
    ],
)
def test_variables_of_other_products_are_not_named(name):
    assert loader.load({name: "x"}).problems == ()


def test_what_others_call_it_is_not_named_beside_ours():
    ours = {"POSTHOG_PROJECT_TOKEN": "phc_a", "POSTHOG_HOST": "https://eu.i.posthog.com"}
    assert loader.load({**ours, "POSTHOG_API_HOST": "https://ph.example.com", "POSTHOG_KEY": "phc_b"}).problems == ()
    (problem,) = loader.load({**ours, "POSTHOG_PROJECT_TOKN": "phc_b"}).problems
    assert problem == "POSTHOG_PROJECT_TOKN is not a setting: did you mean POSTHOG_PROJECT_TOKEN?"


def test_a_variable_of_ours_that_is_near_none():
    (problem,) = loader.load({"POSTHOG_AUTOINSTRUMENT_COLOUR": "1"}).problems
    assert problem.startswith("POSTHOG_AUTOINSTRUMENT_COLOUR is not a setting: is it misspelt?")
    assert loader.load({"POSTHOG_AUTOINSTRUMENT_COLOUR": " "}).problems == ()


@pytest.mark.parametrize("value", ["1", "true", "yes please", "full", "0"])
@pytest.mark.parametrize(
    "name",
    [
        "POSTHOG_PRIVACY",
        "POSTHOG_PRIVACYMODE",
        "POSTHOG_PRVACY_MODE",
        "POSTHOG_LLM_PRIVACY",
        "POSTHOG_AI_PRIVACY_MODE_ON",
        "POSTHOG_AUTOINSTRUMENT_PRIVACY",
        "POSTHOG_AUTOINSTRUMENT_PRIVACY_MODE",
        "posthog_privacy_mode",
    ],
)
def test_what_is_probably_privacy_mode_turns_it_on(name, value):
    for beside in ({}, {"POSTHOG_PRIVACY_MODE": "0"}):
        loaded = loader.load({name: value, **beside})
        assert loaded.privacy_mode is True
        assert loaded.problems == (f"{name} is not a setting: did you mean POSTHOG_PRIVACY_MODE? (privacy mode is on)",)


@pytest.mark.parametrize(
    ("name", "field", "value", "then"),
    [
        ("POSTHOG_AUTOINSTRUMENT_BEFORE_SENT", "before_send", config.NOT_ACCEPTED, "no event is sent"),
        ("POSTHOG_BEFORE_SEND", "before_send", config.NOT_ACCEPTED, "no event is sent"),
        ("POSTHOG_AUTOINSTRUMENT_DISABLE", "disabled", True, "nothing is captured"),
        ("POSTHOG_DENY_MODELS", "deny_models", {config.NOT_ACCEPTED}, "no call makes an event"),
        ("POSTHOG_AUTOINSTRUMENT_DENY_HOST", "deny_hosts", {config.NOT_ACCEPTED}, "no call makes an event"),
    ],
)
def test_what_may_hide_something_is_not_passed_over(name, field, value, then):
    loaded = loader.load({name: "1"})
    assert getattr(loaded, field) == value
    (problem,) = loaded.problems
    assert problem.endswith(f"? ({then})")


@pytest.mark.parametrize("name", ["POSTHOG_DISABLED", "posthog_disabled", "POSTHOG_OPT_OUT"])
def test_what_switches_other_products_off_switches_this_one_off(name):
    loaded = loader.load({name: "true"})
    assert loaded.disabled is True
    (problem,) = loaded.problems
    wanted = f"{name} is not a setting: did you mean POSTHOG_AUTOINSTRUMENT_DISABLED? (nothing is captured)"
    assert problem == wanted
    for harmless in ({name: "false"}, {name: "1", "POSTHOG_AUTOINSTRUMENT_DISABLED": "0"}):
        loaded = loader.load(harmless)
        assert (loaded.disabled, loaded.problems) == (False, ())


def test_a_misspelt_switch_that_is_off_switches_nothing():
    loaded = loader.load({"POSTHOG_AUTOINSTRUMENT_DISABLE": "0"})
    assert loaded.disabled is False
    assert len(loaded.problems) == 1


def test_a_hook_that_is_named_twice_is_used():
    names = {"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND": "hooks:scrub", "POSTHOG_AUTOINSTRUMENT_BEFORE_SENT": "hooks:scrub"}
    assert loader.load(names).before_send == "hooks:scrub"


def test_values_are_not_said():
    for name in ("POSTHOG_TOKEN", "POSTHOG_PROJECT_TOKN", "POSTHOG_AUTOINSTRUMENT_SECRET", "POSTHOG_PRIVACY"):
        assert "s3cret" not in str(loader.load({name: "s3cret"}).problems)


def test_a_program_is_told(run_program):
    ran = run_program(
        "from openai import OpenAI\n"
        "OpenAI().chat.completions.create(model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'secret'}])\n",
        env={"POSTHOG_PRIVACY": "1", "POSTHOG_PROJECT_TOKN": "phc_x"},
    )
    assert ran.stderr.splitlines() == [
        "posthog-autoinstrument: POSTHOG_PRIVACY is not a setting: did you mean POSTHOG_PRIVACY_MODE? "
        "(privacy mode is on)",
        "posthog-autoinstrument: POSTHOG_PROJECT_TOKN is not a setting: did you mean POSTHOG_PROJECT_TOKEN?",
    ]
    (event,) = ran.events
    assert event["properties"]["$ai_input"] is None


def test_a_program_with_a_placeholder_for_a_token_is_told_and_its_events_are_sent(run_program):
    ran = run_program(
        "from openai import OpenAI\n"
        "OpenAI().chat.completions.create(model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'hello'}])\n",
        env={"POSTHOG_PROJECT_TOKEN": "phc_..."},
    )
    (line,) = ran.stderr.splitlines()
    assert line.startswith("posthog-autoinstrument: POSTHOG_PROJECT_TOKEN does not look like a project token")
    assert len(ran.events) == 1
