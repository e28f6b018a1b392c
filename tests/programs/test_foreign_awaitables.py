"""Another tool has wrapped an asynchronous method below us, and what it returns is no coroutine of Python's."""

from __future__ import annotations

import pytest

CLASSES = {
    "a coroutine": """
class Traced(collections.abc.Coroutine):
    def __init__(self, inner): self.inner, self.span = inner, "theirs"
    def send(self, value): return self.inner.send(value)
    def throw(self, *error): return self.inner.throw(*error)
    def close(self): self.inner.close()
    def __await__(self): return self.inner.__await__()
""",
    "a coroutine with odd names": """
class Traced(collections.abc.Coroutine):
    __slots__ = ("inner", "span")
    __name__ = property(lambda self: 1 / 0)
    __qualname__ = "Traced"
    def __init__(self, inner): self.inner, self.span = inner, "theirs"
    def send(self, value): return self.inner.send(value)
    def throw(self, *error): return self.inner.throw(*error)
    def close(self): self.inner.close()
    def __await__(self): return self.inner.__await__()
""",
    "an awaitable": """
class Traced:
    def __init__(self, inner): self.inner, self.span = inner, "theirs"
    def close(self): self.inner.close()
    def __await__(self): return self.inner.__await__()
""",
}

PROGRAM = """
import asyncio, collections.abc, inspect, sys
import openai
from openai.resources.chat.completions import AsyncCompletions

method = AsyncCompletions.create

def create(self, *args, **kwargs):
    if sys.argv[1] == "bare":
        kwargs = {name: value for name, value in kwargs.items() if not name.startswith("posthog_")}
    return Traced(method(self, *args, **kwargs))

AsyncCompletions.create = create
if sys.argv[1] == "ours":
    import posthog_autoinstrument.auto

async def ask(made):
    return (await made).choices[0].message.content

async def main():
    client = openai.AsyncOpenAI()
    def make(number, model="gpt-4o-mini"):
        said = [{"role": "user", "content": f"Question {number}"}]
        return client.chat.completions.create(model=model, messages=said, posthog_distinct_id=f"user-{number}")
    made = [make(number) for number in range(3)]
    print(type(made[0].span), [isinstance(one, Traced) for one in made], inspect.isawaitable(made[0]))
    print(await asyncio.gather(*map(ask, made)))
    stepped = make(3)
    if isinstance(stepped, collections.abc.Coroutine):
        stepped = asyncio.create_task(stepped)
    print((await stepped).choices[0].message.content)
    try:
        await make(4, "error-400")
    except openai.BadRequestError as error:
        print(type(error).__name__)
    make(5).close()

asyncio.run(main())
"""


@pytest.mark.promise
@pytest.mark.parametrize("kind", CLASSES)
def test_the_program_gets_its_object_and_each_call_is_one_event(run_program, kind):
    source = PROGRAM.replace("import openai\n", "import openai\n" + CLASSES[kind], 1)
    bare = run_program(source, launched=False, args=("bare",))
    ours = run_program(source, launched=False, args=("ours",))
    assert bare.returncode == 0, bare.stderr
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, bare.stdout, bare.stderr)
    assert sorted(event["distinct_id"] for event in ours.events) == [f"user-{number}" for number in range(5)]
    assert [event["properties"].get("$ai_http_status") for event in ours.events].count(400) == 1


def test_a_coroutine_that_a_plain_function_makes_runs_inside_its_block(run_program):
    ran = run_program(
        """
        import asyncio, types
        import openai
        from posthog_autoinstrument import posthog_context, posthog_span

        client = openai.AsyncOpenAI()

        async def ask(text):
            said = [{"role": "user", "content": text}]
            return await client.chat.completions.create(model="gpt-4o-mini", messages=said)

        @posthog_context("ada", privacy_mode=True)
        def made(text):
            return ask(text)

        @posthog_context("ada", privacy_mode=True)
        @types.coroutine
        def old(text):
            return (yield from ask(text).__await__())

        @posthog_span("step")
        def step():
            return ask("3")

        async def main():
            made_here = made("1")
            print(made_here.__name__)
            await made_here
            await old("2")
            await asyncio.create_task(step())
            await ask("4")

        asyncio.run(main())
        """
    )
    assert (ran.stdout, ran.returncode) == ("ask\n", 0), ran.stderr
    calls = [event for event in ran.events if event["event"] == "$ai_generation"]
    assert [event["distinct_id"] == "ada" for event in calls] == [True, True, False, False]
    assert [event["properties"]["$ai_input"] is None for event in calls] == [True, True, False, False]
    (span,) = (event["properties"] for event in ran.events if event["event"] == "$ai_span")
    assert [event["properties"].get("$ai_parent_id") == span["$ai_span_id"] for event in calls] == [False] * 2 + [
        True,
        False,
    ]
