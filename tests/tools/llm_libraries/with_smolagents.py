# /// script
# requires-python = ">=3.11"
# dependencies = ["smolagents[openai]"]
# ///
"""Smolagents: the model alone, streamed, with tools and with a schema, and an agent that gives up after its steps."""

from smolagents import OpenAIModel, ToolCallingAgent, tool
from smolagents.models import ChatMessage


@tool
def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: the city
    """
    return f"rain in {city}"


def said(text):
    return [ChatMessage(role="user", content=[{"type": "text", "text": text}])]


def main():
    model = OpenAIModel("gpt-4o-mini", temperature=0)
    answer = model.generate(said("Hello"))
    print("generate", answer.content, answer.token_usage)
    print("call", model(said("Hello again")).content)
    for part in model.generate_stream(said("Tell me a story")):
        print("stream", part.content, part.token_usage)
    asked = said("What is the weather in Lima?")
    answer = model.generate(asked, tools_to_call_from=[weather])
    print("tool asked", [(call.id, call.function) for call in answer.tool_calls])
    schema = {
        "type": "json_schema",
        "json_schema": {
            "name": "book",
            "schema": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        },
    }
    print("structured", model.generate(said("A book, please"), response_format=schema).content)
    print("agent", ToolCallingAgent([weather], model, max_steps=2, verbosity_level=0).run("The weather in Lima?"))
    final = ToolCallingAgent([], model, max_steps=2, verbosity_level=0, stream_outputs=True)
    print("streaming agent", final.run("Finish at once"))


main()
