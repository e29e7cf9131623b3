"""A stand-in for an OpenAI-compatible server on the loopback, which can fail in every way that real ones do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-canary-5f0c2ab91e"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2}


@dataclass
class Failure:
    """An answer in place of the usual one: a status with headers and a body, after a while."""

    status: int = 200
    body: bytes | Mapping[str, Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    breaks_off: bool = False


class StandInEndpoint:
    """Answers chats and completions by `say` (prompt -> text) until it is closed.

    `failures` are given in place of the next answers, one a request. `probability` tells the log-probability of a
    prompt's last token, where a completion is to echo.
    """

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.probability: Callable[[str], float] = lambda prompt: -1.0
        self.usage: dict[str, int] | None = dict(USAGE)
        self.finish = "stop"
        self.failures: list[Failure] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.most_at_once = self._at_once = 0
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def begin(self, body: dict[str, Any], key: str | None) -> Failure | None:
        """Notes a request; returns what it gets in place of an answer."""
        with self.lock:
            self.bodies.append(body)
            self.keys.append(key)
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return self.failures.pop(0) if self.failures else None

    def end(self) -> None:
        with self.lock:
            self._at_once -= 1

    def answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        usage = {"usage": self.usage} if self.usage is not None else {}
        if path.endswith("/chat/completions"):
            text = self.say(body["messages"][-1]["content"])
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        elif body.get("echo"):
            prompt = body["prompt"]
            places = [i for i, c in enumerate(prompt) if c == " " or not i]
            values = [None, *(-0.5 for _ in places[1:-1]), self.probability(prompt)]
            told = {"token_logprobs": [*values, -9.0], "text_offset": [*places, len(prompt)]}
            choice = {"text": f"{prompt} x", "logprobs": told}
        else:
            choice = {"text": self.say(body["prompt"])}
        return {"model": f"{body['model']}-0613", "choices": [{**choice, "finish_reason": self.finish}], **usage}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def answering(say: Callable[[str], str]) -> Iterator[StandInEndpoint]:
    """A server for the length of a `with`."""
    server = StandInEndpoint(say)
    try:
        yield server
    finally:
        server.close()


def _handler(server: StandInEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            failure = server.begin(body, self.headers.get("Authorization"))
            try:
                if failure is None:
                    self._send(200, server.answer(self.path, body), {})
                    return
                time.sleep(failure.seconds)
                self._send(failure.status, failure.body, failure.headers, failure.breaks_off)
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever asked waits no longer
            finally:
                server.end()

        def _send(
            self, status: int, body: bytes | Mapping[str, Any], headers: Mapping[str, str], breaks_off: bool = False
        ) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) + 100 * breaks_off))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = self.close_connection or breaks_off

    return Handler
