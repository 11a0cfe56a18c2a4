"""HTTP as the local server takes it from a socket."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_END_OF_HEAD = re.compile(rb"\n\r?\n")


def protocol(timeout: float) -> type[H11Protocol]:
    """uvicorn's protocol, with an end to waiting for the client, and strict about its requests.

    A connection is cut when the head of a request is not whole, or an answer is not taken, after
    `timeout` seconds. uvicorn would wait for ever, and could not shut down meanwhile.

    Args:
      timeout: Seconds.
    """

    class Protocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None
        _answer_timer: asyncio.TimerHandle | None = None

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.conn = StrictConnection(h11.SERVER)

        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            # With room in its buffer the transport does not tell that an answer is not taken.
            transport.set_write_buffer_limits(high=0)
            self._watch_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._answer_timer = self.loop.call_later(timeout, self._cut)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._answer_timer:
                self._answer_timer.cancel()

        def connection_lost(self, exc) -> None:
            super().connection_lost(exc)  # resumes writing
            if self._head_timer:
                self._head_timer.cancel()

        def _watch_head(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                if self._head_timer:
                    self._head_timer.cancel()
                self._head_timer = None
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(timeout, self._cut)

        def _cut(self) -> None:
            # With a reset, or the kernel would go on offering the client what it does not take.
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.transport.abort()

    return Protocol


class StrictConnection(h11.Connection):
    """Refuses what two servers in a row may read differently (RFC 9112, sections 2.2 and 6.1).

    h11 takes a line feed alone for the end of a line, and of two lengths of a body the chunks.
    """

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            waiting, _ = self.trailing_data
            end = _END_OF_HEAD.search(waiting)
            head = waiting[: end.end()] if end else waiting
            if head.count(b"\n") != head.count(b"\r\n"):
                raise h11.RemoteProtocolError("a line of the head ends in a line feed alone")
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                raise h11.RemoteProtocolError("Content-Length beside Transfer-Encoding")
        return event
