"""Access control of the explorer: only its own page, opened with a key of its own, is served.

Checks in this order: the requested host must be this machine or an allowed one, which prevents DNS rebinding; requests of other origins
are refused; every path needs the token of the server in an HttpOnly cookie. A browser receives the cookie in exchange for a key in the address.
Each key is valid once, because the command line of the browser, and with it the address, can be read by other users of the machine. The size
and the duration of request bodies are limited, and their total size.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MOST_BYTES", "Guard"]

LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_BYTES = 20 * 2**20
MOST_HELD = 4 * MOST_BYTES
"""Maximum size of a request body; of all bodies that are being received or answered."""
PATIENCE, PAUSE = 20.0, 10.0
"""Timeout for a request body in seconds; for its next part."""
MOST_KEYS = 100
"""Maximum number of unused keys; above it, the oldest becomes invalid."""
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"
"""Origins that may embed the explorer in a frame, if allowed: this machine's own."""


class Guard:
    """ASGI middleware for access control.

    Args:
        app: the application.
        port: port of the server.
        hosts: additional host names; with a port (``localhost:9000``) for a tunnel from another port.
        frames: allow pages of this machine to embed the explorer in a frame, as notebooks do.
        entered: called each time an announced key was used.
    """

    def __init__(
        self, app: ASGIApp, *, port: int, hosts: Iterable[str] = (), frames: bool = False, entered: Callable[[], None] | None = None
    ) -> None:
        self.app, self.port, self.entered = app, port, entered
        self._token, self._keys, self._held = secrets.token_urlsafe(24), dict[str, bool](), 0
        self.policy = "; ".join([POLICY, f"frame-ancestors {NOTEBOOKS}" if frames else "frame-ancestors 'none'"])
        self.hosts = {*LOCAL, *(host.lower() for host in hosts)}
        self.cookie = f"selfsight-{port}"

    def new_address(self, *, announce: bool = True) -> str:
        """An address of the page with a key that is valid once.

        Args:
            announce: call ``entered`` when it is used.
        """
        key = secrets.token_urlsafe(24)
        self._keys[key] = announce
        for old in list(self._keys)[:-MOST_KEYS]:
            self._keys.pop(old, None)
        return f"http://127.0.0.1:{self.port}/enter?token={key}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._is_here(headers.get("host", "")):
            await _respond(send, 400, "This is not the address of the explorer. Open the address that the command printed.")
        elif self._foreign(headers):
            await _respond(send, 403, "Requests of other origins are not allowed.")
        elif scope["path"] == "/enter":
            await self._enter(scope, headers, send)
        elif not self._knows(headers):
            await _respond(send, 401, "The token is missing. Open the address that the command printed: it contains a key.")
        elif int(headers.get("content-length") or 0) > MOST_BYTES:
            await _respond(send, 413, f"The request is larger than {MOST_BYTES // 2**20} MiB.")
        else:
            await self._pass(scope, receive, send)

    def _is_here(self, host: str) -> bool:
        name, mark, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        name, port = (name, port) if mark else (host, "")
        return host.lower() in self.hosts or (name.lower() in self.hosts and port in ("", str(self.port)))

    @staticmethod
    def _foreign(headers: Headers) -> bool:
        """Whether the request is of another origin; another port of this machine is another origin too, but shares its cookies."""
        origin = headers.get("origin")
        if origin is not None:
            return origin.partition("://")[2] != headers.get("host")
        return headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"

    def _knows(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        token = cookies[self.cookie].value if self.cookie in cookies else ""
        return secrets.compare_digest(token.encode(), self._token.encode())

    async def _enter(self, scope: Scope, headers: Headers, send: Send) -> None:
        """Exchange the key in the address for a cookie, and redirect to the page without the key."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.get("token", [""])[0].encode()
        key = next((one for one in list(self._keys) if secrets.compare_digest(given, one.encode())), None)
        announce = False
        if key is not None and scope["method"] == "GET":
            announce = self._keys.pop(key, False)
        elif not self._knows(headers):
            await _respond(send, 401, "The key of this address is not valid, or was used already. Use the address that was printed last.")
            return
        target = query.get("next", ["/"])[0]
        target = target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
        cookie = f"{self.cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        await _respond(send, 303, "", {"location": quote(target, safe="/?&=%#.,:;+-_~!*'()"), "set-cookie": cookie})
        if announce and self.entered is not None:
            self.entered()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the complete body before the application gets the request."""
        body = bytearray()
        try:
            refusal = await self._read_body(receive, body) if scope["method"] in ("POST", "PUT", "PATCH", "DELETE") else None
            if refusal is not None:
                await _respond(send, *refusal)
                return
            await self._answer(scope, body, receive, send)
        finally:
            self._held -= len(body)

    async def _read_body(self, receive: Receive, body: bytearray) -> tuple[int, str, dict[str, str]] | None:
        """Read a body; returns a refusal if it is too large or too slow."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    async with asyncio.timeout(PAUSE):
                        message = await receive()
                    part = message.get("body", b"")
                    body += part
                    self._held += len(part)
                    if len(body) > MOST_BYTES:
                        return 413, f"The request is larger than {MOST_BYTES // 2**20} MiB.", {}
                    if self._held > MOST_HELD:
                        return 429, "Too many large requests are being answered. Try again later.", {"retry-after": "5"}
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        return None
        except TimeoutError:
            return 408, "The request took too long to arrive.", {}

    async def _answer(self, scope: Scope, body: bytearray, receive: Receive, send: Send) -> None:
        """Let the application answer, and add headers."""
        buffered: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def receive_buffered() -> Message:
            nonlocal buffered
            message, buffered = buffered, None
            return await receive() if message is None else message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._security_headers().items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive_buffered, send_with_headers)

    def _security_headers(self) -> dict[str, str]:
        return {
            "content-security-policy": self.policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }


async def _respond(send: Send, status: int, words: str, more: dict[str, str] | None = None) -> None:
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        **(more or {}),
    }
    await send(
        {"type": "http.response.start", "status": status, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    )
    await send({"type": "http.response.body", "body": words.encode()})
