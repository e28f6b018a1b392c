import json
import sys
from concurrent.futures import ThreadPoolExecutor

import websocket
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

PLACE = f"127.0.0.1:{sys.argv[1]}"


def talk(user, session):
    connection = websocket.create_connection(
        f"ws://{PLACE}/_stcore/stream",
        subprotocols=["streamlit"],
        origin=f"http://{PLACE}",
        header={"X-User": user} if user else None,
        timeout=60,
    )
    for run in range(2):
        message = BackMsg()
        message.rerun_script.query_string = f"name={session}"
        connection.send_binary(message.SerializeToString())
        answer = ForwardMsg()
        while answer.WhichOneof("type") != "script_finished":
            answer = ForwardMsg()
            answer.ParseFromString(connection.recv())
        for end in ("", " in a thread", " again"):
            print(json.dumps([f"{session} {run}{end}", user, session, run]) + "\n", end="", flush=True)
    connection.close()


talk("ann@example.com", "first")
with ThreadPoolExecutor(3) as pool:
    list(pool.map(talk, ("bob@example.com", None, "ann@example.com"), ("second", "third", "fourth")))
