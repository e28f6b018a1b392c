"""Turns of Gradio, Streamlit and Chainlit have contexts of their own, here by stand-ins; `make sessions` runs the real
ones."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

ASK = """
def ask(text):
    import openai  # not before the first turn
    said = [{"role": "user", "content": text}]
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said)
"""
STREAMLIT = {
    "streamlit/runtime/scriptrunner/script_runner.py": """
        class ScriptRunner:
            def __init__(self, session_id, user_info, script):
                self._session_id, self._user_info, self._script = session_id, user_info, script
            def _run_script(self, rerun_data):
                self._script(rerun_data)
        """,
    "program.py": """
        import threading
        from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
        from posthog_autoinstrument import posthog_context

        def in_a_thread(runner, *runs):
            thread = threading.Thread(target=lambda: [runner._run_script(run) for run in runs])
            thread.start()
            thread.join()

        def leaky(text):
            posthog_context("left open").__enter__()
            ask(text)

        in_a_thread(ScriptRunner("s1", {"is_logged_in": True, "email": "ann@example.com"}, ask), "ann 1", "ann 2")
        in_a_thread(ScriptRunner("s2", {"email": "test@example.com"}, ask), "developer")
        in_a_thread(ScriptRunner("s3", {"is_logged_in": False}, ask), "nobody")
        in_a_thread(ScriptRunner("s4", {"is_logged_in": True, "sub": "7"}, ask), "by sub")
        runner = ScriptRunner("s5", {}, leaky)
        runner._run_script("left open")
        ask("outside")
        """,
}
CHAINLIT = {
    "chainlit/context.py": """
        from contextvars import ContextVar
        context_var = ContextVar("chainlit")
        """,
    "chainlit/config.py": """
        class Code:
            on_message = None
        class Config:
            code = Code()
        config = Config()
        """,
    "chainlit/utils.py": """
        def wrap_user_function(function, with_task=False):
            async def wrapper(*args):
                return await function(*args)
            return wrapper
        """,
    "chainlit/callbacks.py": """
        from chainlit.config import config
        from chainlit.utils import wrap_user_function
        def on_message(function):
            config.code.on_message = wrap_user_function(function)
        """,
    "program.py": """
        import asyncio
        from types import SimpleNamespace as Some
        import chainlit.callbacks
        from chainlit.config import config
        from chainlit.context import context_var

        @chainlit.callbacks.on_message
        async def answer(text):
            ask(text)

        async def message(user, thread, text):
            user = Some(identifier=user) if user else None
            context_var.set(Some(session=Some(user=user, thread_id=thread)))
            await asyncio.create_task(config.code.on_message(text))

        async def main():
            await asyncio.create_task(message("ann", "s1", "ann 1"))
            await asyncio.create_task(message("ann", "s1", "ann 2"))
            await asyncio.gather(*[message(None, "s3", "nobody"), message("bob", "s2", "bob")])
            await config.code.on_message("outside")

        asyncio.run(main())
        """,
}
GRADIO = {
    "gradio/blocks.py": """
        class Blocks:
            def __init__(self, function):
                self.function = function
            async def process_api(self, block_fn, inputs, iterator=None, **of_the_event):
                iterator = iterator or self.function(inputs)
                done = next(iterator, None) is None
                return {"is_generating": not done, "iterator": None if done else iterator}
        """,
    "program.py": """
        import asyncio
        from types import SimpleNamespace as Some
        from gradio.blocks import Blocks
        from posthog_autoinstrument import posthog_context

        def steps(text):
            with posthog_context(properties={"block": text}):
                for number in (1, 2):
                    ask(f"{text} {number}")
                    yield number

        async def event(user, session, text, event_id="e"):
            scope = {"type": "http", "method": "POST", "path": "/queue/join", "headers": []}
            request, iterator = Some(request=Some(scope=scope), username=user), None
            while True:
                output = await Blocks(steps).process_api(
                    block_fn=0, inputs=text, request=request, session_hash=session, event_id=event_id,
                    iterator=iterator,
                )
                iterator = output["iterator"]
                if not output["is_generating"]:
                    return scope

        async def main():
            assert "posthog_autoinstrument.processing.event" not in await event("ann", "s1", "ann")
            await asyncio.gather(event("bob", "s2", "bob"), event(None, "s3", "nobody"))
            ask("outside")

        asyncio.run(main())
        """,
}
EXPECTED = {
    "streamlit": {
        "ann 1": ("ann@example.com", "s1"),
        "ann 2": ("ann@example.com", "s1"),
        "developer": (None, "s2"),
        "nobody": (None, "s3"),
        "by sub": ("7", "s4"),
        "left open": ("left open", "s5"),
        "outside": (None, None),
    },
    "chainlit": {
        "ann 1": ("ann", "s1"),
        "ann 2": ("ann", "s1"),
        "nobody": (None, "s3"),
        "bob": ("bob", "s2"),
        "outside": (None, None),
    },
    "gradio": {
        "ann 1": ("ann", "s1"),
        "ann 2": ("ann", "s1"),
        "bob 1": ("bob", "s2"),
        "bob 2": ("bob", "s2"),
        "nobody 1": (None, "s3"),
        "nobody 2": (None, "s3"),
        "outside": (None, None),
    },
}


@pytest.mark.parametrize(
    ("name", "files"),
    [("streamlit", STREAMLIT), ("chainlit", CHAINLIT), ("gradio", GRADIO)],
    ids=["streamlit", "chainlit", "gradio"],
)
def test_each_turn_has_a_context_of_its_own(run_program, tmp_path: Path, name: str, files: dict[str, str]) -> None:
    for path, source in files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        for folder in [folder for folder in file.parents if tmp_path in folder.parents]:
            (folder / "__init__.py").touch()
    ran = run_program(ASK + textwrap.dedent(files["program.py"]))
    assert ran.returncode == 0, ran.stderr
    calls = {event["properties"]["$ai_input"][0]["content"]: event for event in ran.events}
    found = {}
    for text, event in calls.items():
        anonymous = event["distinct_id"] == event["properties"]["$ai_trace_id"]
        found[text] = (None if anonymous else event["distinct_id"], event["properties"].get("$ai_session_id"))
    assert found == EXPECTED[name]
    traces = {text: event["properties"]["$ai_trace_id"] for text, event in calls.items()}
    turns = len({text.partition(" ")[0] if name == "gradio" else text for text in calls})
    assert len(set(traces.values())) == turns
    if name == "gradio":
        assert traces["ann 1"] == traces["ann 2"]
        assert calls["bob 2"]["properties"]["block"] == "bob"
        assert "block" not in calls["outside"]["properties"]
