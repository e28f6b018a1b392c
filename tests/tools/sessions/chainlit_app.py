# /// script
# dependencies = ["chainlit", "python-socketio[asyncio_client]"]
# command = ["chainlit", "run", "{app}", "--headless", "--port", "{port}"]
# ///
import asyncio
import os

import chainlit as cl

if os.environ.get("IMPORT_EARLY"):
    import openai  # noqa: F401


def ask(text):
    import openai

    said = [{"role": "user", "content": text}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content


@cl.password_auth_callback
def auth(username, password):
    return cl.User(identifier=username) if password == username[0] else None


@cl.on_chat_start
async def start():
    cl.user_session.set("count", 0)


@cl.on_message
async def message(said):
    count = cl.user_session.get("count")
    cl.user_session.set("count", count + 1)
    await asyncio.gather(*[cl.make_async(ask)(f"{said.content} {count} {part}") for part in "ab"])
    await cl.Message(content=ask(f"{said.content} {count} c")).send()
