"""A chat in the browser: each answer arrives in PostHog with the person, session and trace of whoever asked.

Needs OPENAI_API_KEY and `pip install fastapi uvicorn openai`. Run it in this folder, and open http://127.0.0.1:8000:

    posthog-instrument uvicorn app:app
"""

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

from posthog_autoinstrument import capture_feedback, current_trace_id, posthog_span

app = FastAPI()
client = AsyncOpenAI()
page = (Path(__file__).parent / "page.html").read_text()


class Question(BaseModel):
    text: str


class Feedback(BaseModel):
    trace_id: str
    text: str


@posthog_span("look up", "tool")
async def look_up(text: str) -> str:
    """Stands for a search of your own: a step of its own in the trace."""
    return f"The reader asked {len(text.split())} words."


@app.get("/")
async def show() -> HTMLResponse:
    return HTMLResponse(page)


@app.post("/chat")
async def chat(question: Question) -> StreamingResponse:
    """The answer, as it is written. The page keeps the trace, to say later what it thinks of it."""

    async def words() -> AsyncIterator[str]:
        with posthog_span("answer", trace=True) as span:
            span.set_input(question.text)
            stream = await client.chat.completions.create(
                model="gpt-4o-mini",
                messages=[
                    {"role": "system", "content": await look_up(question.text)},
                    {"role": "user", "content": question.text},
                ],
                stream=True,
            )
            said = ""
            async for chunk in stream:
                word = (chunk.choices[0].delta.content if chunk.choices else None) or ""
                said += word
                yield word
            span.set_output(said)

    return StreamingResponse(words(), media_type="text/plain", headers={"X-Trace-Id": current_trace_id() or ""})


@app.post("/feedback")
async def feedback(said: Feedback) -> dict[str, bool]:
    capture_feedback(said.text, trace_id=said.trace_id)
    return {"ok": True}
