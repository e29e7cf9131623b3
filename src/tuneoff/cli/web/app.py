"""The pages of `tuneoff serve`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import sleep, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tuneoff.cli.live.folder_events import FolderEvents
from tuneoff.cli.live.follow import FolderFollower
from tuneoff.cli.web.access import Guard
from tuneoff.cli.web.reports import Reports
from tuneoff.cli.web.studies import SeriesState, find_series, find_studies, series_state, state_of
from tuneoff.encoding import json_text
from tuneoff.errors import TuneoffError
from tuneoff.report.page_data import as_text
from tuneoff.report.page_parts import render_page
from tuneoff.store import StudyStore

LOOK_SECONDS = 1.0
"""Time between two looks at a study that is followed."""
_PACKAGES = ("tuneoff.cli.web",)
_PARTS = ("base", "theme", "tables", "pictures")


def make_app(root: Path, token: str, port: int) -> ASGIApp:
    """Returns the application that serves the studies of a folder.

    Args:
        root: the folder; studies and series in it and below it are shown, and nothing else.
        token: what a browser must know.
        port: the server's.
    """
    pages = Pages(root)
    routes = [
        Route("/", pages.studies),
        Route("/studies.json", pages.states),
        Route("/compare", pages.comparison),
        Route("/live/{path:path}", pages.live),
        Route("/events/{path:path}", pages.events),
        Route("/report/{path:path}", pages.report),
        Route("/series/{path:path}", pages.series),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse, TuneoffError: _explain})
    return Guard(app, token, port)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, TuneoffError)
    return PlainTextResponse(f"{error.message}\n{error.hint}\n", HTTPStatus.CONFLICT)


class Pages:
    """Answers requests. What takes long runs in a thread, so that others are answered meanwhile."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reports = Reports()

    async def studies(self, request: Request) -> Response:
        """Shows all studies and series."""
        states = await to_thread.run_sync(self._states)
        done = {state["path"] for state in states if state["done"] and not state["problem"]}
        series = await to_thread.run_sync(self._series)
        return HTMLResponse(
            _page("studies.html.jinja", ("studies",), {}, root=str(self._root), states=states, series=series, done=done)
        )

    async def states(self, request: Request) -> Response:
        """Tells where all studies stand, as data."""
        return JSONResponse(await to_thread.run_sync(self._states))

    async def live(self, request: Request) -> Response:
        """Shows how a study gets on."""
        path = request.path_params["path"]
        store = await self._store(path)
        name = (await to_thread.run_sync(state_of, path, store)).name or path
        data = {"events": f"/events/{quote(path)}"}
        return HTMLResponse(_page("live.html.jinja", ("explorer", "live_figures", "live"), data, name=name, path=path))

    async def events(self, request: Request) -> Response:
        """Streams the events of a study as server-sent events, until the study is over or the reader has gone."""
        store = await self._store(request.path_params["path"])
        return StreamingResponse(_stream(store, request.is_disconnected), media_type="text/event-stream")

    async def report(self, request: Request) -> Response:
        """Shows a study's report as it is now."""
        store = await self._store(request.path_params["path"])
        return HTMLResponse(await to_thread.run_sync(self._reports.page, [store]))

    async def series(self, request: Request) -> Response:
        """Shows the report of a series as it is now, with links to its studies' reports."""
        path = request.path_params["path"] or "."
        store = (await to_thread.run_sync(find_series, self._root)).get(path)
        if store is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no series of that name here.")
        state = await to_thread.run_sync(series_state, path, store, self._root)
        addresses = {name: f"/report/{quote(member)}" for name, member in state.members.items()}
        return HTMLResponse(await to_thread.run_sync(self._reports.series_page, store, addresses))

    async def comparison(self, request: Request) -> Response:
        """Shows several studies side by side."""
        stores = [await self._store(path) for path in request.query_params.getlist("study")]
        if len(stores) < 2:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Choose two studies or more to compare.")
        return HTMLResponse(await to_thread.run_sync(self._reports.page, stores))

    def _states(self) -> list[dict[str, Any]]:
        return [asdict(state_of(path, store)) for path, store in find_studies(self._root).items()]

    def _series(self) -> list[SeriesState]:
        return [series_state(path, store, self._root) for path, store in find_series(self._root).items()]

    async def _store(self, path: str) -> StudyStore:
        """Returns a study by its path. It is looked up among those that were found, so no path leads elsewhere.

        A browser asks for `/live/` where a link says `/live/.`: the empty path is the folder that is served.
        """
        found: dict[str, StudyStore] = await to_thread.run_sync(find_studies, self._root)
        store = found.get(path or ".")
        if store is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no study of that name here.")
        return store


def _page(template: str, parts: tuple[str, ...], data: dict[str, Any], **values: Any) -> str:
    return render_page(template, (*_PARTS, *parts), _PACKAGES, connect=True, data=_markup(data), **values)


def _markup(data: dict[str, Any]) -> Any:
    from markupsafe import Markup

    return Markup(as_text(data))


async def _stream(store: StudyStore, is_gone: Callable[[], Any]) -> AsyncIterator[str]:
    """Yields events as the lines of a stream; an error of the folder is the last one."""
    follower = FolderFollower(store, checkpoints=False)
    events = FolderEvents(store.root.name)
    while not await is_gone():
        try:
            look = await to_thread.run_sync(follower.poll)
        except TuneoffError as error:
            yield _line({"event": "error", "message": error.message})
            return
        if look is None:
            yield _line({"event": "error", "message": "the study is no longer there"})
            return
        for event in events.of(look):
            yield _line(event)
        # Lets the reader and this end notice that the other has gone.
        yield ": look\n\n"
        if look.is_over:
            return
        await sleep(LOOK_SECONDS)


def _line(event: dict[str, Any]) -> str:
    return f"data: {json_text(event)}\n\n"
