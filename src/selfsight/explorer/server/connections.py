"""HTTP connections with time limits: a client that stops in the middle of a request or of a response is disconnected. Torch-free.

The time between two requests of a connection is limited by uvicorn, that of a request's body by ``guard.Guard``.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PATIENCE", "TimedConnection"]

PATIENCE = 10.0
"""Seconds that a client may take for the head of a request, and without reading anything of a response."""


class TimedConnection(H11Protocol):
    """uvicorn's protocol, which closes a connection ``PATIENCE`` seconds after it was opened, or after data arrived, without a request.

    Data after the response to a request that was refused before its body was read do not count as a request. A connection whose client reads
    nothing of a response for this time is closed, too.
    """

    _request: asyncio.TimerHandle | None = None
    _response: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Wait for a request."""
        super().connection_made(transport)
        self._watch_request()

    def data_received(self, data: bytes) -> None:
        """Process data, and wait for the rest of the request's head."""
        super().data_received(data)
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        for timer in (self._request, self._response):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the client reads."""
        super().pause_writing()
        self._watch_response(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Stop waiting for the client to read."""
        super().resume_writing()
        if self._response is not None:
            self._response.cancel()
            self._response = None

    def _watch_request(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self._request is not None:
            self._request.cancel()
            self._request = None
        elif not answering and self._request is None:
            self._request = self.loop.call_later(PATIENCE, self.transport.close)

    def _watch_response(self, before: int) -> None:
        def look() -> None:
            unread = self.transport.get_write_buffer_size()
            if unread >= before:
                self.transport.abort()
            else:
                self._watch_response(unread)

        self._response = self.loop.call_later(PATIENCE, look)
