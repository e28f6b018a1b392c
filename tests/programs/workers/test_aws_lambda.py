"""The real runtime client of AWS Lambda, against its API on loopback: each answer finds its events delivered."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.programs import environment

pytestmark = pytest.mark.timeout(300)
HANDLER = """
import openai
client = openai.OpenAI()

def answer(event, context):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": event["text"]}])
    if event["text"] == "fails":
        raise ValueError("mine")
    return {"said": event["text"]}
"""


def test_events_are_delivered_before_the_answer_is_posted(tmp_path, openai_server, posthog_server):
    pytest.importorskip("awslambdaric")
    (tmp_path / "function.py").write_text(HANDLER)
    texts = ["first", "fails", "third"]
    waiting = list(texts)
    answers: list[tuple[str, str, list[str]]] = []
    done = threading.Event()

    class RuntimeApi(BaseHTTPRequestHandler):
        """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

        def do_GET(self) -> None:
            if not waiting:
                done.wait(200)  # frozen
            text = waiting.pop(0) if waiting else "over"
            body = f'{{"text": "{text}"}}'.encode()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", text)
            self.send_header("Lambda-Runtime-Deadline-Ms", "9999999999999")
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:1:function:f")
            self.send_header("Lambda-Runtime-Trace-Id", "Root=1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            text, kind = self.path.split("/")[-2:]
            said = [event["properties"]["$ai_input"][0]["content"] for event in list(posthog_server.events)]
            answers.append((text, kind, said))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if len(answers) == len(texts):
                done.set()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        environ = environment(openai_server, posthog_server, POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S="3600")
        environ |= {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_address[1]}", "LAMBDA_TASK_ROOT": str(tmp_path)}
        environ["POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S"] = "60"
        command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "-m", "awslambdaric"]
        process = subprocess.Popen([*command, "function.answer"], cwd=tmp_path, env=environ)
        try:
            assert done.wait(200)
        finally:
            process.kill()
            process.wait()
            api.shutdown()
    assert answers == [
        ("first", "response", ["first"]),
        ("fails", "error", ["first", "fails"]),
        ("third", "response", ["first", "fails", "third"]),
    ]
