# /// script
# requires-python = ">=3.11"
# dependencies = ["dspy", "mcp", "numpy"]
# ///
"""DSPy: predict, chain of thought, tool calls, parallel modules, a streamed module, embeddings; async.

Its calls with tools go through LiteLLM, which imports the mcp package for them (1.106).
"""

import asyncio

import dspy


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


class ToolUse(dspy.Signature):
    """Use the tool."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    outputs: dspy.ToolCalls = dspy.OutputField()


async def async_calls(predict):
    print("acall", (await predict.acall(question="Hello, async")).answer)
    answers = await asyncio.gather(*(predict.acall(question=f"Gathered {number}") for number in range(4)))
    print("gather", [one.answer for one in answers])
    streamed = dspy.streamify(predict)
    print("streamed", [type(part).__name__ async for part in streamed(question="A streamed question")])


def main():
    lm = dspy.LM("openai/gpt-4o-mini", cache=False, temperature=0.0, num_retries=0)
    dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    print("lm", lm("Say hello"))
    predict = dspy.Predict("question -> answer")
    print("predict", predict(question="Why?").answer)
    print("thought", dspy.ChainOfThought("question -> answer, sure: bool")(question="Really?").toDict())
    with dspy.context(adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        print("tool", dspy.Predict(ToolUse)(question="Weather in Lima?", tools=[dspy.Tool(weather)]).outputs)
    pairs = [(predict, dspy.Example(question=f"Parallel {n}").with_inputs("question")) for n in range(4)]
    print("parallel", [one.answer for one in dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)])
    with dspy.context(adapter=dspy.ChatAdapter()):
        print("fallback", predict(question="In two attempts").answer)  # the second asks for JSON
    embedder = dspy.Embedder("openai/text-embedding-3-small", caching=False)
    print("embeddings", [[round(float(x), 6) for x in vector[:2]] for vector in embedder(["one", "two"])])
    asyncio.run(async_calls(predict))


main()
