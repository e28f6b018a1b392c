# /// script
# dependencies = ["litellm"]
# ///
"""litellm with its own PostHog logger. It records no failure of a synchronous call, and no stream that is left."""

import asyncio
import time

import litellm
import openai

MODEL = "openai/gpt-4o-mini"
EMBEDDING = "openai/text-embedding-3-small"
litellm.suppress_debug_info = True


def said(text):
    return [{"role": "user", "content": text}]


def ask(prompt, model=MODEL, **kwargs):
    return litellm.completion(model=model, messages=said(prompt), **kwargs)


async def ask_async(prompt, model=MODEL, **kwargs):
    return await litellm.acompletion(model=model, messages=said(prompt), **kwargs)


def fails(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except litellm.BadRequestError:
        return
    raise AssertionError("it did not fail")


async def fails_async(awaitable):
    try:
        await awaitable
    except litellm.BadRequestError:
        return
    raise AssertionError("it did not fail")


async def everything(theirs, failures, label):
    """Each kind of call; `theirs` and `failures`: who records those that succeed, and asynchronous ones that fail."""
    await ask_async(f"{theirs}: async {label}")
    [_ async for _ in await ask_async(f"{theirs}: async stream {label}", stream=True)]
    await litellm.aembedding(model=EMBEDDING, input=[f"{theirs}: async embedding {label}"])
    await fails_async(ask_async(f"{failures}: async failure {label}", model="openai/error-400", num_retries=0))
    stream = await ask_async(f"ours: async stream left {label}", stream=True)
    await stream.__anext__()
    await stream.completion_stream.close()
    await asyncio.sleep(0)
    await litellm.atext_completion(
        model="text-completion-openai/gpt-3.5-turbo-instruct", prompt=f"{theirs}: async legacy {label}"
    )


def everything_sync(theirs, label):
    ask(f"{theirs}: sync {label}")
    list(ask(f"{theirs}: stream {label}", stream=True))
    litellm.embedding(model=EMBEDDING, input=[f"{theirs}: embedding {label}"])
    litellm.text_completion(model="text-completion-openai/gpt-3.5-turbo-instruct", prompt=f"{theirs}: legacy {label}")
    router = litellm.Router([{"model_name": "some", "litellm_params": {"model": MODEL}}])
    router.completion(model="some", messages=said(f"{theirs}: router {label}"))
    fails(ask, f"ours: failure {label}", model="openai/error-400", num_retries=0)
    stream = ask(f"ours: stream left {label}", stream=True)
    next(stream)
    stream.completion_stream.close()


def settle():
    """litellm reads its lists when it logs, on a thread of its own: let that be before they change."""
    time.sleep(0.5)


everything_sync("ours", "before")
asyncio.run(everything("ours", "ours", "before"))
ask("theirs: in the callbacks of the call", success_callback=["posthog"])
ask("ours: the call after it")

settle()
litellm.success_callback = ["posthog"]
everything_sync("theirs", "with success callback")
asyncio.run(everything("theirs", "ours", "with success callback"))
ask("ours: not logged", **{"no-log": True})
openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said("ours: the sdk beside it"))

settle()
litellm.failure_callback = ["posthog"]
everything_sync("theirs", "with both")
asyncio.run(everything("theirs", "theirs", "with both"))

settle()
for name in ("success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback"):
    getattr(litellm, name).clear()
everything_sync("ours", "after")
settle()
litellm.callbacks = ["posthog"]
everything_sync("theirs", "with callbacks")
asyncio.run(everything("theirs", "theirs", "with callbacks"))
