"""Who may ask the explorer what: everything is refused that does not come from its own page, opened with its own token.

In this order: the host that was asked for must be this machine (or one that was allowed), which stops DNS rebinding; a page of another
origin is refused; then the token, handed over once in the address and kept in a cookie that no script can read, must be right, for every
path. Bodies are limited in size and in time.
"""

import asyncio
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MOST_BYTES", "Guard"]

LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_BYTES = 20 * 2**20
PATIENCE = 20.0
"""Seconds that a body may take."""
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
"""Pages that may frame the explorer, where that is allowed: this machine's own."""


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        token: that has to be known.
        port: of the server.
        hosts: names beside this machine's own; with a port (``localhost:9000``), where a tunnel begins at another.
        frames: pages of this machine may show the explorer in a frame, as notebooks do; no page may by default.
    """

    def __init__(self, app: ASGIApp, *, token: str, port: int, hosts: Iterable[str] = (), frames: bool = False) -> None:
        self.app, self.token, self.port = app, token, port
        self.policy = "; ".join([POLICY, f"frame-ancestors {NOTEBOOKS}" if frames else "frame-ancestors 'none'"])
        self.hosts = {*LOCAL, *(host.lower() for host in hosts)}
        self.cookie = f"selfsight-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._is_here(headers.get("host", "")):
            await _say(send, 400, "This address is not the explorer's. Open the one that the command printed.")
        elif self._foreign(headers):
            await _say(send, 403, "Pages of other origins may not ask the explorer.")
        elif scope["path"] == "/enter":
            await self._enter(scope, send)
        elif not self._knows(headers):
            await _say(send, 401, "The explorer does not know you. Open the address that the command printed: it holds the key.")
        elif int(headers.get("content-length") or 0) > MOST_BYTES:
            await _say(send, 413, f"This is larger than {MOST_BYTES // 2**20} MiB.")
        else:
            await self._pass(scope, receive, send)

    def _is_here(self, host: str) -> bool:
        name, mark, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        name, port = (name, port) if mark else (host, "")
        return host.lower() in self.hosts or (name.lower() in self.hosts and port in ("", str(self.port)))

    @staticmethod
    def _foreign(headers: Headers) -> bool:
        """Of another origin than the page's own: another port of this machine is another, too, and cookies do not tell ports apart."""
        origin = headers.get("origin")
        if origin is not None:
            return origin.partition("://")[2] != headers.get("host")
        return headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"

    def _knows(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        given = cookies[self.cookie].value if self.cookie in cookies else ""
        return secrets.compare_digest(given.encode(), self.token.encode())

    async def _enter(self, scope: Scope, send: Send) -> None:
        """Take the token from the address, keep it in a cookie, and go to the page without it."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if not secrets.compare_digest(query.get("token", [""])[0].encode(), self.token.encode()):
            await _say(send, 401, "This key is not, or no longer, the explorer's.")
            return
        target = query.get("next", ["/"])[0]
        target = target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        await _say(send, 303, "", {"location": quote(target, safe="/?&=%#.,:;+-_~!*'()"), "set-cookie": cookie})

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the body in, whole and in time, before the application sees anything of it."""
        body = bytearray()
        if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            try:
                async with asyncio.timeout(PATIENCE):
                    if not await _taken(receive, body):
                        await _say(send, 413, f"This is larger than {MOST_BYTES // 2**20} MiB.")
                        return
            except TimeoutError:
                await _say(send, 408, "This took too long to arrive.")
                return
        whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def kept() -> Message:
            nonlocal whole
            given, whole = whole, None
            return await receive() if given is None else given

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._stamps().items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, kept, stamped)

    def _stamps(self) -> dict[str, str]:
        return {
            "content-security-policy": self.policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }


async def _taken(receive: Receive, body: bytearray) -> bool:
    """Take a body in; whether it is small enough."""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return False
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return True


async def _say(send: Send, status: int, words: str, more: dict[str, str] | None = None) -> None:
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
