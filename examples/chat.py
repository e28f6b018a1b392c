"""A chat, a streamed chat and an embedding with the openai package. Needs OPENAI_API_KEY."""

from openai import OpenAI

client = OpenAI()

completion = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[
        {"role": "system", "content": "You are a librarian. Answer in one sentence."},
        {"role": "user", "content": "Which book should I read about whales?"},
    ],
)
print(completion.choices[0].message.content)

stream = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "Write a haiku about the sea."}],
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    elif chunk.usage:
        print(f"\n({chunk.usage.total_tokens} tokens)")

embeddings = client.embeddings.create(model="text-embedding-3-small", input=["Moby-Dick", "The Sea, The Sea"])
print(len(embeddings.data), "vectors of", len(embeddings.data[0].embedding), "numbers")
