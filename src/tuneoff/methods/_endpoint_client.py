"""Asks an OpenAI-compatible server: requests with a key that is kept nowhere, retried by one rule."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tuneoff.checksums import content_hash
from tuneoff.errors import EndpointError, first_line, shortened
from tuneoff.records.events import utc
from tuneoff.records.served import Reply

FIRST_WAIT_SECONDS = 1.0
"""Pause before the second try, where the server names none; every further one is twice as long."""
LONGEST_WAIT_SECONDS = 120.0
"""Longest pause that a server may ask for."""
MAX_BYTES = 16 * 2**20
"""Most bytes of an answer that are read."""
SECRET_CHARACTERS = 12
"""A key of fewer is a placeholder such as `EMPTY`, which servers without keys are sent; it may be any word."""
TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses after which a request is sent again; after any other it would fail again."""


@dataclass(frozen=True)
class Request:
    """One request: the path below the server's address, what is sent, and how its answer is read.

    Attributes:
        path: e.g. `/chat/completions`.
        body: sent as JSON.
        read: takes the first of the answer's `choices`; returns text, reason of its end, and log-probability, None
            where none was asked for.
    """

    path: str
    body: Mapping[str, Any]
    read: Callable[[Mapping[str, Any]], tuple[str, str, float | None]]

    @cached_property
    def content(self) -> str:
        """Returns a checksum of what is asked, without the server's address."""
        return content_hash([self.path, self.body])


class Unusable(Exception):
    """An answer that is none, after which the request is sent again."""


class Pace:
    """Spaces requests evenly in time and holds all of them back where the server asks to wait.

    Args:
        per_minute: most requests that begin in a minute; None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._stopped = threading.Event()
        self._next = 0.0
        self._lock = threading.Lock()

    def turn(self) -> bool:
        """Waits until a request may begin; returns whether it may."""
        while not self._stopped.is_set():
            with self._lock:
                now = time.monotonic()
                delay = self._next - now
                if delay <= 0:
                    self._next = now + self._gap
                    return True
            self._stopped.wait(delay)
        return False

    def stop(self) -> None:
        """Lets no more requests begin."""
        self._stopped.set()

    def hold(self, seconds: float) -> None:
        """Lets no request begin for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Client:
    """A server that is asked.

    Attributes:
        url: its address, up to `/v1`.
        key: sent as a bearer token; None for none. It is taken out of everything that is kept or told.
        timeout: seconds until a connection, or a piece of an answer, counts as lost.
        tries: how often a request is sent at most.
        concurrency: requests under way at once.
        per_minute: most requests that begin in a minute; None for no limit.
    """

    url: str
    key: str | None = field(repr=False)
    timeout: float
    tries: int
    concurrency: int
    per_minute: float | None

    def identify(self, request: Request) -> str:
        """Returns the checksum by which a request's reply is kept."""
        return content_hash([self.url, request.content])

    def ask(self, requests: Sequence[Request], keep: Callable[[Reply], None]) -> None:
        """Sends requests, several at once, and hands each reply to `keep` as it comes.

        Raises:
            EndpointError: the first request that got no usable answer; those that were under way are kept.
        """
        pace = Pace(self.per_minute)
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="endpoint") as pool:
            try:
                futures = [pool.submit(self._answer, request, pace, keep) for request in requests]
                _raise_first(wait(futures, return_when=FIRST_EXCEPTION).done, futures)
            finally:
                pace.stop()
                pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: Request, pace: Pace, keep: Callable[[Reply], None]) -> None:
        """Sends a request until it is answered; where it is not, no other begins."""
        try:
            self._answer_within_tries(request, pace, keep)
        except BaseException:
            pace.stop()
            raise

    def _answer_within_tries(self, request: Request, pace: Pace, keep: Callable[[Reply], None]) -> None:
        problem = ""
        for attempt in range(1, self.tries + 1):
            if not pace.turn():
                return
            started = time.perf_counter()
            pause: float | None = None
            try:
                answer = self._post(request)
                seconds = time.perf_counter() - started
                keep(self._reply(request, answer, seconds, attempt))
                return
            except urllib.error.HTTPError as error:
                problem = self._describe(error)
                if error.code not in TRANSIENT:
                    self._refuse(problem)
                pause = _pause_asked(error.headers.get("Retry-After"))
            except Unusable as error:
                problem = str(error)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem = "no answer in time" if isinstance(reason, TimeoutError) else self._clean(_told(reason))
            if attempt == self.tries:
                break
            if pause is not None and pause > LONGEST_WAIT_SECONDS:
                self._refuse(f"{problem}; it asks to wait {pause:.0f} s")
            pace.hold(FIRST_WAIT_SECONDS * 2 ** (attempt - 1) if pause is None else pause)
        self._refuse(f"{problem} ({self.tries} {'tries' if self.tries > 1 else 'try'})")

    def _refuse(self, problem: str) -> NoReturn:
        raise EndpointError(
            f"{self.url} gives no usable answer: {problem}",
            hint="Replies until now are kept: run the same command again, and only what is missing is asked.",
        )

    def _post(self, request: Request) -> Mapping[str, Any]:
        """Sends a request once; returns its answer.

        Raises:
            Unusable: if the answer is no JSON object.
            OSError: if there is none.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "tuneoff"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        data = json.dumps(request.body).encode()
        call = urllib.request.Request(f"{self.url}{request.path}", data, headers, method="POST")
        with self._opener.open(call, timeout=self.timeout) as response:
            raw = response.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise Unusable(f"an answer of more than {MAX_BYTES // 2**20} MiB")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            raise Unusable("an answer that is not JSON") from None
        if not isinstance(answer, dict):
            raise Unusable("an answer that is no JSON object")
        return answer

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        # What listens on this machine is behind no proxy.
        here = urlsplit(self.url).hostname in {"localhost", "127.0.0.1", "::1"}
        return urllib.request.build_opener(_NoRedirect, *([urllib.request.ProxyHandler({})] if here else []))

    def _reply(self, request: Request, answer: Mapping[str, Any], seconds: float, attempt: int) -> Reply:
        """Returns the reply that an answer holds.

        Raises:
            Unusable: if it holds none.
        """
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            said = f", but with an error: {self._said(answer)}" if "error" in answer else ""
            raise Unusable(f"an answer without choices{said}")
        text, finish, log_probability = request.read(choice)
        usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
        return Reply(
            request=self.identify(request),
            text=self._clean(text),
            finish=self._clean(finish),
            log_probability=log_probability,
            input_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
            seconds=seconds,
            tries=attempt,
            model=self._clean(shortened(str(answer.get("model") or ""))),
            time=utc(),
        )

    def _describe(self, error: urllib.error.HTTPError) -> str:
        """Describes an error of HTTP, with what the server says of it."""
        try:
            with error:
                text = error.read(4096).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        if 300 <= error.code < 400:
            return f"HTTP {error.code}, a redirect, which would carry the key elsewhere: name the final address as url"
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = text
        said = self._said(body)
        return f"HTTP {error.code}{f', {said}' if said else ''}"

    def _said(self, body: Any) -> str:
        """Returns what an answer tells of an error, on one line."""
        inner = body.get("error", body) if isinstance(body, Mapping) else body
        message = inner.get("message", inner) if isinstance(inner, Mapping) else inner
        return shortened(" ".join(self._clean(str(message)).split()), 300)

    def _clean(self, text: str) -> str:
        """Returns a text without the key, which servers may repeat, and without what no file could hold."""
        cleaned = text.encode("utf-8", "replace").decode("utf-8")
        return cleaned.replace(self.key, "…") if self.key and len(self.key) >= SECRET_CHARACTERS else cleaned


def _raise_first(done: set[Future[None]], futures: Sequence[Future[None]]) -> None:
    """Raises what went wrong first, in the order of requests."""
    for future in futures:
        if future in done:
            future.result()


def _told(error: object) -> str:
    return first_line(error, 300) if isinstance(error, BaseException) else str(error)


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _pause_asked(header: str | None) -> float | None:
    """Returns the seconds that `Retry-After` names, as a number or a date; None where it names none."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(moment.tzinfo or UTC)).total_seconds()) if moment.tzinfo else None
