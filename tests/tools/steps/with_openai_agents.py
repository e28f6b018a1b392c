# /// script
# dependencies = ["openai-agents", "posthog"]
# ///
"""openai-agents, in every way that it is run."""

import asyncio
import sys
import threading

import openai
from agents import (
    Agent,
    GuardrailFunctionOutput,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    custom_span,
    function_tool,
    input_guardrail,
    set_trace_processors,
    trace,
)
from agents.mcp import MCPServerStdio

from posthog_autoinstrument import posthog_context, posthog_span

set_trace_processors([])  # nothing to OpenAI; ours stays
UNTRACED = RunConfig(tracing_disabled=True)
SERVER = """
try:
    from mcp.server import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
server = Server("clock")

@server.tool()
def time_in(city: str) -> str:
    return "noon"

server.run()
"""


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@function_tool
def ask(subject: str) -> str:
    """Looks something up with a model of its own."""
    with openai.OpenAI() as direct, posthog_span("look", "search"):
        direct.embeddings.create(model="text-embedding-3-small", input=subject)
    return "nothing"


@function_tool
def broken(subject: str) -> str:
    """Always fails."""
    raise ValueError("no such subject")


@input_guardrail
async def polite(context, agent, given):
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def agent(name, model=None, **settings):
    return Agent(name=name, model=model or "gpt-4.1-mini", **settings)


async def main():
    chat = OpenAIChatCompletionsModel("gpt-4o-mini", openai.AsyncOpenAI())
    await Runner.run(agent("forecaster", tools=[weather]), "Lima?")
    await Runner.run(agent("over chat", chat, tools=[weather]), "Lima?")
    streamed = Runner.run_streamed(agent("streamed", tools=[weather]), "Oslo?")
    async for _ in streamed.stream_events():
        pass
    await Runner.run(agent("asking", tools=[ask]), "Rain?")
    await Runner.run(agent("failing tool", tools=[broken]), "Rain?")
    await Runner.run(agent("desk", handoffs=[agent("clerk")]), "Somebody else, please")
    await Runner.run(agent("guarded", input_guardrails=[polite]), "Hello")
    inner = agent("inner", tools=[weather])
    await Runner.run(agent("outer", tools=[inner.as_tool("inner_agent", "Knows.")]), "Hello")
    await Runner.run(agent("untraced", tools=[weather]), "Hello", run_config=UNTRACED)
    try:
        await Runner.run(agent("refused", "error-400"), "Hello")
    except openai.BadRequestError:
        pass
    with posthog_context(distinct_id="ann"):
        await Runner.run(agent("of ann", tools=[weather]), "Hello")

    async def of(user):
        with posthog_context(distinct_id=user, session_id=f"talk of {user}"), posthog_span("turn", "chain"):
            await Runner.run(agent(f"of {user}"), "Hello")

    await asyncio.gather(of("bob"), of("cid"))
    await asyncio.gather(*(Runner.run(agent("gathered", tools=[weather]), "Hello") for _ in range(5)))
    with trace("a workflow", group_id="talk 1"):
        await Runner.run(agent("first"), "Hello")
        with custom_span("step", {"a": 1}):
            await openai.AsyncOpenAI().chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}]
            )
        await Runner.run(agent("second"), "Hello")
    await openai.AsyncOpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Outside"}]
    )
    async with MCPServerStdio({"command": sys.executable, "args": ["-c", SERVER]}, name="clock") as server:
        await Runner.run(agent("punctual", mcp_servers=[server]), "What time is it?")
    with posthog_context(privacy_mode=True):
        await Runner.run(agent("private", tools=[weather]), "Hello")
    await theirs()


async def theirs():
    """PostHog's own processor tells of the steps: ours is silent, and places what that one does not see."""
    from posthog import Posthog
    from posthog.ai.openai_agents import PostHogTracingProcessor

    off = Posthog("phc_theirs", host="http://127.0.0.1:9", disabled=True)
    set_trace_processors([PostHogTracingProcessor(client=off)])
    with trace("told by theirs"):
        await Runner.run(agent("theirs", tools=[ask]), "Hello")
    set_trace_processors([])


# A client belongs to one event loop.
of_thread = OpenAIChatCompletionsModel("gpt-4o-mini", openai.AsyncOpenAI())
thread = threading.Thread(target=Runner.run_sync, args=(agent("in a thread", of_thread, tools=[weather]), "Hello"))
thread.start()
thread.join()
asyncio.run(main())
