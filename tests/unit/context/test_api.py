"""Who asked, in which trace: `posthog_context`, per-call arguments, the posthog package's context, the environment."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import decimal
import enum
import inspect
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from support.features import has, needs

import posthog_autoinstrument
from posthog_autoinstrument import capture_feedback, current_trace_id, posthog_context, posthog_span, set_session

CHAT: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def one(client, captured, posthog_events):
    """`one(**arguments)`: make a call and return its event."""

    def call(**arguments: Any) -> dict[str, Any]:
        before = {event["uuid"] for event in posthog_events()}
        client.chat.completions.create(**CHAT, **arguments)
        assert posthog_autoinstrument.flush(10)
        (event,) = [event for event in posthog_events() if event["uuid"] not in before]
        return event

    return call


@pytest.mark.basics
class TestBlocks:
    def test_every_field(self, one):
        with posthog_context(
            distinct_id="u1",
            trace_id="t1",
            session_id="s1",
            properties={"plan": "pro", "n": 3},
            groups={"company": "acme"},
            parent_id="p1",
            span_name="greet",
            provider="my-gateway",
        ):
            event = one()
        found = event["properties"]
        assert event["distinct_id"] == "u1"
        assert found["$ai_trace_id"] == "t1"
        assert found["$ai_session_id"] == "s1"
        assert found["plan"] == "pro"
        assert found["n"] == 3
        assert found["$groups"] == {"company": "acme"}
        assert found["$ai_parent_id"] == "p1"
        assert found["$ai_span_name"] == "greet"
        assert found["$ai_provider"] == "my-gateway"
        assert "$process_person_profile" not in found

    def test_inner_blocks_win_and_properties_merge(self, one):
        with posthog_context(distinct_id="outer", properties={"a": 1, "b": 1}, groups={"g": "1", "h": "1"}):
            outer_trace = current_trace_id()
            with posthog_context(distinct_id="inner", properties={"b": 2, "c": 2}, groups={"h": "2"}):
                event = one()
            after = one()
        assert event["distinct_id"] == "inner"
        assert event["properties"]["$ai_trace_id"] == outer_trace
        assert {key: event["properties"][key] for key in "abc"} == {"a": 1, "b": 2, "c": 2}
        assert event["properties"]["$groups"] == {"g": "1", "h": "2"}
        assert after["distinct_id"] == "outer"
        assert "c" not in after["properties"]

    def test_calls_in_one_block_share_its_trace(self, one):
        with posthog_context(distinct_id="u"):
            first, second = one(), one()
        assert first["properties"]["$ai_trace_id"] == second["properties"]["$ai_trace_id"]

    def test_calls_outside_of_any_block_have_a_trace_each(self, client, posthog_events):
        def calls() -> None:
            client.chat.completions.create(**CHAT, user="outside")
            client.chat.completions.create(**CHAT, user="outside")

        contextvars.Context().run(calls)
        assert posthog_autoinstrument.flush(10)
        first, second = posthog_events()[-2:]
        for event in (first, second):
            assert event["distinct_id"] == event["properties"]["$ai_trace_id"]
            assert event["properties"]["$process_person_profile"] is False
        assert first["properties"]["$ai_trace_id"] != second["properties"]["$ai_trace_id"]

    def test_later_mutation_changes_nothing(self, one):
        properties = {"list": [1]}
        with posthog_context(properties=properties):
            properties["list"].append(2)
            properties["new"] = 1
            event = one()
        assert event["properties"]["list"] == [1]
        assert "new" not in event["properties"]

    def test_an_exception_leaves_through_the_block_and_closes_it(self):
        before = current_trace_id()
        with pytest.raises(KeyError), posthog_context(trace_id="x"):
            raise KeyError
        assert current_trace_id() == before

    def test_one_object_may_be_entered_many_times(self):
        context = posthog_context(trace_id="x")
        before = current_trace_id()
        with context, context:
            assert current_trace_id() == "x"
        assert current_trace_id() == before


class TestDecorators:
    def test_functions_and_coroutines(self):
        @posthog_context(trace_id="f")
        def function(a: int, *, b: int = 2) -> Any:
            """Doc."""
            return current_trace_id(), a, b

        @posthog_context(trace_id="c")
        async def coroutine() -> Any:
            await asyncio.sleep(0)
            return current_trace_id()

        before = current_trace_id()
        assert function(1, b=3) == ("f", 1, 3)
        assert function.__doc__ == "Doc."
        assert str(inspect.signature(function)) == "(a: int, *, b: int = 2) -> Any" or inspect.signature(function)
        assert inspect.iscoroutinefunction(coroutine)
        assert asyncio.run(coroutine()) == "c"
        assert current_trace_id() == before

    def test_each_call_of_a_decorated_function_is_a_trace(self):
        @posthog_context(distinct_id="u")
        def function() -> Any:
            return current_trace_id()

        assert contextvars.Context().run(lambda: function() != function())

    def test_generators_keep_their_context_to_themselves(self):
        @posthog_context(trace_id="g")
        def generator() -> Any:
            received = yield current_trace_id()
            yield received, current_trace_id()
            return "end"

        before = current_trace_id()
        running = generator()
        assert inspect.isgeneratorfunction(generator)
        assert next(running) == "g"
        assert current_trace_id() == before
        assert running.send("sent") == ("sent", "g")
        with pytest.raises(StopIteration) as stopped:
            next(running)
        assert stopped.value.value == "end"
        closing = generator()
        next(closing)
        closing.close()
        assert current_trace_id() == before

    def test_asynchronous_generators(self):
        closed = []

        @posthog_context(trace_id="ag")
        async def generator() -> Any:
            try:
                received = yield current_trace_id()
                yield received, current_trace_id()
            finally:
                closed.append(current_trace_id())

        async def main() -> None:
            before = current_trace_id()
            running = generator()
            assert await running.__anext__() == "ag"
            assert current_trace_id() == before
            assert await running.asend("sent") == ("sent", "ag")
            await running.aclose()
            assert current_trace_id() == before

        assert inspect.isasyncgenfunction(generator)
        asyncio.run(main())
        assert closed == ["ag"]

    def test_the_clean_up_of_a_generator_is_inside_its_block_however_it_ends(self):
        found: list[Any] = []

        @posthog_context(trace_id="g")
        def synchronous() -> Any:
            try:
                yield 1
            finally:
                found.append(current_trace_id())

        @posthog_context(trace_id="ag")
        async def asynchronous() -> Any:
            with posthog_context(trace_id="inner"):
                try:
                    yield 1
                finally:
                    await asyncio.sleep(0)
                    found.append(current_trace_id())

        async def main() -> None:
            before = current_trace_id()
            running = asynchronous()
            async for _ in running:
                break
            await running.aclose()
            thrown_into = asynchronous()
            await thrown_into.__anext__()
            with pytest.raises(KeyError):
                await thrown_into.athrow(KeyError())
            async for _ in asynchronous():
                pass
            assert current_trace_id() == before

        for _ in synchronous():
            break
        asyncio.run(main())
        assert found == ["g"] + ["inner"] * 3

    def test_what_a_clean_up_raises_is_the_programs_and_the_error_of_a_span(self, client, captured):
        @posthog_span("step")
        async def generator() -> Any:
            try:
                yield 1
            finally:
                await asyncio.sleep(0)
                client.chat.completions.create(**CHAT)
                raise KeyError("clean-up")

        async def main() -> None:
            running = generator()
            await running.__anext__()
            with pytest.raises(KeyError, match="clean-up"):
                await running.aclose()

        asyncio.run(main())
        call, span = captured(2)
        assert call["properties"]["$ai_parent_id"] == span["properties"]["$ai_span_id"]
        assert span["properties"]["$ai_is_error"] is True

    def test_blocks_inside_a_generator_last_over_its_yields(self):
        @posthog_context(trace_id="outer")
        def generator() -> Any:
            with posthog_context(trace_id="inner"):
                yield current_trace_id()
                yield current_trace_id()
            yield current_trace_id()

        @posthog_context(trace_id="outer")
        async def asynchronous() -> Any:
            with posthog_context(trace_id="inner"):
                yield current_trace_id()
                yield current_trace_id()
            yield current_trace_id()

        async def main() -> Any:
            return [item async for item in asynchronous()]

        assert list(generator()) == ["inner", "inner", "outer"]
        assert asyncio.run(main()) == ["inner", "inner", "outer"]

    def test_blocks_that_end_in_another_order_than_they_began(self):
        def generator(name: str) -> Any:
            with posthog_context(trace_id=name):
                yield

        before = current_trace_id()
        first, second = generator("a"), generator("b")
        next(first)
        next(second)
        first.close()
        assert current_trace_id() == "b"
        second.close()
        assert current_trace_id() == before

    def test_what_is_thrown_into_a_generator_is_its_own_to_handle(self):
        import contextlib

        log: list[Any] = []

        @contextlib.asynccontextmanager
        @posthog_context(trace_id="ag")
        async def asynchronous() -> Any:
            try:
                yield current_trace_id()
            except ValueError:
                log.append(("async", current_trace_id()))
                raise

        @contextlib.contextmanager
        @posthog_context(trace_id="g")
        def synchronous() -> Any:
            try:
                yield current_trace_id()
            except ValueError:
                log.append(("sync", current_trace_id()))

        async def main() -> None:
            with pytest.raises(ValueError, match="thrown"):
                async with asynchronous():
                    raise ValueError("thrown")

        asyncio.run(main())
        with synchronous():
            raise ValueError
        assert log == [("async", "ag"), ("sync", "g")]


@pytest.mark.basics
class TestTasksAndThreads:
    def test_a_hundred_tasks_keep_their_users(self, openai_server, captured):
        async def ask(client: openai.AsyncOpenAI, number: int) -> None:
            async with posthog_context(distinct_id=f"user-{number}"):
                await asyncio.sleep(0)
                await client.chat.completions.create(**CHAT, user=f"user-{number}")

        async def main() -> None:
            async with openai.AsyncOpenAI(base_url=openai_server.base_url) as client:
                await asyncio.gather(*(ask(client, number) for number in range(100)))

        asyncio.run(main())
        assert sorted(event["distinct_id"] for event in captured(100)) == sorted(f"user-{n}" for n in range(100))

    def test_threads(self, client, captured, trace):
        def ask(number: int) -> None:
            with posthog_context(distinct_id=f"user-{number}", trace_id=trace):
                client.chat.completions.create(**CHAT)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(event["distinct_id"] for event in captured(8)) == [f"user-{number}" for number in range(8)]

    def test_a_copied_context_in_an_executor(self, client, captured):
        with posthog_context(distinct_id="pool"), ThreadPoolExecutor() as pool:
            context = contextvars.copy_context()
            pool.submit(context.run, lambda: client.chat.completions.create(**CHAT)).result()
        (event,) = captured(1)
        assert event["distinct_id"] == "pool"

    def test_a_block_left_in_another_context_does_no_harm(self):
        block = posthog_context(trace_id="x")
        contextvars.copy_context().run(block.__enter__)
        before = current_trace_id()
        block.__exit__(None, None, None)
        assert current_trace_id() == before


class TestPerCallArguments:
    def test_they_win_and_never_reach_the_sdk(self, one, openai_server):
        with posthog_context(distinct_id="context", properties={"a": 1}, groups={"g": "1"}):
            event = one(
                posthog_distinct_id="call",
                posthog_trace_id="call-trace",
                posthog_properties={"a": 2, "b": 2},
                posthog_groups={"h": "2"},
                posthog_privacy_mode=True,
                posthog_provider_override="groq",
            )
        found = event["properties"]
        assert event["distinct_id"] == "call"
        assert found["$ai_trace_id"] == "call-trace"
        assert (found["a"], found["b"]) == (2, 2)
        assert found["$groups"] == {"g": "1", "h": "2"}
        assert found["$ai_input"] is None
        assert found["$ai_output_choices"] is None
        assert found["$ai_provider"] == "groq"
        assert b"posthog" not in openai_server.requests[-1].body

    def test_on_every_patched_method(self, client, openai_server, captured):
        arguments: Any = {"posthog_distinct_id": "u", "posthog_properties": {"x": 1}}
        client.chat.completions.create(**CHAT, **arguments, stream=True).close()
        client.embeddings.create(model="text-embedding-3-small", input="x", **arguments)
        client.completions.create(model="gpt-3.5-turbo-instruct", prompt="x", **arguments)
        client.chat.completions.with_raw_response.create(**CHAT, **arguments)
        if has("responses"):
            client.responses.create(model="gpt-4o-mini", input="x", **arguments)
            with client.responses.stream(model="gpt-4o-mini", input="x", **arguments) as stream:
                stream.until_done()
        for event in captured(6 if has("responses") else 4):
            assert (event["distinct_id"], event["properties"]["x"]) == ("u", 1)

    def test_odd_types_do_not_stop_the_call(self, one, capfd):
        event = one(
            posthog_distinct_id=7, posthog_properties="nonsense", posthog_groups=3, posthog_trace_id=uuid.UUID(int=1)
        )
        assert event["distinct_id"] == "7"
        assert event["properties"]["$ai_trace_id"] == "00000000-0000-0000-0000-000000000001"
        assert "posthog_properties must be a mapping" in capfd.readouterr().err


class TestPrivacy:
    def test_content_is_left_out(self, client, captured):
        tools = [{"type": "function", "function": {"name": "secret_tool", "parameters": {}}}]
        with posthog_context(privacy_mode=True):
            client.chat.completions.create(**CHAT, tools=tools)
            client.embeddings.create(model="text-embedding-3-small", input="secret")
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="error-400", messages=[{"role": "user", "content": "secret"}])
        chat, embedding, failed = captured(3)
        for event in (chat, embedding, failed):
            assert "secret" not in str(event)
            assert "Hello" not in str(event)
            assert event["properties"]["$ai_input"] is None
        assert chat["properties"]["$ai_output_choices"] is None
        assert chat["properties"]["$ai_tools"] is None
        assert chat["properties"]["$ai_input_tokens"] > 0
        assert failed["properties"]["$ai_error"].startswith("BadRequestError: 400 ")

    @needs("responses")
    def test_instructions_are_left_out(self, client, captured):
        with posthog_context(privacy_mode=True):
            client.responses.create(model="gpt-4o-mini", input="secret", instructions="secret")
        (event,) = captured(1)
        assert "secret" not in str(event)
        assert event["properties"]["$ai_input"] is None
        assert event["properties"]["$ai_instructions"] is None

    def test_nothing_inside_takes_it_back(self, client, captured):
        open_again = posthog_context(privacy_mode=False, properties={"inner": 1})

        @open_again
        def decorated() -> None:
            client.chat.completions.create(**CHAT)

        def worker() -> None:
            with posthog_context(privacy_mode=True), open_again, posthog_span("step") as span:
                span.set_input("Hello")
                client.chat.completions.create(**CHAT, posthog_privacy_mode=False)
                capture_feedback("Hello")

        with posthog_context(privacy_mode=True):
            with open_again, posthog_context(privacy_mode=None), open_again:
                client.chat.completions.create(**CHAT)
            decorated()
            thread = threading.Thread(target=decorated)
            thread.start()
            thread.join()
        worker()
        for event in captured(6):
            assert event["properties"].get("inner", 1) == 1
            assert "Hello" not in str(event), event["event"]

    def test_beside_the_block_it_is_not(self, one):
        with posthog_context(privacy_mode=False):
            with posthog_context(privacy_mode=True):
                assert one()["properties"]["$ai_input"] is None
            assert one()["properties"]["$ai_input"] is not None

    def test_the_posthog_package_cannot_be_overruled(self, run_program):
        ran = run_program(
            """
            import subprocess, sys
            from openai import OpenAI
            from posthog_autoinstrument import posthog_context
            with posthog_context(privacy_mode=False):
                if not sys.argv[1:]:
                    import posthog
                    posthog.privacy_mode = True
                OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "secret"}])
            if not sys.argv[1:]:
                subprocess.run([sys.executable, __file__, "child"], check=True)
            """
        )
        assert len(ran.events) == 2, ran.stderr
        assert "secret" not in str(ran.events)

    def test_a_child_of_a_private_block_is_private_in_every_corner(self, run_program):
        ran = run_program(
            """
            import contextvars, os, subprocess, sys
            from openai import OpenAI
            from posthog_autoinstrument import posthog_context

            def ask():
                OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "secret"}])

            if sys.argv[1:]:
                with posthog_context(privacy_mode=False):
                    ask()
                contextvars.Context().run(ask)
                os.environ.pop("POSTHOG_AUTOINSTRUMENT_CONTEXT")
                if sys.argv[1] == "child":
                    subprocess.run([sys.executable, __file__, "grandchild"], check=True)
            else:
                with posthog_context(privacy_mode=True):
                    subprocess.run([sys.executable, __file__, "child"], check=True)
            """
        )
        assert len(ran.events) == 4, ran.stderr
        assert "secret" not in str(ran.events)

    def test_the_environment_cannot_be_overruled(self, run_program):
        ran = run_program(
            """
            from openai import OpenAI
            from posthog_autoinstrument import posthog_context
            with posthog_context(privacy_mode=False):
                OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "secret"}])
            """,
            env={"POSTHOG_PRIVACY_MODE": "true"},
        )
        assert "secret" not in str(ran.events)
        assert ran.events[0]["properties"]["$ai_input"] is None


class Role(enum.Enum):
    ADMIN = "admin"


class Team(str, enum.Enum):
    RED = "red"


class Lazy:
    """As Django's: its class says that it is a text."""

    __class__ = str

    def __str__(self) -> str:
        return "lazy"


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError


IDS = [
    ("u", "u"),
    (42, "42"),
    (0, "0"),
    (1.5, "1.5"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (decimal.Decimal("7"), "7"),
    (b"bytes", "bytes"),
    (Role.ADMIN, "Role.ADMIN"),
    (Team.RED, "red"),
    (Lazy(), "lazy"),
]
NO_IDS = [None, "", True, False, object(), Unreadable(), b"\xff"]


class TestIds:
    @pytest.mark.parametrize(("value", "text"), IDS, ids=[text for _, text in IDS])
    def test_are_text_as_posthog_takes_them(self, one, value, text):
        with posthog_context(value, trace_id=value, session_id=value, parent_id=value, span_name=value, provider=value):
            event = one()
        found = event["properties"]
        names = ("$ai_trace_id", "$ai_session_id", "$ai_parent_id", "$ai_span_name", "$ai_provider")
        assert event["distinct_id"] == text
        assert [found[name] for name in names] == [text] * 5
        event = one(posthog_distinct_id=value, posthog_trace_id=value, posthog_provider_override=value)
        assert event["distinct_id"] == text
        assert [event["properties"][name] for name in ("$ai_trace_id", "$ai_provider")] == [text] * 2

    @pytest.mark.parametrize("value", NO_IDS, ids=lambda value: type(value).__name__)
    def test_what_names_nobody_is_left_out(self, one, value):
        with posthog_context("outer", session_id="outer"), posthog_context(value, session_id=value, parent_id=value):
            set_session(value)
            event = one(posthog_distinct_id=value)
        assert event["distinct_id"] == "outer"
        assert "$ai_parent_id" not in event["properties"]
        assert "$ai_session_id" not in event["properties"]

    @pytest.mark.parametrize("launched", [True, False])
    def test_wherever_the_program_runs(self, run_program, launched):
        ran = run_program(
            """
            import sys, uuid
            sys.modules["openai"] = None  # it is not installed
            from posthog_autoinstrument import *
            from posthog_autoinstrument import capture_feedback, capture_metric, posthog_span, set_session
            import decimal
            with posthog_context(42, session_id=uuid.UUID(int=1)), posthog_span(7, 8) as span:
                set_session(9)
                print(type(current_trace_id()).__name__)
                capture_feedback("fine")
                capture_metric("score", decimal.Decimal("0.5"), trace_id=span.trace_id)
            with posthog_context(object()):
                capture_feedback("fine", trace_id=5)
            capture_feedback("of no trace")
            capture_metric("score", 1)
            flush(10)
            """,
            launched=launched,
        )
        assert (ran.returncode, ran.stdout) == (0, "str\n"), ran.stderr
        lines = ran.stderr.splitlines()
        assert "posthog_context: distinct_id of type object cannot be made into text: it is left out" in ran.stderr
        if launched:
            assert "capture_feedback: no trace is open here" in lines[-1]
            assert len(lines) == 2
            assert [(event["event"], event["distinct_id"]) for event in ran.events[:3]] == [
                ("$ai_feedback", "42"),
                ("$ai_metric", "42"),
                ("$ai_span", "42"),
            ]
            assert ran.events[1]["properties"]["$ai_metric_value"] == 0.5
            assert ran.events[3]["properties"]["$ai_trace_id"] == "5"
            assert len(ran.events) == 4
        else:
            assert ran.events == []
            assert "capture_feedback: nothing is captured in this process" in ran.stderr
            assert len(lines) == 2


class TestWrongTypes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"properties": [("a", 1)]}, "properties must be a mapping, not list"),
            ({"groups": "acme"}, "groups must be a mapping, not str"),
            ({"privacy_mode": "yes"}, "privacy_mode must be a bool, not str"),
        ],
    )
    def test_raise_at_the_with_line(self, arguments, message):
        with pytest.raises(TypeError, match=message):
            posthog_context(**arguments)

    def test_values_that_cannot_be_serialised_are_replaced_by_their_repr(self, one):
        class Odd:
            def __repr__(self) -> str:
                return "<odd>"

        class Broken:
            def __repr__(self) -> str:
                raise ValueError

        cyclic: Any = {"name": "c"}
        cyclic["self"] = cyclic
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        with posthog_context(
            properties={
                "odd": Odd(),
                "broken": Broken(),
                "cyclic": cyclic,
                "deep": deep,
                "nan": float("nan"),
                "bytes": b"\xff",
                "surrogate": "\ud800",
                "when": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
                "price": decimal.Decimal("1.5"),
                "id": uuid.UUID(int=1),
                "tags": {"a"},
                ("tuple", "key"): 1,
                "nested": {"odd": Odd(), 3: 4},
                "long": "x" * 1_000_000,
            }
        ):
            found = one()["properties"]
        assert found["odd"] == "<odd>"
        assert "Broken" in found["broken"]
        assert found["cyclic"]["name"] == "c"
        assert found["nan"] is None
        assert found["bytes"] == "b'\\xff'"
        assert found["when"] == "2026-01-02T00:00:00+00:00"
        assert found["price"] == 1.5
        assert found["id"] == "00000000-0000-0000-0000-000000000001"
        assert found["tags"] == ["a"]
        assert found["('tuple', 'key')"] == 1
        assert found["nested"] == {"odd": "<odd>", "3": 4}
        assert len(found["long"]) < 300_000
        assert "surrogate" in found
        assert "deep" in found


class TestThePosthogPackage:
    @pytest.mark.parametrize("first", ["posthog", "openai"])
    def test_a_private_client_of_posthog_makes_all_private(self, run_program, first):
        ran = run_program(
            f"""
            import {first}
            import openai, posthog
            client = openai.OpenAI()
            def call():
                client.chat.completions.create(model="gpt-4o-mini", messages=[{{"role": "user", "content": "Hello"}}])
            own = posthog.Posthog("phc_own", host="http://127.0.0.1:9", send=False)
            call()
            hidden = posthog.Posthog("phc_own", host="http://127.0.0.1:9", send=False, privacy_mode=True)
            call()
            """
        )
        shown, private = [event["properties"]["$ai_input"] for event in ran.events]
        assert shown is not None
        assert private is None

    def test_its_context_is_used_below_ours(self, run_program):
        ran = run_program(
            """
            import posthog
            from openai import OpenAI
            from posthog_autoinstrument import posthog_context
            client = OpenAI()
            def call():
                client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
            with posthog.new_context():
                posthog.identify_context("sdk-user")
                posthog.set_context_session("replay-1")
                posthog.tag("tagged", "yes")
                posthog.tag("$ai_model", "not a fact")
                call()
                with posthog_context(distinct_id="ours", properties={"tagged": "ours"}):
                    call()
            posthog.privacy_mode = True
            call()
            posthog.privacy_mode = False
            """
        )
        first, second, private = ran.events
        assert first["distinct_id"] == "sdk-user"
        assert first["properties"]["$session_id"] == "replay-1"
        assert first["properties"]["tagged"] == "yes"
        assert first["properties"]["$ai_model"] == "gpt-4o-mini-2024-07-18"
        assert second["distinct_id"] == "ours"
        assert second["properties"]["tagged"] == "ours"
        assert private["properties"]["$ai_input"] is None

    def test_disabled_there_is_disabled_here(self, run_program):
        ran = run_program(
            """
            import posthog
            posthog.disabled = True
            from openai import OpenAI
            OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[])
            """
        )
        assert ran.events == []


class TestTheEnvironment:
    def test_process_wide_defaults(self, run_program):
        ran = run_program(
            """
            from openai import OpenAI
            from posthog_autoinstrument import posthog_context
            client = OpenAI()
            client.chat.completions.create(model="gpt-4o-mini", messages=[])
            with posthog_context(distinct_id="u", properties={"a": 2}):
                client.chat.completions.create(model="gpt-4o-mini", messages=[])
            """,
            env={
                "POSTHOG_DISTINCT_ID": "worker",
                "POSTHOG_AUTOINSTRUMENT_PROPERTIES": '{"a": 1, "b": 1}',
                "POSTHOG_AUTOINSTRUMENT_GROUPS": '{"company": "acme"}',
                "POSTHOG_AUTOINSTRUMENT_PROVIDER": "mine",
            },
        )
        first, second = ran.events
        assert (first["distinct_id"], second["distinct_id"]) == ("worker", "u")
        assert (first["properties"]["a"], second["properties"]["a"], second["properties"]["b"]) == (1, 2, 1)
        assert first["properties"]["$groups"] == {"company": "acme"}
        assert first["properties"]["$ai_provider"] == "mine"
