"""Which project events go to, where the program says so late or in code; and what is said where nobody does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from support.programs import Ran, environment

import sitecustomize_template
from posthog_autoinstrument.core import diagnostics
from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

Run = Callable[..., Ran]
CALL = """
import os
import openai
import posthog_autoinstrument

def call(text="hi"):
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
"""


def lines(ran: Ran) -> list[str]:
    """What we said, without the launcher's line."""
    assert ran.returncode == 0, ran.stderr
    said = [line.removeprefix(diagnostics.PREFIX) for line in ran.stderr.splitlines()]
    return [line for line in said if "calls are kept in" not in line]


def sets(**variables: str) -> str:
    """What `load_dotenv()` does."""
    return f"os.environ.update({variables!r})\n"


def tokens(server: PostHogServer) -> set[str]:
    return {request.json()["api_key"] for request in server.requests}


@pytest.mark.parametrize("name", ["POSTHOG_PROJECT_TOKEN", "POSTHOG_API_KEY"])
@pytest.mark.parametrize("launched", [True, False])
def test_a_token_set_after_the_imports(
    run_program: Run, posthog_server: PostHogServer, tmp_path: Path, name: str, launched: bool
) -> None:
    by_hand = "" if launched else "posthog_autoinstrument.instrument()\n"
    late = sets(**{name: "phc_from_dotenv", "POSTHOG_HOST": posthog_server.url})
    ran = run_program(CALL + by_hand + late + "call()\n", launched=launched, token=False)
    assert lines(ran) == []
    assert len(ran.events) == 1
    assert tokens(posthog_server) == {"phc_from_dotenv"}
    assert not (tmp_path / "state").exists()


def test_other_settings_of_the_same_file(run_program: Run, posthog_server: PostHogServer) -> None:
    late = sets(
        POSTHOG_PRIVACY_MODE="1",
        POSTHOG_DISTINCT_ID="ada",
        POSTHOG_AUTOINSTRUMENT_BEFORE_SEND="program:mark",
        POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS="7",
    )
    hook = "def mark(event):\n    event['properties']['marked'] = True\n    return event\n"
    ran = run_program(CALL + hook + "call('before')\n" + late + "call('after')\n")
    assert lines(ran) == [
        "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS was set when it was too late for it; set it before the program starts"
    ]
    assert [event["distinct_id"] for event in ran.events] == ["ada", "ada"]
    for event in ran.events:
        assert event["properties"]["marked"] is True
        assert event["properties"]["$ai_input"] is None
        assert event["properties"]["$ai_output_choices"] is None


@pytest.mark.parametrize("spool", [True, False])
def test_settings_after_a_hook_in_code(run_program: Run, tmp_path: Path, spool: bool) -> None:
    """What makes events is there already then."""
    late = sets(
        POSTHOG_AUTOINSTRUMENT_DENY_HOSTS="127.0.0.1",
        POSTHOG_AUTOINSTRUMENT_SCRUB="iban",
        POSTHOG_AUTOINSTRUMENT_SUMMARY="1",
    )
    span = "with posthog_autoinstrument.posthog_span('step', properties={'iban': 'DE02120300000000202051'}): pass\n"
    env = {"POSTHOG_SPOOL": str(tmp_path / "spool")} if spool else {}
    hook = "posthog_autoinstrument.configure(before_send=lambda event: event)\n"
    ran = run_program(CALL + hook + late + "call()\n" + span, env=env)
    (line,) = lines(ran)
    assert line.startswith("no calls were captured in this process: 1 left out (1 by sampling or filters)")
    assert [event["properties"]["iban"] for event in ran.events] == ["[REDACTED]"]


def test_privacy_that_is_set_late_holds_for_the_spool(run_program: Run, tmp_path: Path) -> None:
    env = {"POSTHOG_SPOOL": str(tmp_path / "spool"), "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "60"}
    killed = run_program(
        CALL + sets(POSTHOG_PRIVACY_MODE="1") + "call('a made-up secret')\nos.kill(os.getpid(), 9)\n", env=env
    )
    assert (killed.returncode, killed.events) == (-9, [])
    files = list((tmp_path / "spool").iterdir())
    assert any(b"gpt-4o-mini" in file.read_bytes() for file in files)
    assert not any(b"made-up secret" in file.read_bytes() for file in files)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_what_is_refused_in_children_only_is_said_once(run_program: Run) -> None:
    """Workers are where an app is loaded, with its `load_dotenv()`."""
    worker = sets(POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE="often", POSTHOG_SPOOL="calls").rstrip()
    call = "openai.OpenAI().embeddings.create(model='text-embedding-3-small', input='x', posthog_groups='acme')"
    source = f"""
for _ in range(2):
    child = os.fork()
    if child == 0:
        {worker}
        {call}
        sys.exit()
    os.waitpid(child, 0)
"""
    assert sorted(lines(run_program("import sys\n" + CALL + source))) == [
        "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE is not accepted (wanted: a number from 0 to 1); the default is used",
        "POSTHOG_SPOOL was set when it was too late for it; set it before the program starts",
        "posthog_groups must be a mapping, not str; it is left out",
    ]


def test_a_late_switch(run_program: Run) -> None:
    ran = run_program(CALL + "call()\n" + sets(POSTHOG_AUTOINSTRUMENT_DISABLED="1") + "call()\n")
    assert (lines(ran), ran.events) == ([], [])


def test_a_token_that_comes_too_late_is_said_once(
    run_program: Run, posthog_server: PostHogServer, tmp_path: Path
) -> None:
    flush = "posthog_autoinstrument.flush(30)\n"
    late = sets(POSTHOG_PROJECT_TOKEN="phc_late", POSTHOG_HOST=posthog_server.url)
    ran = run_program(CALL + "call()\n" + flush + late + "call()\n" + flush + "call()\n", token=False)
    (line,) = lines(ran)
    assert line.startswith("a PostHog token was set when events had gone to the local store already")
    assert "posthog-instrument send" in line
    assert ran.events == []
    # Also where no call follows, and for another project.
    ran = run_program(CALL + "call()\n" + flush + late, token=False)
    assert len(lines(ran)) == 1
    ran = run_program(CALL + "call()\n" + flush + sets(POSTHOG_PROJECT_TOKEN="phc_other") + "call()\n")
    (line,) = lines(ran)
    assert line.startswith("another PostHog project was set when events had gone to http://127.0.0.1")
    assert len(ran.events) == 2


def test_a_variable_that_is_taken_away_again_counts(run_program: Run) -> None:
    ran = run_program(CALL + "for name in list(os.environ):\n    if 'POSTHOG' in name: del os.environ[name]\ncall()\n")
    assert (lines(ran), len(ran.events)) == ([], 1)


class TestWithoutAToken:
    SAID = "nothing is captured: POSTHOG_PROJECT_TOKEN is not set"

    def woken(
        self, tmp_path: Path, openai_server: OpenAIServer, source: str, **env: str
    ) -> subprocess.CompletedProcess[str]:
        folder = os.path.dirname(str(sitecustomize_template.__file__))
        environ = environment(openai_server, None, PYTHONPATH=folder, HOME=str(tmp_path), **env)
        return subprocess.run(
            [sys.executable, "-c", source],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    def test_woken_by_the_path_it_is_said_at_the_first_call(self, tmp_path: Path, openai_server: OpenAIServer) -> None:
        count = "import threading; print(threading.active_count())\n"
        ran = self.woken(tmp_path, openai_server, CALL + "call()\ncall()\n" + count)
        assert ran.stdout == "1\n"
        (line,) = ran.stderr.splitlines()
        assert line.startswith(diagnostics.PREFIX + self.SAID)
        assert self.woken(tmp_path, openai_server, CALL).stderr == ""
        off = {"POSTHOG_AUTOINSTRUMENT_DISABLED": "1"}
        assert self.woken(tmp_path, openai_server, CALL + "call()\n", **off).stderr == ""

    def test_woken_by_the_path_a_late_token_is_found(
        self, tmp_path: Path, openai_server: OpenAIServer, posthog_server: PostHogServer
    ) -> None:
        late = sets(POSTHOG_PROJECT_TOKEN="phc_late", POSTHOG_HOST=posthog_server.url)
        assert self.woken(tmp_path, openai_server, CALL + late + "call()\ncall()\n").stderr == ""
        assert len(posthog_server.events) == 2

    @pytest.mark.parametrize("how", ["import posthog_autoinstrument.auto\n", "posthog_autoinstrument.instrument()\n"])
    def test_by_hand(self, run_program: Run, tmp_path: Path, how: str) -> None:
        ran = run_program(CALL + how + "call()\nposthog_autoinstrument.flush(9)\ncall()\n", launched=False, token=False)
        (line,) = lines(ran)
        assert line.startswith(self.SAID)
        assert not (tmp_path / "state").exists()

    def test_by_hand_a_token_may_come_after_that(self, run_program: Run, posthog_server: PostHogServer) -> None:
        late = sets(POSTHOG_PROJECT_TOKEN="phc_late", POSTHOG_HOST=posthog_server.url)
        early = "posthog_autoinstrument.instrument()\ncall('lost')\nposthog_autoinstrument.flush(9)\n"
        ran = run_program(CALL + early + late + "call('sent')\n", launched=False, token=False)
        assert len(lines(ran)) == 1
        (event,) = ran.events
        assert event["properties"]["$ai_input"][0]["content"] == "sent"


class TestArguments:
    def test_token_and_host(self, run_program: Run, posthog_server: PostHogServer) -> None:
        how = f"posthog_autoinstrument.instrument(token='phc_in_code', host={posthog_server.url!r})\n"
        ran = run_program(CALL + how + "call()\n", launched=False, token=False)
        assert (lines(ran), len(ran.events)) == ([], 1)
        assert tokens(posthog_server) == {"phc_in_code"}

    def test_they_come_before_the_environment(self, run_program: Run, posthog_server: PostHogServer) -> None:
        env = {"POSTHOG_PROJECT_TOKEN": "phc_in_environment"}
        ran = run_program(CALL + "posthog_autoinstrument.instrument(token='phc_in_code')\ncall()\n", env=env)
        assert (lines(ran), len(ran.events)) == ([], 1)
        assert tokens(posthog_server) == {"phc_in_code"}

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                "token='phx_personal_key_123456'",
                "instrument(token=...) is not accepted (wanted: a project token",
            ),
            ("token=12", "instrument(token=...) is not accepted (wanted: a project token"),
            ("host='ftp://user:pw@example.com'", "instrument(host=...) is not accepted"),
        ],
    )
    def test_what_is_not_accepted_is_named(self, run_program: Run, arguments: str, said: str) -> None:
        ran = run_program(CALL + f"posthog_autoinstrument.instrument({arguments})\ncall()\n", launched=False)
        (line,) = lines(ran)
        assert line.startswith(said)
        assert len(ran.events) == 1

    def test_once_events_have_gone_it_is_too_late(self, run_program: Run, posthog_server: PostHogServer) -> None:
        source = "call()\nposthog_autoinstrument.flush(30)\nposthog_autoinstrument.instrument(token='phc_2')\ncall()\n"
        ran = run_program(CALL + source)
        (line,) = lines(ran)
        assert line.startswith("another PostHog project was set")
        assert len(ran.events) == 2


class TestHosts:
    """What is said of a host that cannot be reached names the cause and what to change."""

    QUICK: ClassVar = {"POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S": "5"}

    def test_without_a_scheme(self, run_program: Run, posthog_server: PostHogServer) -> None:
        place = posthog_server.url.partition("://")[2]
        said = lines(run_program(CALL + "call()\n", env={"POSTHOG_HOST": place, **self.QUICK}))
        assert f"POSTHOG_HOST names no scheme, so https:// was added: write http://{place}, if" in str(said)

    def test_with_a_path(self, run_program: Run, posthog_server: PostHogServer) -> None:
        env = {"POSTHOG_HOST": posthog_server.url + "/capture/", **self.QUICK}
        said = lines(run_program(CALL + "call()\n", env=env))
        assert "POSTHOG_HOST has a path, /capture: leave the path out" in str(said)

    @pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    def test_behind_a_dead_proxy(self, run_program: Run, variable: str) -> None:
        env = {"NO_PROXY": "127.0.0.1", "POSTHOG_HOST": "http://posthog.test", "POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP": "1"}
        said = lines(run_program(CALL + "call()\n", env={**env, variable: "http://user:pw@127.0.0.1:1", **self.QUICK}))
        assert f"the proxy 127.0.0.1:1 of {variable} does not answer: correct {variable}" in str(said)
        assert "pw@" not in str(said)


def test_what_waits_in_the_spool_for_a_project_is_delivered_when_there_is_one(
    run_program: Run, tmp_path: Path, posthog_server: PostHogServer
) -> None:
    late = sets(POSTHOG_PROJECT_TOKEN="phc_late", POSTHOG_HOST=posthog_server.url)
    ran = run_program(
        "import posthog_autoinstrument\nposthog_autoinstrument.instrument()\n"
        + CALL
        + "call()\nposthog_autoinstrument.flush(9)\n"
        + late
        + "call()\nprint(posthog_autoinstrument.flush(30))\n",
        launched=False,
        token=False,
        env={"POSTHOG_SPOOL": str(tmp_path / "spool")},
    )
    assert len(posthog_server.wait_for(2)) == 2, ran.stderr
    assert "too late" not in ran.stderr
