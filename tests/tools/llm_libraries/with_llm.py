# /// script
# requires-python = ">=3.11"
# dependencies = ["llm"]
# ///
"""The `llm` command line: prompts streamed and not, a conversation, tools, a schema, embeddings, an async template.

Each command is a process of its own, started by this one, as from a shell.
"""

import subprocess

WEATHER = """
def weather(city: str) -> str:
    "The weather in a city."
    return f"rain in {city}"
"""


def llm(*arguments, **more):
    done = subprocess.run(["llm", *arguments], capture_output=True, text=True, check=False, **more)
    # The log database names each conversation at random.
    print(arguments[0], done.returncode, repr(done.stdout), repr(done.stderr))


llm("-m", "gpt-4o-mini", "Hello")
llm("-m", "gpt-4o-mini", "--no-stream", "Hello, not streamed")
llm("-m", "gpt-4o-mini", "--continue", "And then?")
llm("-m", "gpt-4o-mini", "--system", "Be brief.", "Read this", input="Words from standard input")
llm("-m", "gpt-4o-mini", "--functions", WEATHER, "What is the weather in Lima?")
llm("-m", "gpt-4o-mini", "--schema", "title, pages int", "A book, please")
llm("-m", "gpt-4o-mini", "--async", "Hello, async")
llm("-m", "gpt-4o-mini", "--usage", "Count", "--no-log")
llm("embed", "-m", "3-small", "-c", "A text", "-f", "hex")
llm("-m", "gpt-4o-mini", "[error-400] Refuse this")
llm("models", "default")
