"""Spans that the program names, their trees, feedback and metrics, sessions."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import fractions
import gc
import threading
import uuid
import weakref
from typing import Any

import pytest
from support import calls

import posthog_autoinstrument
from posthog_autoinstrument import (
    capture_feedback,
    capture_metric,
    current_trace_id,
    posthog_context,
    posthog_span,
    set_session,
)

CHAT = calls.CHAT.arguments


def named(events: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The properties of the one event that is called so."""
    (found,) = [event["properties"] for event in events if event["properties"].get("$ai_span_name") == name]
    return found


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event["properties"] for event in events if event["event"] == kind]


class TestBlocks:
    def test_a_tree_of_spans_and_calls(self, client, captured, trace):
        with posthog_span("answer", "chain") as outer:
            outer.set_input({"question": "Why?"})
            with posthog_span("retrieve", "tool", properties={"index": "docs"}) as inner:
                client.embeddings.create(model="text-embedding-3-small", input="Why?")
                inner.set_output(["a document"])
                inner.set_property("hits", 3)
            client.chat.completions.create(**CHAT)
            outer.set_output("Because.")
        client.chat.completions.create(**CHAT)
        events = captured(5)
        answer, retrieve = named(events, "answer"), named(events, "retrieve")
        (embedding,) = of_kind(events, "$ai_embedding")
        inside, after = of_kind(events, "$ai_generation")
        assert {event["event"] for event in events} == {"$ai_span", "$ai_embedding", "$ai_generation"}
        assert answer["$ai_span_id"] == outer.id
        assert answer["$ai_span_type"] == "chain"
        assert "$ai_parent_id" not in answer
        assert answer["$ai_input_state"] == {"question": "Why?"}
        assert answer["$ai_output_state"] == "Because."
        assert answer["$ai_latency"] >= retrieve["$ai_latency"] > 0
        assert retrieve["$ai_parent_id"] == outer.id
        assert retrieve["$ai_output_state"] == ["a document"]
        assert (retrieve["index"], retrieve["hits"]) == ("docs", 3)
        assert "$ai_input_state" not in retrieve
        assert embedding["$ai_parent_id"] == inner.id
        assert inside["$ai_parent_id"] == outer.id
        assert "index" not in inside
        assert "$ai_parent_id" not in after
        assert {event["properties"]["$ai_trace_id"] for event in events} == {trace} == {outer.trace_id}

    def test_a_span_carries_the_user_of_its_context(self, captured, trace):
        user = posthog_context(distinct_id="u1", session_id="s1", properties={"plan": "pro"}, groups={"company": "a"})
        with user, posthog_span("step"):
            pass
        (event,) = captured(1)
        assert event["distinct_id"] == "u1"
        found = event["properties"]
        assert found["$ai_session_id"] == "s1"
        assert found["plan"] == "pro"
        assert found["$groups"] == {"company": "a"}
        assert "$process_person_profile" not in found

    def test_without_a_context_the_outermost_span_begins_a_trace(self, client, posthog_events):
        with posthog_span("alone") as span:
            assert current_trace_id() == span.trace_id
            client.chat.completions.create(**CHAT)
        assert current_trace_id() is None
        assert posthog_autoinstrument.flush(10)
        events = [event for event in posthog_events() if event["properties"].get("$ai_trace_id") == span.trace_id]
        assert sorted(event["event"] for event in events) == ["$ai_generation", "$ai_span"]

    def test_the_outermost_names_the_trace(self, captured, trace):
        with posthog_span("turn", trace=True) as turn:
            turn.set_input("in")
            with posthog_span("inner", trace=True):
                pass
            turn.set_output("out")
        events = captured(3)
        (of_trace,) = of_kind(events, "$ai_trace")
        assert of_trace["$ai_span_name"] == "turn"
        assert of_trace["$ai_trace_id"] == trace
        assert of_trace["$ai_input_state"] == "in"
        assert of_trace["$ai_output_state"] == "out"
        assert not {"$ai_latency", "$ai_parent_id", "$ai_span_id"} & set(of_trace)
        assert len({event["uuid"] for event in events}) == 3

    def test_an_exception_leaves_and_is_recorded(self, captured):
        with pytest.raises(KeyError, match="lost"), posthog_span("breaks"):
            raise KeyError("lost")
        (event,) = captured(1)
        assert event["properties"]["$ai_is_error"] is True
        assert event["properties"]["$ai_error"] == "'lost'"

    def test_values_are_taken_when_they_are_given(self, captured):
        value = {"a": [1]}
        with posthog_span("step") as span:
            span.set_input(value)
            value["a"].append(2)
        (event,) = captured(1)
        assert event["properties"]["$ai_input_state"] == {"a": [1]}

    def test_private_spans_say_nothing(self, captured):
        with posthog_context(privacy_mode=True), contextlib.suppress(ValueError), posthog_span("step") as span:
            span.set_input("a secret")
            span.set_output("another")
            raise ValueError("a third")
        (event,) = captured(1)
        found = event["properties"]
        assert found["$ai_input_state"] is None
        assert found["$ai_output_state"] is None
        assert found["$ai_error"] == "ValueError"
        assert "secret" not in str(event)

    def test_states_are_redacted_like_prompts(self, captured):
        picture = "data:image/png;base64," + "iVBORw0KGgo" * 40
        with posthog_span("step") as span:
            span.set_input(
                {"picture": picture, "headers": {"Authorization": "Bearer abc.def.ghi"}, "key": "sk-" + "a" * 30}
            )
        (event,) = captured(1)
        shown = str(event["properties"]["$ai_input_state"])
        assert "base64 image redacted" in shown
        assert "iVBOR" not in shown
        assert "abc.def" not in shown
        assert "sk-aaa" not in shown

    def test_one_object_nests_and_runs_in_threads(self, captured, trace):
        step = posthog_span("step")

        def work() -> None:
            with posthog_context(trace_id=trace), step, step:
                pass

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events = captured(16)
        parents = [event["properties"].get("$ai_parent_id") for event in events]
        ids = {event["properties"]["$ai_span_id"] for event in events}
        assert parents.count(None) == 8
        assert {parent for parent in parents if parent} < ids

    def test_another_trace_inside_is_not_below_the_span(self, client, posthog_events):
        other = str(uuid.uuid4())
        with posthog_span("outer") as outer, posthog_context(trace_id=other):
            client.chat.completions.create(**CHAT)
        with posthog_span("outer"):
            client.chat.completions.create(**CHAT, posthog_trace_id=other)
        assert posthog_autoinstrument.flush(10)
        found = [event["properties"] for event in posthog_events() if event["properties"].get("$ai_trace_id") == other]
        assert len(found) == 2
        assert not any("$ai_parent_id" in one for one in found), outer.id

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"name": ""}, "name must not be empty"),
            ({"name": "a", "properties": [1]}, "properties must be a mapping, not list"),
        ],
    )
    def test_wrong_arguments(self, arguments, said):
        with pytest.raises(TypeError, match=said):
            posthog_span(**arguments)


class TestDecorated:
    def test_a_function(self, client, captured):
        @posthog_span("add", "tool")
        def add(a: int, b: int = 2) -> int:
            """Adds."""
            client.chat.completions.create(**CHAT)
            return a + b

        assert add(1) == 3
        assert (add.__name__, add.__doc__) == ("add", "Adds.")
        events = captured(2)
        span = named(events, "add")
        assert span["$ai_input_state"] == {"a": 1}
        assert span["$ai_output_state"] == 3
        assert of_kind(events, "$ai_generation")[0]["$ai_parent_id"] == span["$ai_span_id"]

    def test_a_method_leaves_its_object_out(self, captured):
        class Thing:
            @posthog_span("do")
            def do(self, what: str) -> None:
                """Nothing."""

        Thing().do("x")
        (event,) = captured(1)
        assert event["properties"]["$ai_input_state"] == {"what": "x"}
        assert event["properties"]["$ai_output_state"] is None

    def test_nothing_is_captured_that_is_not_to_be(self, captured):
        @posthog_span("quiet", capture_input=False, capture_output=False)
        def quiet(secret: str) -> str:
            return secret

        quiet("hidden")
        (event,) = captured(1)
        assert not {"$ai_input_state", "$ai_output_state"} & set(event["properties"])

    def test_arguments_that_do_not_fit(self, captured):
        @posthog_span("one")
        def one(a: int) -> None: ...

        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            one()  # type: ignore[call-arg]
        (event,) = captured(1)
        assert event["properties"]["$ai_is_error"] is True

    def test_a_coroutine_and_tasks(self, captured, trace):
        @posthog_span("task")
        async def task(n: int) -> int:
            await asyncio.sleep(0)
            with posthog_span(f"inner-{n}"):
                await asyncio.sleep(0)
            return n

        async def main() -> list[int]:
            with posthog_span("main"):
                return await asyncio.gather(*(task(n) for n in range(20)))

        assert asyncio.run(main()) == list(range(20))
        events = captured(41)
        tasks = {
            event["properties"]["$ai_input_state"]["n"]: event["properties"]
            for event in events
            if event["properties"]["$ai_span_name"] == "task"
        }
        for n in range(20):
            assert named(events, f"inner-{n}")["$ai_parent_id"] == tasks[n]["$ai_span_id"]
            assert tasks[n]["$ai_parent_id"] == named(events, "main")["$ai_span_id"]
            assert tasks[n]["$ai_output_state"] == n

    def test_a_cancelled_coroutine(self, captured):
        @posthog_span("waits")
        async def waits() -> None:
            await asyncio.sleep(60)

        async def main() -> None:
            task = asyncio.create_task(waits())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(main())
        (event,) = captured(1)
        assert event["properties"]["$ai_error"] == "cancelled"

    def test_a_generator(self, client, captured):
        @posthog_span("count")
        def count(n: int):
            for i in range(n):
                client.chat.completions.create(**CHAT)
                yield i
            return "end"

        def outer():
            return (yield from count(2))

        seen = []
        for item in outer():
            seen.append(item)
            client.chat.completions.create(**CHAT)  # between two steps: not inside
        assert seen == [0, 1]
        events = captured(5)
        span = named(events, "count")
        assert span["$ai_output_state"] == [0, 1]
        parents = [found.get("$ai_parent_id") for found in of_kind(events, "$ai_generation")]
        assert sorted(parents, key=str) == sorted([span["$ai_span_id"]] * 2 + [None] * 2, key=str)

    def test_a_generator_that_is_closed_early(self, captured):
        closed = []

        @posthog_span("count")
        def count():
            try:
                yield from range(10)
            finally:
                closed.append(True)

        steps = count()
        next(steps)
        steps.close()
        (event,) = captured(1)
        assert closed == [True]
        assert event["properties"]["$ai_output_state"] == [0]
        assert "$ai_is_error" not in event["properties"]

    def test_an_asynchronous_generator(self, captured):
        @posthog_span("letters")
        async def letters(text: str):
            for letter in text:
                await asyncio.sleep(0)
                yield letter

        async def main() -> str:
            return "".join([letter async for letter in letters("abc")])

        assert asyncio.run(main()) == "abc"
        (event,) = captured(1)
        assert event["properties"]["$ai_output_state"] == ["a", "b", "c"]

    def test_an_asynchronous_generator_that_fails(self, captured):
        @posthog_span("letters")
        async def letters():
            yield "a"
            raise OSError("gone")

        async def main() -> None:
            async for _ in letters():
                pass

        with pytest.raises(OSError, match="gone"):
            asyncio.run(main())
        (event,) = captured(1)
        assert event["properties"]["$ai_output_state"] == ["a"]
        assert event["properties"]["$ai_error"] == "gone"

    def test_hostile_values(self, captured):
        class Hostile:
            def __repr__(self) -> str:
                raise RuntimeError("no")

        @posthog_span("hostile")
        def hostile(value: Any) -> Any:
            return value

        loop: list[Any] = []
        loop.append(loop)
        for value in (Hostile(), loop, float("nan"), "\ud800", b"bytes", {1: 2}, "x" * 1_000_000):
            assert hostile(value) is value
        assert len(captured(7)) == 7


class TestBounds:
    """What a step costs: its own size never."""

    def test_what_has_no_room_is_not_looked_at(self, captured):
        class Counted:
            looks = 0

            def __repr__(self) -> str:
                Counted.looks += 1
                return "<counted>"

        @posthog_span("large", capture_output=False)
        def large(rows, nested, mapping):
            return None

        one = Counted()
        large([one] * 1_000_000, {"rows": [[one]] * 1_000_000}, dict.fromkeys(range(1_000_000), one))
        assert 0 < Counted.looks <= 10_000
        (event,) = captured(1)
        rows = event["properties"]["$ai_input_state"]["rows"]
        assert rows[0] == "<counted>"
        assert rows[-1] == f"... [{1_000_000 - len(rows) + 1} items truncated]"

    def test_numbers_texts_and_lists_in_lists(self, captured):
        with posthog_span("large") as span:
            span.set_input({"numbers": list(range(5_000_000)), "lists": [[1.5] * 1_000_000] * 1_000})
            span.set_output({"texts": ["x" * 1_000_000] * 50, "after": 1})
        (event,) = captured(1)
        numbers = event["properties"]["$ai_input_state"]["numbers"]
        assert numbers[:3] == [0, 1, 2]
        assert numbers[-1] == f"... [{5_000_000 - len(numbers) + 1} items truncated]"
        text = event["properties"]["$ai_output_state"]["texts"][0]
        kept = text.partition("...")[0]
        assert text == f"{kept}... [{1_000_000 - len(kept)} characters truncated]"
        assert set(kept) == {"x"}
        assert event["properties"]["$ai_output_state"]["..."] == "[1 items truncated]"

    def test_nothing_of_a_span_stays_for_the_collector(self, captured):
        @posthog_span("decorated")
        def decorated(value):
            return value

        gc.collect()
        gc.disable()
        try:
            spans = []
            for _ in range(5):
                with posthog_span("outer"), posthog_span("s") as span:
                    span.set_input("x" * 1_000)
                    spans.append(weakref.ref(span))
                decorated("x")
            with contextlib.suppress(KeyError), posthog_span("failing") as span:
                spans.append(weakref.ref(span))
                raise KeyError
            del span
            captured(16)
            assert [one() for one in spans] == [None] * 6
        finally:
            gc.enable()


class TestRemarks:
    def test_feedback_and_metrics(self, captured, trace):
        with posthog_context(distinct_id="u1"):
            capture_feedback("Good answer")
            capture_metric("score", 0.5)
            capture_metric("verdict", "good")
            capture_metric("solved", True)
        events = captured(4)
        (feedback,) = of_kind(events, "$ai_feedback")
        assert feedback["$ai_feedback_text"] == "Good answer"
        assert feedback["$ai_trace_id"] == trace
        metrics = {found["$ai_metric_name"]: found["$ai_metric_value"] for found in of_kind(events, "$ai_metric")}
        assert metrics == {"score": 0.5, "verdict": "good", "solved": True}
        assert {event["distinct_id"] for event in events} == {"u1"}

    def test_of_another_trace(self, posthog_events):
        earlier = str(uuid.uuid4())
        capture_feedback("Late", trace_id=earlier)
        assert posthog_autoinstrument.flush(10)
        (found,) = [event for event in posthog_events() if event["properties"].get("$ai_trace_id") == earlier]
        assert found["event"] == "$ai_feedback"

    def test_numbers_of_other_kinds(self, captured):
        for value in (decimal.Decimal("0.5"), fractions.Fraction(1, 2)):
            capture_metric("score", value)
        assert [found["$ai_metric_value"] for found in of_kind(captured(2), "$ai_metric")] == [0.5, 0.5]

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda: capture_feedback(3),
            lambda: capture_metric("", 1),
            lambda: capture_metric("a", [1]),
        ],
    )
    def test_wrong_arguments(self, wrong):
        with pytest.raises(TypeError, match="must be"):
            wrong()


class TestSessions:
    def test_for_the_rest_of_a_block(self, client, captured):
        with posthog_context():
            client.chat.completions.create(**CHAT)
            set_session("chat-7")
            client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
        sessions = [event["properties"].get("$ai_session_id") for event in captured(3)]
        assert sessions == [None, "chat-7", None]


class TestPrograms:
    def test_spans_without_any_sdk(self, run_program):
        ran = run_program(
            """
            from posthog_autoinstrument import posthog_span, capture_feedback
            with posthog_span("alone") as span:
                span.set_output(1)
                capture_feedback("fine")
            """
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert sorted(event["event"] for event in ran.events) == ["$ai_feedback", "$ai_span"]

    def test_without_the_launcher_spans_only_run_what_is_inside(self, run_program):
        ran = run_program(
            """
            from posthog_autoinstrument import posthog_span
            @posthog_span("alone")
            def double(n):
                return 2 * n
            print(double(2))
            """,
            launched=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr, ran.events) == (0, "4\n", "", [])

    def test_switched_off(self, run_program):
        ran = run_program(
            """
            import openai
            from posthog_autoinstrument import posthog_span
            with posthog_span("alone") as span:
                span.set_output(1)
            print("ran")
            """,
            env={"POSTHOG_AUTOINSTRUMENT_DISABLED": "1"},
        )
        assert (ran.stdout, ran.events) == ("ran\n", [])

    def test_spans_survive_in_the_spool(self, run_program, tmp_path):
        source = """
            import os
            from posthog_autoinstrument import posthog_span, capture_metric
            with posthog_span("kept", "tool", trace=True) as span:
                span.set_input({"q": "é"})
                span.set_output([1, 2])
                capture_metric("score", 1)
            os.kill(os.getpid(), 9)
            """
        environ = {"POSTHOG_SPOOL": str(tmp_path / "spool")}
        assert run_program(source, env=environ).events == []
        ran = run_program("import openai; openai.OpenAI().embeddings.create(model='m', input='x')", env=environ)
        kinds = sorted(event["event"] for event in ran.events)
        assert kinds == ["$ai_embedding", "$ai_metric", "$ai_span", "$ai_trace"]
        (span,) = of_kind(ran.events, "$ai_span")
        assert span["$ai_input_state"] == {"q": "é"}
        assert span["$ai_output_state"] == [1, 2]
