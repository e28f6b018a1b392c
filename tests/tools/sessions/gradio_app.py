# /// script
# dependencies = ["gradio", "gradio_client"]
# command = ["python", "{app}", "{port}"]
# ///
import os
import sys
import threading

import gradio as gr

from posthog_autoinstrument import posthog_context

if os.environ.get("IMPORT_EARLY"):
    import openai  # noqa: F401


def ask(text):
    import openai

    said = [{"role": "user", "content": text}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content


def once(text):
    thread = threading.Thread(target=ask, args=(f"{text} in a thread",))
    thread.start()
    thread.join()
    return ask(text)


def steps(text):
    with posthog_context(properties={"block": text}):
        for number in range(3):
            yield ask(f"{text} {number}")


async def async_steps(text):
    import openai

    async with openai.AsyncOpenAI() as client:
        for number in range(2):
            said = [{"role": "user", "content": f"{text} {number}"}]
            yield (await client.chat.completions.create(model="gpt-4o-mini", messages=said)).choices[0].message.content


def batched(texts):
    return [[ask(text) for text in texts]]


with gr.Blocks() as demo:
    box, out = gr.Textbox(), gr.Textbox()
    for function in (once, steps, async_steps):
        gr.Button().click(function, box, out, api_name=function.__name__)
    gr.Button().click(batched, box, out, api_name="batched", batch=True, max_batch_size=1)
    gr.Button().click(ask, box, out, api_name="direct", queue=False)
demo.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True, auth=[("ann", "a"), ("bob", "b")])
