"""Other libraries that are instrumented: one file for each, which opens, propagates or reads a context, makes spans of
a library's steps, or delivers before a process is stopped.

A file has one function, `instrument(module, settings)`. It replaces functions of `module`, which has just been loaded,
and returns whether it found them. It may run again for the same module. `FILES` names the modules of each file, so that
a file is imported only when one of them is loaded; `registry` does that.

Every Python process reads this table at start-up: it imports nothing.
"""

FILES: "dict[str, dict[str, tuple[str, ...]]]" = {
    # Threads, processes and greenlets: a function runs in the context in which it was submitted.
    "propagation": {
        "propagation.threads": ("threading",),
        "propagation.executors": ("concurrent.futures.thread", "concurrent.futures.process"),
        "propagation.processes": ("multiprocessing.process",),
        "propagation.pools": ("multiprocessing.pool",),
        "propagation.subprocesses": ("subprocess",),
        "propagation.os_programs": ("os",),
        "propagation.anyio": ("anyio.to_thread",),
        "propagation.gevent": ("gevent.greenlet", "gevent.hub", "gevent.threadpool"),
        "propagation.eventlet": ("eventlet.hubs.hub", "eventlet.tpool"),
    },
    # Task queues: a task runs in the context in which it was published.
    "workers": {
        "integrations.workers.celery": ("celery.signals",),
        "integrations.workers.dramatiq": ("dramatiq.actor", "dramatiq.worker"),
        "integrations.workers.rq": ("rq.job",),
        "integrations.workers.distributed": ("distributed.client", "distributed.worker"),
        "integrations.workers.huey": ("huey.serializer", "huey.api"),
    },
    # Requests to the services that the user lists have the context in their headers.
    "http_clients": {
        "integrations.http_clients.requests": ("requests.adapters",),
        "integrations.http_clients.httpx": ("httpx._transports.default", "httpx2._transports.default"),
        "integrations.http_clients.aiohttp": ("aiohttp.client_reqrep",),
    },
    # Each web request has a context. `asgi` and `wsgi` patch servers, so that any app has one; a framework's file
    # patches its apps, so that they have one under any server, and adds the route and the user. The first one that a
    # request reaches opens its context, the others find it open.
    "web": {
        "integrations.web.asgi": (
            "uvicorn.protocols.http.h11_impl",
            "uvicorn.protocols.http.httptools_impl",
            "uvicorn.protocols.http.zttp_impl",
            "uvicorn.protocols.http.zttp_h2_impl",
            "uvicorn.protocols.websockets.websockets_impl",
            "uvicorn.protocols.websockets.websockets_sansio_impl",
            "uvicorn.protocols.websockets.wsproto_impl",
            "hypercorn.app_wrappers",
            "daphne.server",
            "granian.server.mp",
            "granian.server.mt",
            "granian.server.embed",
        ),
        "integrations.web.wsgi": (
            "gunicorn.http.wsgi",
            "gunicorn.workers.sync",
            "gunicorn.workers.gthread",
            "gunicorn.workers.base_async",
            "waitress.task",
            "werkzeug.serving",
            "wsgiref.handlers",
            "cheroot.wsgi",
        ),
        "integrations.web.starlette": (
            "starlette.applications",
            "starlette.background",
            "starlette.routing",
            "fastapi.routing",
        ),
        "integrations.web.flask": ("flask.app",),
        "integrations.web.django": (
            "django.core.handlers.base",
            "django.core.handlers.wsgi",
            "django.core.handlers.asgi",
        ),
        "integrations.web.aiohttp": ("aiohttp.web_protocol",),
        "integrations.web.tornado": ("tornado.web",),
        "integrations.web.sanic": ("sanic.app",),
    },
    # Each turn of a user's session has a context.
    "sessions": {
        "integrations.sessions.gradio": ("gradio.blocks",),
        "integrations.sessions.streamlit": ("streamlit.runtime.scriptrunner.script_runner",),
        "integrations.sessions.chainlit": ("chainlit.utils", "chainlit.callbacks"),
    },
    # Steps of agents and chains are spans.
    "agents": {
        "integrations.agents.openai_agents": ("agents.tracing",),
        "integrations.agents.langchain": ("langchain_core.tracers.context",),
    },
    # Events are delivered before the platform kills or freezes the process.
    "platforms": {
        "integrations.workers.ray": ("ray._private.function_manager",),
        "integrations.workers.airflow": ("airflow.sdk.execution_time.task_runner",),
        "integrations.workers.aws_lambda": ("awslambdaric.lambda_runtime_client",),
    },
    # The posthog package's clients: a private one makes everything private.
    "posthog": {"context.posthog_clients": ("posthog.client",)},
}
"""Kind -> file -> the modules that it instruments."""

BEFORE_SDK = ("workers", "sessions", "platforms", "posthog")
"""Kinds that are watched from start-up on: their first task or turn may be what imports the SDK."""
