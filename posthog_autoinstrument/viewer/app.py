"""The web application: its URLs, their responses, and the loop that keeps the store's columns up to date.

Handlers are plain functions, which Starlette runs in threads: each opens the store, reads and closes it. Pages ask
`/pulse` every two seconds whether anything has changed, and fetch themselves again when it has. That is cheaper to keep
right than a stream of events: a stream would occupy one of the six connections that a browser has for a host, in every
tab, and hold up Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from .._version import __version__
from ..settings.config import Config
from ..store.database import StoreError
from ..store.queries import Queries
from ..store.results import Pricing
from ..store.selection import Selection
from . import downloads, rendering, views
from .access import AccessControl
from .upload import UploadJob

REFRESH_EVERY_S = 1.0
_REFRESH_S = 0.1
"""How long it processes events at a time: a page may have to wait for that."""
_YIELDS = 20
_FAREWELL_S = 2.0
"""How long the end of the page waits for an upload to stop."""

Values = dict[str, Any]
_PAUSE = rendering.Markup("<!-- the sums follow -->")
"""Where the overview is split: what is above is sent first."""


class Pages:
    """The application. `app` is what the server serves: all of it behind `AccessControl`."""

    def __init__(self, path: str, prices: Pricing | None, settings: Config, port: int, token: str) -> None:
        self._path = path
        self._prices = prices
        self._upload = UploadJob(path, settings)
        self._templates = rendering.environment()
        self._left = 1
        """Rows whose columns, costs or index are not up to date, at the last check; not 0 before the first one."""
        routes = [
            Route("/", self._overview),
            Route("/traces", self._show("traces.html", views.traces)),
            Route("/calls", self._show("calls.html", views.calls)),
            Route("/sessions", self._show("sessions.html", views.sessions)),
            Route("/trace", self._show("trace.html", views.trace)),
            Route("/event", self._show("event.html", views.event)),
            Route("/event.json", self._event_json),
            Route("/export.jsonl", self._export(downloads.json_lines, "application/x-ndjson", "jsonl")),
            Route("/export.csv", self._export(downloads.csv_lines, "text/csv; charset=utf-8", "csv")),
            Route("/delete", self._show("delete.html", views.deletion)),
            Route("/delete", self._delete, methods=["POST"]),
            Route("/send", self._show("send.html", self._upload_now)),
            Route("/send", self._send, methods=["POST"]),
            Route("/pulse", self._pulse),
            Route("/static/{version}/{name}", self._static),
        ]
        inner = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={StoreError: self._broken, HTTPException: self._refused},
        )
        inner.state.choices = views.Choices()
        self._access = AccessControl(inner, port, token)
        self.app: ASGIApp = self._access

    def _queries(self) -> Queries:
        return Queries(self._path, self._prices)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        keeping = asyncio.create_task(self._keep_up())
        try:
            yield
        finally:
            keeping.cancel()
            await run_in_threadpool(self._upload.cancel, _FAREWELL_S)

    async def _keep_up(self) -> None:
        while True:
            pause = REFRESH_EVERY_S
            try:
                self._left = await run_in_threadpool(self._refresh)
                if self._left:
                    pause = 0.05
            except StoreError:
                pass  # each page shows the error
            await asyncio.sleep(pause)
            for _ in range(_YIELDS):  # requests come first, but a long export must not delay it forever
                if not self._access.open:
                    break
                await asyncio.sleep(0.05)

    def _refresh(self) -> int:
        with self._queries() as queries:
            return queries.refresh(_REFRESH_S)

    # --- pages ---

    def _show(
        self, template: str, view: Callable[[Queries, Selection, Request], Values]
    ) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            selection = _selection(request)
            with self._queries() as queries:
                version = self._version(queries)  # read first: a change in between makes the page load again
                values = view(queries, selection, request)
            return HTMLResponse(self._html(request, template, values, selection, version))

        return endpoint

    def _overview(self, request: Request) -> Response:
        """The overview in two pieces: with 100,000 calls, its top is visible before all of them are read."""
        selection = _selection(request)
        with self._queries() as queries:
            version = self._version(queries)  # and whether the store can be read at all

        def pieces() -> Iterator[str]:
            held: list[str] = []
            try:
                with self._queries() as queries:
                    values = views.overview(queries, selection, request)
                    template = self._templates.get_template("overview.html")
                    for piece in template.generate(**self._values(request, values, selection, version)):
                        held.append(piece)
                        if piece == _PAUSE:
                            yield "".join(held)
                            held = []
            except StoreError as error:
                held.append(rendering.note(f"The store cannot be read: {error}"))
            yield "".join(held)

        return StreamingResponse(_in_one_thread(pieces), media_type="text/html")

    def _html(self, request: Request, template: str, values: Values, selection: Selection, version: str) -> str:
        return self._templates.get_template(template).render(**self._values(request, values, selection, version))

    def _values(self, request: Request, values: Values, selection: Selection, version: str) -> Values:
        """The variables of a template: the view's values, and those of every page."""
        return {
            "path": request.url.path,
            "selection": selection,
            "version": version,
            "left": self._left,
            "secret": self._access.form_secret,
            "store": self._path,
            "program_version": __version__,
            "pause": _PAUSE,
            "in_posthog": self._upload.trace_url,
            **values,
        }

    def _broken(self, request: Request, error: Exception) -> Response:
        values = {"title": "The store cannot be read", "words": str(error)}
        return HTMLResponse(self._html(request, "message.html", values, Selection(), ""), 503)

    def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "This page does not exist, or its data was deleted."}.get(error.status_code, error.detail)
        values = {"title": error.detail, "words": words}
        return HTMLResponse(self._html(request, "message.html", values, Selection(), ""), error.status_code)

    # --- data ---

    def _pulse(self, request: Request) -> Response:
        """A text that changes whenever the pages' data changes."""
        with self._queries() as queries:
            return PlainTextResponse(self._version(queries))

    def _version(self, queries: Queries) -> str:
        return f"{queries.version()}.{int(self._left > 0)}.{self._upload.version}"

    def _event_json(self, request: Request) -> Response:
        with self._queries() as queries:
            full = queries.event(request.query_params.get("id", ""))
        if full is None:
            raise HTTPException(404)
        return Response(json.dumps(full.event, ensure_ascii=True, indent=2), media_type="application/json")

    def _export(
        self, write: Callable[[Queries, Selection, Pricing | None], Iterator[str]], kind: str, ending: str
    ) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            selection = _selection(request)

            def chunks() -> Iterator[str]:
                with self._queries() as queries:
                    yield from write(queries, selection, self._prices)

            headers = {"Content-Disposition": f'attachment; filename="calls.{ending}"'}
            return StreamingResponse(_in_one_thread(chunks), media_type=kind, headers=headers)

        return endpoint

    def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in rendering.STATIC:
            raise HTTPException(404)
        content, kind = rendering.STATIC[name]
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=headers)

    # --- changes ---

    async def _form(self, request: Request) -> dict[str, str]:
        """The fields of one of our own forms; 403 for any other. `AccessControl` has checked its length."""
        body = await request.body()
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        if not self._access.is_own_form(form):
            raise HTTPException(403, "This form is out of date: load the page again")
        return form

    async def _delete(self, request: Request) -> Response:
        await self._form(request)

        def delete() -> int:
            with self._queries() as queries:
                return queries.delete_all()

        return RedirectResponse(rendering.link("/", {"deleted": str(await run_in_threadpool(delete))}), 303)

    def _upload_now(self, queries: Queries, selection: Selection, request: Request) -> Values:
        upload = self._upload
        is_running = upload.is_running  # read first: an upload that ends meanwhile is shown as ended the next time
        return {
            "project": upload.project,
            "is_running": is_running,
            "progress": upload.progress,
            "result": upload.result,
            "failure": upload.failure,
            "n_unsent": 0 if is_running else upload.count(),
            "traces_url": upload.traces_url(),
        }

    async def _send(self, request: Request) -> Response:
        form = await self._form(request)
        if self._upload.project is None:
            raise HTTPException(409, "No project is set")
        await run_in_threadpool(self._upload.cancel if form.get("do") == "cancel" else self._upload.start)
        return RedirectResponse("/send", 303)


def _selection(request: Request) -> Selection:
    """The selection in the URL. Our forms send every field: an empty one there means that nothing was chosen."""
    pairs = parse_qsl(request.url.query, keep_blank_values="form" not in request.query_params)
    return Selection.from_query(dict(pairs))


async def _in_one_thread(make: Callable[[], Iterator[str]]) -> AsyncIterator[str]:
    """What an iterator yields, computed on one thread: an SQLite connection belongs to one."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        iterator = await loop.run_in_executor(thread, make)
        try:
            while (chunk := await loop.run_in_executor(thread, next, iterator, None)) is not None:
                yield chunk
        finally:  # also if the browser has disconnected
            thread.submit(iterator.close)  # type: ignore[attr-defined]
