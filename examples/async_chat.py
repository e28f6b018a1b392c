"""Three chats at the same time with the asynchronous client. Needs OPENAI_API_KEY."""

import asyncio

from openai import AsyncOpenAI


async def ask(client: AsyncOpenAI, question: str) -> str:
    completion = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
    )
    return completion.choices[0].message.content or ""


async def main() -> None:
    questions = ["Why is the sky blue?", "Why is the sea salty?", "Why do cats purr?"]
    async with AsyncOpenAI() as client:
        for answer in await asyncio.gather(*(ask(client, question) for question in questions)):
            print(answer)


asyncio.run(main())
