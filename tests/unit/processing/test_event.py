"""For every call that PostHog's own wrapper captures, our event says the same: names, values and shapes.

Each exchange runs through `posthog.ai.openai` (posthog 7.91.1) and through the plain client of this instrumented
process; their two events, as they went over the wire, differ in nothing but what `differential.wanted` lists.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import posthog
import posthog.ai.openai
import pytest
from support.calls import COMPLETIONS
from support.programs import TOKEN

pytest.importorskip("openai.types.responses", reason="the wrapper of posthog needs the responses of a newer openai")

from support.differential import ABSENT, Case, differences, normalised, run, without_nulls
from support.differential.answers import CHAT_USAGE, chat, ended, response_events, stream
from support.differential.cases import CANCELLED, CASES, HELLO_DELTAS, asking, prompting
from support.differential.wanted import WANTED

import posthog_autoinstrument
from posthog_autoinstrument.testing import Answer, OpenAIServer, PostHogServer

Compared = dict[str, tuple[Any, Any]]
"""Property -> (the wrapper's value, ours), of those that differ."""

CLIENTS: dict[tuple[bool, bool], tuple[Any, Any]] = {
    (False, False): (posthog.ai.openai.OpenAI, openai.OpenAI),
    (False, True): (posthog.ai.openai.AsyncOpenAI, openai.AsyncOpenAI),
    (True, False): (posthog.ai.openai.AzureOpenAI, openai.AzureOpenAI),
    (True, True): (posthog.ai.openai.AsyncAzureOpenAI, openai.AsyncAzureOpenAI),
}
"""(Azure, async) -> the wrapper's client and the SDK's own."""


@pytest.fixture(scope="module")
def wrapper_server() -> Iterator[PostHogServer]:
    """Where the wrapper's events go."""
    with PostHogServer() as server:
        yield server


@pytest.fixture(scope="module")
def posthog_client(wrapper_server: PostHogServer) -> Iterator[posthog.Client]:
    client = posthog.Client(TOKEN, host=wrapper_server.url, sync_mode=True)
    yield client
    client.shutdown()


@pytest.fixture
def ours(posthog_events: Callable[[], list[dict[str, Any]]]) -> Callable[[], list[dict[str, Any]]]:
    """The events that the agent has delivered since the last time."""
    assert posthog_autoinstrument.flush(10)
    seen = len(posthog_events())

    def read() -> list[dict[str, Any]]:
        nonlocal seen
        assert posthog_autoinstrument.flush(10)
        found = posthog_events()[seen:]
        seen += len(found)
        return found

    return read


@pytest.fixture
def theirs(wrapper_server: PostHogServer) -> Callable[[], list[dict[str, Any]]]:
    """The events that the wrapper has sent since the last time."""
    seen = len(wrapper_server.events)

    def read() -> list[dict[str, Any]]:
        nonlocal seen
        found = wrapper_server.events[seen:]
        seen += len(found)
        return found

    return read


def bodies(server: OpenAIServer) -> list[Any]:
    """The bodies of the requests that the server got, which are then forgotten."""
    found = [json.loads(request.body) for request in server.requests]
    server.requests.clear()
    return found


@pytest.fixture
def compare(openai_server, posthog_client, theirs, ours) -> Callable[[Case, bool], Compared]:
    """`compare(case, is_async)`: the case run through both, each captured by its own side alone."""

    def run_both(case: Case, is_async: bool) -> Compared:
        wrapper, plain = CLIENTS[case.azure, is_async]
        run(case, wrapper, openai_server, posthog_client=posthog_client)
        (their_event,) = theirs()
        assert ours() == [], "a call that the wrapper captures was captured again"
        their_bodies = bodies(openai_server)
        run(case, plain, openai_server)
        (our_event,) = ours()
        assert theirs() == []
        assert our_event["properties"]["$ai_stream"] is case.stream
        return differences(
            normalised(their_event, their_bodies, case), normalised(our_event, bodies(openai_server), case)
        )

    return run_both


def assert_as_wanted(case: Case, found: Compared) -> None:
    """Every difference is one that is wanted in this case, and every one that is wanted in it shows."""
    shown: dict[str, set[str]] = {}
    for name, wanted in WANTED.items():
        if name in case.wanted or (wanted.always is not None and wanted.always(case)):
            shown[name] = {key for key in wanted.keys if key in found and wanted.shows(*found[key])}
            missing = set() if wanted.rare or (wanted.optional and shown[name]) else {*wanted.keys} - shown[name]
            assert not missing, f"{name}: shows no longer, or differently: { {key: found.get(key) for key in missing} }"
    explained: set[str] = set().union(*shown.values())
    assert {key: pair for key, pair in found.items() if key not in explained} == {}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_events_differ_only_as_wanted(case: Case, is_async: bool, compare):
    assert_as_wanted(case, compare(case, is_async))


@pytest.mark.parametrize("case", CANCELLED, ids=lambda case: case.name)
def test_cancelled_tasks(case: Case, compare):
    assert_as_wanted(case, compare(case, True))


class TestTheListIsTrue:
    def test_every_difference_has_a_case(self):
        cases = (*CASES, *CANCELLED)
        assert {name for case in cases for name in case.wanted} == {
            name for name, wanted in WANTED.items() if wanted.always is None
        }
        assert len({case.name for case in cases}) == len(cases)

    def test_another_difference_fails(self, compare):
        case = next(case for case in CASES if case.name == "chat: text")
        found = compare(case, False)
        assert_as_wanted(case, found)
        for key, pair in (("$ai_input_tokens", (12, 12.0)), ("plan", ("pro", ABSENT)), ("new", (ABSENT, None))):
            with pytest.raises(AssertionError):
                assert_as_wanted(case, {**found, key: pair})

    def test_a_listed_difference_that_is_gone_fails(self, compare):
        case = next(case for case in CASES if case.name == "chat: dated model")
        found = compare(case, False)
        for key in ("$ai_model", "$ai_span_id", "$ai_lib"):
            with pytest.raises(AssertionError, match="shows no longer"):
                assert_as_wanted(case, {name: pair for name, pair in found.items() if name != key})

    def test_usage_nulls(self, openai_server, posthog_client, theirs):
        """`normalised` leaves them out: the wrapper dumps the SDK's model, ours is what the provider said."""
        case = next(case for case in CASES if case.name == "chat: text")
        run(case, posthog.ai.openai.OpenAI, openai_server, posthog_client=posthog_client)
        (event,) = theirs()
        assert without_nulls(event["properties"]["$ai_usage"]) == CHAT_USAGE != event["properties"]["$ai_usage"]


UNSEEN: dict[str, tuple[Callable[[Any], Any], Answer]] = {
    "raw response": (lambda client: client.chat.completions.with_raw_response.create(**asking()), chat()),
    "streaming response": (
        lambda client: _entered(client.chat.completions.with_streaming_response.create(**asking())).read(),
        chat(),
    ),
    "stream helper": (
        lambda client: _entered(client.chat.completions.stream(**asking())).until_done(),
        stream(*HELLO_DELTAS),
    ),
    "stream helper of responses": (
        lambda client: _entered(client.responses.stream(**prompting())).until_done(),
        response_events(ended("completed")),
    ),
    "legacy completions": (
        lambda client: client.completions.create(**COMPLETIONS.arguments),
        chat(choices=[{"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": None}], object="text_completion"),
    ),
    "the client's own post": (
        lambda client: client.post("/chat/completions", body=asking(), cast_to=object),
        chat(),
    ),
}
"""Calls that go through the wrapper's client and that it does not capture: name -> (call, answer)."""


def _entered(manager: Any) -> Any:
    """What a `with` block gives; it is left when the test ends."""
    stack = contextlib.ExitStack()
    return stack.enter_context(manager)


@pytest.mark.parametrize("name", UNSEEN)
def test_calls_that_the_wrapper_does_not_see_are_there(name: str, openai_server, posthog_client, theirs, ours):
    call, answer = UNSEEN[name]
    openai_server.script(answer)
    client = posthog.ai.openai.OpenAI(
        posthog_client=posthog_client, base_url=openai_server.base_url, api_key="sk-test", max_retries=0
    )
    with client:
        call(client)
        (event,) = ours()
    assert theirs() == [], "the wrapper sees it now: it belongs to the cases"
    found = event["properties"]
    assert found["$ai_output_choices"][0]["content"][0]["text"] in ("Hello there.", "Hi")
    assert found["$ai_input"] == [{"role": "user", "content": "Hello"}]
    assert found["$ai_http_status"] == 200
