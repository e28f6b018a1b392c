# /// script
# dependencies = ["streamlit", "websocket-client"]
# command = ["streamlit", "run", "{app}", "--server.port", "{port}", "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none"]  # noqa: E501
# ///
import os
import threading

import streamlit as st

if os.environ.get("IMPORT_EARLY"):
    import openai  # noqa: F401


def ask(text):
    import openai

    said = [{"role": "user", "content": text}]
    return openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=said).choices[0].message.content


name = st.query_params.get("name")
count = st.session_state.setdefault("count", 0)
st.session_state["count"] += 1
ask(f"{name} {count}")
thread = threading.Thread(target=ask, args=(f"{name} {count} in a thread",))
thread.start()
thread.join()
st.write(ask(f"{name} {count} again"))
