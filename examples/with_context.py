"""Says which user and which trace a call belongs to. Needs OPENAI_API_KEY.

Run it with: posthog-instrument python with_context.py
"""

from openai import OpenAI

from posthog_autoinstrument import posthog_context

client = OpenAI()


def ask(question: str) -> str:
    completion = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": question}])
    return completion.choices[0].message.content or ""


@posthog_context(properties={"feature": "summary"})
def summarise(text: str) -> str:
    """Its calls carry the property, and the user of whoever calls it."""
    return ask(f"Summarise in one sentence: {text}")


# Both calls are in one trace of one user.
with posthog_context(distinct_id="user-42", trace_id="order-1001", properties={"plan": "pro"}):
    letter = ask("Write a short letter of thanks for an order of two books.")
    print(letter)
    print(summarise(letter))

print(ask("This call has no user: who am I?"))
