"""Studies in a browser: this machine's user alone may ask, for reading alone, and sees what runs as it runs."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs tuneoff[serve]")
pytest.importorskip("uvicorn", reason="needs tuneoff[serve]")

import uvicorn

from axe_helpers import NPM, axe_source, violations
from browser_helpers import BROWSER, DRIVER, browse
from page_helpers import LEVELS, hostile_store, page_store
from record_helpers import make_record
from script_helpers import CAN_RUN, call_each
from series_helpers import set_series, write_series
from tuneoff.checksums import sha256
from tuneoff.cli.main import main
from tuneoff.cli.web import app as web_app
from tuneoff.cli.web.app import make_app
from tuneoff.cli.web.reports import Reports
from tuneoff.cli.web.studies import find_series, find_studies
from tuneoff.store import StudyStore

TOKEN = "a-token"


class Server:
    """A server on the loopback, asked as a browser asks."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Returns the status, the headers and the text of an answer; the token is sent unless `cookie` says else."""
        connection = self.connect(path, method, **headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def connect(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host="host" in headers)
        for name, value in {"cookie": f"tuneoff-{self.port}={TOKEN}", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Yields the events of a stream until it ends."""
        connection = self.connect(path)
        answer = connection.getresponse()
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
        connection.close()


@contextmanager
def serving(root: Path, port: int = 0) -> Iterator[Server]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        port = listener.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(make_app(root, TOKEN, port), log_level="error", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Server(port)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    page_store(folder / "first", seeds=2)
    page_store(folder / "second", seeds=3)
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root) as started:
        yield started


def test_without_the_token_nothing_is_told(server: Server) -> None:
    for path in ("/", "/studies.json", "/report/first/study", "/events/first/study", "/nothing"):
        for cookie in ("", f"tuneoff-{server.port}=wrong", f"tuneoff-1={TOKEN}"):
            status, _, text = server.ask(path, cookie=cookie)
            assert status == 403
            assert "first" not in text
    assert server.ask("/?token=wrong")[0] == 403
    assert server.ask("/?token=wr%F6ng")[0] == 403


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_site_can_use(server: Server) -> None:
    status, headers, _ = server.ask(f"/report/first/study?x=1&token={TOKEN}", cookie="")
    assert (status, headers["location"]) == (303, "/report/first/study?x=1")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=strict" in headers["set-cookie"]
    _, headers, _ = server.ask(f"//evil.example/?token={TOKEN}", cookie="")
    assert headers["location"].startswith("/evil.example")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""])
def test_another_hosts_name_is_refused(server: Server, host: str) -> None:
    status, _, text = server.ask("/", host=host)
    assert status == 403
    assert f"on port {server.port}: with ssh -L the local port must be the same" in text


def test_this_machines_name_is_taken(server: Server) -> None:
    assert server.ask("/", host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_for_reading_alone(server: Server, method: str) -> None:
    assert server.ask("/report/first/study", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/report/../secret.txt",
        "/report/..%2f..%2fetc%2fpasswd",
        "/report/%2e%2e/%2e%2e/etc/passwd",
        "/report//etc/passwd",
        "/report/first",
        "/report/first/study/../../second/study",
        "/report/first/study/study.json",
        "/live/secret.txt",
        "/events/./first/study",
        "/secret.txt",
        "/report/",
    ],
)
def test_no_path_leads_elsewhere(server: Server, path: str) -> None:
    status, _, text = server.ask(path)
    assert status == 404
    assert "secret" not in text.replace(path, "")
    assert "root:" not in text


def test_a_study_that_lies_elsewhere_is_not_shown(root: Path, tmp_path: Path) -> None:
    page_store(tmp_path / "elsewhere")
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "link").symlink_to(tmp_path / "elsewhere")
    assert find_studies(tmp_path / "served") == {}
    assert set(find_studies(root)) == {"first/study", "second/study"}
    assert set(find_studies(root / "first" / "study")) == {"."}


def test_the_studies_of_a_series_are_shown_however_deep_it_lies(tmp_path: Path) -> None:
    place = tmp_path / "projects" / "mine" / "series"
    page_store(place / "members")
    assert find_studies(tmp_path) == {}
    write_series(place, "data", {"study": {"train": "rows.csv"}})
    assert set(find_studies(tmp_path)) == {"projects/mine/series/members/study"}


SETS = {"a": {"lora": 0.8, "full": 0.7}, "b": {"lora": 0.9, "full": 0.8}, "c": {"lora": 0.7, "full": 0.6}}


@pytest.fixture(scope="module")
def series_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("with_series")
    set_series(root / "sets", SETS, seeds=1)
    return root


def test_a_series_is_shown_as_it_is_now_with_links_to_its_studies(series_root: Path) -> None:
    before = {path: sha256(path) for path in series_root.rglob("*") if path.is_file()}
    with serving(series_root) as server:
        assert 'href="/series/sets"' in server.ask("/")[2]
        status, headers, page = server.ask("/series/sets")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "A series over data sets, a, b and c." in page
        assert page == server.ask("/series/sets")[2]
        for name in SETS:
            assert f'href="/report/sets/members/{name}"' in page
            assert server.ask(f"/report/sets/members/{name}")[0] == 200
        for path in ("/series/", "/series/sets/members/a", "/series/sets/../../secret", "/series/none"):
            assert server.ask(path)[0] == 404
    with serving(series_root / "sets") as server:
        assert 'href="/series/."' in server.ask("/")[2]
        # A browser asks for the first where a link says the second.
        for path in ("/series/", "/series/."):
            assert 'href="/report/members/a"' in server.ask(path)[2]
    assert {path: sha256(path) for path in series_root.rglob("*") if path.is_file()} == before


def test_a_series_without_a_result_or_with_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "new", "model", {"minilm": {"source": "minilm"}}, name="not begun")
    write_series(tmp_path / "broken", "data", {}).root.joinpath("series.json").write_text("{")
    part = set_series(tmp_path / "part", SETS, seeds=1)
    (part.member("c").root / "study.json").write_text("{")
    with serving(tmp_path) as server:
        page = server.ask("/")[2]
        assert "not begun" in page
        assert "series.json" in page
        assert re.findall(r'href="(/series/[^"]*)"', page) == ["/series/part"], "of the others there is nothing to show"
        status, _, shown = server.ask("/series/part")
        assert (status, "A series over data sets, a and b." in shown) == (200, True)
        status, _, text = server.ask("/series/new")
        assert (status, "is completed yet" in text) == (409, True)
        assert server.ask("/series/broken")[0] == 409


def test_a_series_with_a_study_that_lies_elsewhere_is_not_shown(series_root: Path, tmp_path: Path) -> None:
    store = write_series(tmp_path / "linked", "data", {"a": {"train": "a"}})
    (store.root / "members").symlink_to(series_root / "sets" / "members")
    assert find_series(tmp_path) == {}
    assert set(find_series(series_root)) == {"sets"}


def test_a_studys_own_folder_can_be_served(root: Path) -> None:
    with serving(root / "first" / "study") as server:
        assert 'href="/live/."' in server.ask("/")[2]
        for page in ("report", "live", "events"):
            # A browser asks for the first where a link says the second.
            for path in (f"/{page}/", f"/{page}/."):
                assert server.ask(path)[0] == 200


@pytest.mark.parametrize("foreign", ["a[b]=c", 'x={"y": 1}', "päth=1", "noise", "=", "a b=c"])
def test_cookies_of_other_servers_lock_nobody_out(server: Server, foreign: str) -> None:
    own = f"tuneoff-{server.port}={TOKEN}"
    for cookie in (f"{foreign}; {own}", f"{own}; {foreign}"):
        assert server.ask("/studies.json", cookie=cookie)[0] == 200
    assert server.ask("/studies.json", cookie=foreign)[0] == 403


def test_every_answer_is_guarded(server: Server) -> None:
    for path in ("/", "/report/first/study", "/studies.json", "/nothing"):
        _, headers, _ = server.ask(path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_studies_and_their_reports_are_shown_and_nothing_is_written(server: Server, root: Path) -> None:
    before = {path: sha256(path) for path in root.rglob("*") if path.is_file()}
    states = {state["path"]: state for state in json.loads(server.ask("/studies.json")[2])}
    assert (states["first/study"]["state"], states["first/study"]["done"]) == ("finished", 8)
    status, headers, page = server.ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'href="/report/second/study"' in page
    status, _, page = server.ask("/report/first/study")
    assert status == 200
    assert "of the arms that train" in page
    assert page == server.ask("/report/first/study")[2]
    status, _, page = server.ask("/compare?study=first/study&study=second/study")
    assert status == 200
    assert "lora [first" in page
    assert {path: sha256(path) for path in root.rglob("*") if path.is_file()} == before


def test_a_report_is_made_anew_where_a_form_of_a_model_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, pages = page_store(tmp_path / "some"), iter(("first", "second"))
    monkeypatch.setattr("tuneoff.cli.web.reports._render", lambda stores: next(pages))
    reports = Reports()
    assert [reports.page([store]) for _ in range(2)] == ["first", "first"]
    store.trial(store.trial_ids()[0]).deployability.path.write_text("{}")
    assert reports.page([store]) == "second"


def test_what_cannot_be_compared_is_said(server: Server, root: Path) -> None:
    assert server.ask("/compare?study=first/study")[0] == 400
    assert server.ask("/compare?study=first/study&study=../x")[0] == 404
    status, _, text = server.ask("/compare?study=first/study&study=first/study")
    assert status == 409
    assert "is named twice" in text


def test_a_damaged_study_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    page_store(tmp_path / "whole")
    broken = page_store(tmp_path / "broken")
    (broken.root / "study.json").write_text("{")
    with serving(tmp_path) as server:
        states = {state["path"]: state for state in json.loads(server.ask("/studies.json")[2])}
        assert states["broken/study"]["state"] == "damaged"
        assert "study.json" in states["broken/study"]["problem"]
        assert states["whole/study"]["state"] == "finished"
        assert server.ask("/")[0] == 200
        assert server.ask("/report/broken/study")[0] == 409
        (event,) = server.events("/events/broken/study")
        assert event["event"] == "error"


@contextmanager
def running(folder: Path) -> Iterator[StudyStore]:
    """A study of which a run is on: one trial is missing."""
    store = page_store(folder, seeds=1, skip=frozenset([("head", 0)]))
    with store.lock():
        yield store


def proceed(store: StudyStore) -> None:
    """Lets the missing trial train."""
    (trial_id,) = (each for each in store.trial_ids() if store.trial(each).record() is None)
    trial = store.trial(trial_id)
    trial.append_event({"kind": "phase", "phase": "train"})
    for step in (1, 2, 3):
        trial.append_event(
            {
                "kind": "step",
                "step": step,
                "steps": 9,
                "epoch": 0.1,
                "epochs": 1,
                "loss": 1.0 / step,
                "learning_rate": 1e-3,
                "examples_per_second": 10.0,
                "elapsed_seconds": 1.0,
            }
        )


def end(store: StudyStore) -> None:
    """Lets it end."""
    (trial_id,) = (each for each in store.trial_ids() if store.trial(each).record() is None)
    trial = store.trial(trial_id)
    trial.write_record(make_record(trial.spec()))


def test_a_running_studys_events_come_as_they_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_app, "LOOK_SECONDS", 0.05)
    with serving(tmp_path) as server:
        with running(tmp_path / "live") as store:
            events = server.events("/events/live/study")
            first = next(events)
            assert (first["event"], first["trials"]["final"]) == ("study_started", len(LEVELS))
            assert {next(events)["event"] for _ in range(3)} == {"trial_ended"}
            proceed(store)
            assert next(events)["event"] == "trial_started"
            assert next(events)["phase"] == "train"
            assert [next(events)["step"] for _ in range(3)] == [1, 2, 3]
            assert json.loads(server.ask("/studies.json")[2])[0]["state"] == "running"
            end(store)
            ended = next(events)
            assert (ended["event"], ended["label"], ended["status"]) == ("trial_ended", "head", "completed")
        rest = list(events)
        assert [event["event"] for event in rest] == ["study_ended"]
        assert rest[0]["outcome"] == "completed"


def test_bad_input_of_the_command_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be used" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="needs Debian's chromium and chromium-driver")
def test_a_browser_follows_a_study_reads_its_report_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_app, "LOOK_SECONDS", 0.1)
    page_store(tmp_path / "done", seeds=1)
    hostile_store(tmp_path / "hostile")
    with serving(tmp_path) as server, browse(tmp_path) as browser:

        def wait(condition: str) -> None:
            browser.call("timeouts", {"script": 30_000})
            waiting = (
                "const done = arguments[0]; const look = () => "
                f"(({condition}) ? done(true) : setTimeout(look, 50)); look();"
            )
            assert browser.call("execute/async", {"script": waiting, "args": []})

        address = f"http://127.0.0.1:{server.port}"
        with running(tmp_path / "live") as store:
            browser.call("url", {"url": f"{address}/?token={TOKEN}"})
            assert browser.run("return location.href") == f"{address}/"
            assert browser.run("return [...document.querySelectorAll('.state')].map(each => each.textContent)") == [
                "finished",
                "finished",
                "running",
            ]
            browser.run("document.querySelector('a[href=\"/live/live/study\"]').click()")
            wait("document.querySelectorAll('#trial-table tbody tr').length === 3")
            proceed(store)
            wait("document.querySelector('#running')?.textContent.includes('step 3 of 9, loss 0.333')")
            wait("document.querySelector('#running svg') !== null")
            end(store)
            wait("[...document.querySelectorAll('#trial-table td')].some(each => each.textContent === 'completed')")
        wait("document.getElementById('state').textContent.startsWith('Finished. 4 of 4')")
        browser.run("document.querySelector('a[href^=\"/report/\"]').click()")
        wait("document.getElementById('advice')?.textContent.startsWith('Use ')")
        browser.call("url", {"url": f"{address}/"})
        for path in ("done/study", "live/study"):
            browser.run("document.querySelector(`input[value='${arguments[0]}']`).click()", path)
        browser.run("document.getElementById('compare').click()")
        wait("document.body.textContent.includes('lora [')")
        browser.call("url", {"url": f"{address}/live/hostile/study"})
        wait("document.querySelectorAll('#trial-table tbody tr').length > 3")
        assert browser.run("return window.pwned === undefined")
        assert browser.console() == []
        hosts = {each.split("/")[2] for each in browser.requests() if each.startswith("http")}
        assert hosts == {f"127.0.0.1:{server.port}"}


@pytest.mark.skipif(not CAN_RUN, reason="needs Node.js or a browser")
def test_figures_of_the_live_page_are_right_at_their_limits(tmp_path: Path) -> None:
    cases = [[value] for value in (119.7, 59.97, 12.34, 61, None)]
    texts = call_each("live_figures.js", "secondsText", cases, tmp_path, package="tuneoff.cli.web")
    assert texts == ["2 min 00 s", "1 min 00 s", "12.3 s", "1 min 01 s", "–"]
    steps = [[list(range(200_000))], [[3, -1, 2]]]
    assert call_each("live_figures.js", "extremes", steps, tmp_path, package="tuneoff.cli.web") == [
        [0, 199_999],
        [-1, 3],
    ]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="needs Debian's chromium and chromium-driver")
def test_a_browser_tells_of_first_results_and_of_a_server_that_has_ended(tmp_path: Path) -> None:
    skip = frozenset((label, 0) for label in LEVELS)
    store = page_store(tmp_path / "live", seeds=1, skip=skip)
    with browse(tmp_path) as browser, store.lock():
        browser.call("timeouts", {"script": 30_000})

        def wait(condition: str) -> None:
            look = f"const look = () => (({condition}) ? done(true) : setTimeout(look, 50)); look();"
            assert browser.call("execute/async", {"script": f"const done = arguments[0]; {look}", "args": []})

        with serving(tmp_path) as server:
            address = f"http://127.0.0.1:{server.port}"
            browser.call("url", {"url": f"{address}/?token={TOKEN}"})
            assert browser.run("return document.querySelector('a[href^=\"/report/\"]')") is None
            trial = store.trial(store.trial_ids()[0])
            trial.write_record(make_record(trial.spec()))
            for _ in range(200):
                if browser.run("return document.querySelector('a[href^=\"/report/\"]') !== null"):
                    break
                time.sleep(0.1)
            else:
                pytest.fail("no link to the report came")
            for trial_id in store.trial_ids()[1:-1]:
                trial = store.trial(trial_id)
                trial.write_record(make_record(trial.spec()))
            proceed(store)
            browser.call("url", {"url": f"{address}/live/live/study"})
            wait("document.querySelector('#running svg') !== null")
        wait("document.getElementById('state').textContent.startsWith('Not connected; is `tuneoff serve`')")
        with serving(tmp_path, server.port):
            wait("document.getElementById('state').textContent.startsWith('Running. 3 of 4')")
            wait("document.querySelector('#running svg') !== null")
            assert browser.run("return document.querySelectorAll('#running article').length") == 1


@pytest.mark.slow
@pytest.mark.package_index
@pytest.mark.skipif(BROWSER is None or DRIVER is None or NPM is None, reason="needs Debian's chromium and npm")
def test_readers_of_all_kinds_can_use_the_pages(server: Server, tmp_path: Path) -> None:
    script = axe_source(tmp_path)
    with browse(tmp_path) as browser:
        browser.call("url", {"url": f"http://127.0.0.1:{server.port}/?token={TOKEN}"})
        for path in ("/", "/live/first/study"):
            browser.call("url", {"url": f"http://127.0.0.1:{server.port}{path}"})
            for theme in ("light", "dark"):
                browser.run("document.documentElement.dataset.theme = arguments[0]", theme)
                assert violations(browser, script) == []
