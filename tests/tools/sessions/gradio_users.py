import json
import sys
from concurrent.futures import ThreadPoolExecutor

from gradio_client import Client

CALLS = {
    "once": ["", " in a thread"],
    "steps": [" 0", " 1", " 2"],
    "async_steps": [" 0", " 1"],
    "batched": [""],
    "direct": [""],
}


def talk(user, session):
    client = Client(f"http://127.0.0.1:{sys.argv[1]}", verbose=False, auth=(user, user[0]))
    for name, ends in CALLS.items():
        text = f"{session} {name}"
        client.predict(text, api_name=f"/{name}")
        for end in ends:
            print(json.dumps([text + end, user, session, name]) + "\n", end="", flush=True)


talk("ann", "first")
with ThreadPoolExecutor(3) as pool:
    list(pool.map(talk, ("bob", "ann", "bob"), ("second", "third", "fourth")))
