"""A Flask app whose visitors sign in: each answer arrives in PostHog as theirs.

Needs OPENAI_API_KEY and `pip install flask flask-login gunicorn openai`. Run it in this folder:

    posthog-instrument gunicorn flask_chat:app
    curl -c jar 127.0.0.1:8000/login/ann
    curl -b jar '127.0.0.1:8000/ask?text=Hello'
"""

from collections.abc import Iterator

from flask import Flask, Response, request
from flask_login import LoginManager, UserMixin, login_required, login_user
from openai import OpenAI

app = Flask(__name__)
app.secret_key = "change me"
login_manager = LoginManager(app)
client = OpenAI()


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name


@login_manager.user_loader
def load_user(name: str) -> User:
    return User(name)


@app.get("/login/<name>")
def log_in(name: str) -> str:
    login_user(User(name))  # a real app asks for a password first
    return f"Hello {name}\n"


@app.get("/ask")
@login_required
def ask() -> Response:
    text = request.args["text"]

    def words() -> Iterator[str]:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}], stream=True
        )
        for chunk in stream:
            yield (chunk.choices[0].delta.content if chunk.choices else None) or ""

    return Response(words(), mimetype="text/plain")
