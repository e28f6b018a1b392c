import asyncio
import json
import sys
import uuid

import requests
import socketio

PLACE = f"http://127.0.0.1:{sys.argv[1]}"


async def talk(user, session):
    web = requests.Session()
    web.post(f"{PLACE}/login", data={"username": user, "password": user[0]}).raise_for_status()
    cookie = "; ".join(f"{one.name}={one.value}" for one in web.cookies)
    connection, ended = socketio.AsyncClient(), asyncio.Queue()

    @connection.on("task_end")
    async def task_end(*_):
        ended.put_nowait(True)

    who = {"clientType": "webapp", "sessionId": str(uuid.uuid4()), "threadId": "", "userEnv": "{}", "chatProfile": ""}
    await connection.connect(
        PLACE, socketio_path="/ws/socket.io", transports=["websocket"], headers={"Cookie": cookie}, auth=who
    )
    await connection.emit("connection_successful")
    await asyncio.wait_for(ended.get(), 60)
    for turn in range(2):
        said = {"id": str(uuid.uuid4()), "name": user, "type": "user_message", "output": session}
        said["createdAt"] = "2026-01-01T00:00:00Z"
        await connection.emit("client_message", {"message": said, "fileReferences": []})
        await asyncio.wait_for(ended.get(), 60)
        for part in "abc":
            print(json.dumps([f"{session} {turn} {part}", user, session, turn]) + "\n", end="", flush=True)
    await connection.disconnect()


async def main():
    await talk("ann", "first")
    await asyncio.gather(talk("bob", "second"), talk("ann", "third"), talk("bob", "fourth"))


asyncio.run(main())
