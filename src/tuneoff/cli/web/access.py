"""Who may ask, and for what: this machine's user, who has the token, and only for reading."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses whoever names another host (a page elsewhere whose name was made to point here), has no token, or wants
    to write.

    The token comes once in the address; a cookie, which no script can read and no other site can send, keeps it.

    Args:
        app: what is asked behind it.
        token: the secret.
        port: the server's, of which the names of this machine may be asked.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._port = port
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        # Cookies are shared by the ports of a machine.
        self._cookie = f"tuneoff-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Returns what is answered instead of a page; None for whoever may ask."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host", "") not in self._hosts:
            return PlainTextResponse(
                f"This server answers to 127.0.0.1 and localhost alone, on port {self._port}: with ssh -L "
                "the local port must be the same.\n",
                403,
            )
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This server is for reading alone.\n", 405, {"Allow": "GET, HEAD"})
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == TOKEN]
        if given:
            if not self._is_token(given[-1]):
                return self._unknown()
            rest = urlencode([(name, value) for name, value in query if name != TOKEN])
            path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
            # One slash, so that no path is taken for another host.
            response = RedirectResponse(f"/{path.lstrip('/')}" + (f"?{rest}" if rest else ""), 303)
            response.set_cookie(self._cookie, given[-1], httponly=True, samesite="strict", path="/")
            return response
        # Other servers of this machine send theirs to this one, too, in whatever form: each pair is read by itself.
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie)
        return None if cookie is not None and self._is_token(cookie) else self._unknown()

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "surrogatepass"), self._token)

    @staticmethod
    def _unknown() -> Response:
        return PlainTextResponse("Open the address that `tuneoff serve` printed: it holds the token.\n", 403)
