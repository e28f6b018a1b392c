# /// script
# dependencies = ["posthog", "openai-agents"]
# ///
"""openai-agents with `posthog.ai.openai_agents.instrument`."""

import asyncio
import os

import agents
import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig, Runner, function_tool
from agents.tracing import custom_span, generation_span, set_trace_processors, trace
from posthog import Posthog
from posthog.ai.openai_agents import PostHogTracingProcessor

sdk = openai.AsyncOpenAI()
direct = openai.OpenAI()
UNTRACED = RunConfig(tracing_disabled=True)


def ask(prompt):
    direct.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])


@function_tool
def look_up(subject: str) -> str:
    """Looks something up with a model of its own."""
    ask("ours: called in a tool")
    return "nothing"


def agent(kind, **settings):
    return Agent(name="a", model=kind(model="gpt-4o-mini", openai_client=sdk), **settings)


async def streamed(agent, prompt, **settings):
    result = Runner.run_streamed(agent, prompt, **settings)
    first = True
    async for _ in result.stream_events():
        if first:
            ask("ours 4: between two chunks")
            first = False


async def main():
    set_trace_processors([])
    chat, responses = agent(OpenAIChatCompletionsModel), agent(OpenAIResponsesModel)
    await Runner.run(chat, "ours: before the processor")
    set_trace_processors([PostHogTracingProcessor(client=posthog)])

    for kind, made in (("chat", chat), ("responses", responses)):
        await Runner.run(made, f"theirs: {kind}")
        await streamed(made, f"theirs: {kind} streamed")
        await Runner.run(made, f"ours: {kind} untraced", run_config=UNTRACED)
        await streamed(made, f"ours: {kind} streamed untraced", run_config=UNTRACED)
        with trace("off", disabled=True):
            await Runner.run(made, f"ours: {kind} in a disabled trace")
    for kind, label in ((OpenAIChatCompletionsModel, "chat"), (OpenAIResponsesModel, "responses without input")):
        failing = Agent(name="a", model=kind(model="error-400", openai_client=sdk))
        for who, config in (("theirs", RunConfig()), ("ours", UNTRACED)):
            try:
                await Runner.run(failing, f"{who}: failed {label}", run_config=config)
            except openai.BadRequestError:
                continue
            raise AssertionError("it did not fail")
    await asyncio.gather(
        Runner.run(chat, "theirs: gathered"), Runner.run(chat, "ours: gathered untraced", run_config=UNTRACED)
    )
    with trace("a workflow"):
        await Runner.run(chat, "theirs: in a trace")
        ask("ours: the sdk in a trace")
        with custom_span("step"):
            ask("ours: the sdk in a span")
        with generation_span(input=[{"role": "user", "content": "theirs: a span of its own"}], model="gpt-4o-mini"):
            ask("theirs: a span of its own")
            direct.embeddings.create(model="text-embedding-3-small", input="ours: embedded in a span")
    ask("ours: the sdk beside it")
    await look_up.on_invoke_tool(
        agents.tool_context.ToolContext(context=None, tool_name="look_up", tool_call_id="1", tool_arguments="{}"),
        '{"subject": "x"}',
    )
    agents.set_tracing_disabled(True)
    await Runner.run(chat, "ours: tracing disabled")
    agents.set_tracing_disabled(False)
    await Runner.run(chat, "theirs: tracing enabled again")

    off = Posthog("phc_theirs", host=os.environ["THEIR_POSTHOG"], disabled=True)
    set_trace_processors([PostHogTracingProcessor(client=off)])
    await Runner.run(chat, "nobody: disabled")


posthog = Posthog("phc_theirs", host=os.environ["THEIR_POSTHOG"])
set_trace_processors([PostHogTracingProcessor(client=posthog)])
Runner.run_sync(agent(OpenAIChatCompletionsModel), "theirs: run_sync")
sdk = openai.AsyncOpenAI()  # the other one's connections belong to a loop that is closed
asyncio.run(main())
posthog.shutdown()
