"""The program whose events docs/events.md shows: an agent that answers one question with a tool."""

import json

from openai import OpenAI

from posthog_autoinstrument import capture_feedback, capture_metric, posthog_context, posthog_span

client = OpenAI()
tool = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}

with (
    posthog_context(distinct_id="user-42", session_id="chat-7", properties={"plan": "pro"}, groups={"company": "acme"}),
    posthog_span("answer", "agent", trace=True) as span,
):
    question = "Do I need an umbrella in Lisbon?"
    span.set_input(question)
    client.embeddings.create(model="text-embedding-3-small", input=question)
    messages = [{"role": "user", "content": question}]
    asked = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[tool], tool_choice="required")
    call = asked.choices[0].message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"sky": "clear"})}
    messages += [asked.choices[0].message, result]
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[tool])
    span.set_output(answer.choices[0].message.content)
    capture_feedback("Just what I needed")
    capture_metric("relevance", 0.8)
