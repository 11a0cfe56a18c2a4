"""Bodies of REST requests: received and decompressed within bounds, and the costly ones queued.

What one client sends may neither take the memory of all nor keep the others waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request

from tfx_captioner.serving.local import json_parser
from tfx_captioner.serving.local.json_parser import WorkLimits
from tfx_captioner.serving.local.status import Code, StatusError, invalid_argument

# Bodies at the same time, in bodies of the largest size.
_LARGEST_BODIES = 8
# JPEG in base64 is made smaller by a quarter; what grows more than this is no photograph.
_USUAL_RATIO = 4
_USUAL_BYTES, _SMALL_BYTES = 16 << 20, 1 << 20
_WAITING = 8


class SlowBodyError(StatusError):
    """A body that did not arrive in time; nothing more of its connection is waited for."""

    def __init__(self) -> None:
        super().__init__(Code.DEADLINE_EXCEEDED, "The body did not arrive in time")


class BodyReader:
    """Receives bodies. When all of them together grow too large, the largest is given up."""

    def __init__(self, max_body_bytes: int) -> None:
        """Makes a reader, for one event loop.

        Args:
          max_body_bytes: Largest body.
        """
        self._max_body_bytes = max_body_bytes
        self._room = _LARGEST_BODIES * max_body_bytes
        self._arriving: dict[asyncio.Task[bytes], int] = {}

    @contextlib.asynccontextmanager
    async def body(self, request: Request, timeout: float) -> AsyncIterator[bytes]:
        """The body of a request; its memory counts until the end of the block.

        Args:
          request: The request.
          timeout: Seconds until the body is whole.

        Raises:
          StatusError: RESOURCE_EXHAUSTED; it is too large, or too much is on its way.
          SlowBodyError: It is not there in time.
        """
        task = asyncio.ensure_future(self._read(request))
        self._arriving[task] = 0
        held = 0
        try:
            await asyncio.wait({task}, timeout=timeout)
            if not task.done():
                raise SlowBodyError
            if task.cancelled():
                raise StatusError(
                    Code.RESOURCE_EXHAUSTED, "Too many large bodies at the same time; try again"
                )
            body = task.result()
            held = self._arriving.pop(task)
            yield body
        finally:
            task.cancel()
            self._room += held + self._arriving.pop(task, 0)

    async def _read(self, request: Request) -> bytes:
        task = asyncio.current_task()
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise too_large(self._max_body_bytes)
            if task in self._arriving:
                self._arriving[task] += len(chunk)
                self._room -= len(chunk)
                self._make_room()
        return bytes(body)

    def _make_room(self) -> None:
        while self._room < 0:
            # What has arrived cannot be given up any more, though nobody may have taken it yet.
            arriving = [task for task in self._arriving if not task.done()]
            if not arriving:
                return
            largest = max(arriving, key=lambda task: self._arriving[task])
            self._room += self._arriving.pop(largest)
            largest.cancel()


class CostlyLane:
    """Costly bodies are worked on one at a time, and a few may wait.

    All others pass them by. So an attack by such bodies holds up nobody but their like.
    """

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(1 + _WAITING)
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """Waits for its turn, and keeps it until the end of the block.

        Args:
          deadline: `time.monotonic()` at which nobody waits any more.

        Raises:
          StatusError: RESOURCE_EXHAUSTED; too many wait. DEADLINE_EXCEEDED.
        """
        if not self._places.acquire(blocking=False):
            raise StatusError(
                Code.RESOURCE_EXHAUSTED, "Too many costly bodies at the same time; try again"
            )
        try:
            if not self._turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before its turn")
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()


class Decoder:
    """Decompresses and parses bodies, in the thread of the caller."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._lane = CostlyLane()

    @contextlib.contextmanager
    def json(self, body: bytes, *, is_gzip: bool, limits: WorkLimits) -> Iterator[bytes]:
        """The JSON text of a body, to be parsed within the block.

        Args:
          body: As it came.
          is_gzip: Whether it is compressed.
          limits: Bounds of the work.

        Raises:
          StatusError: It is no whole gzip, too large, or its turn did not come.
        """
        # A body may be a thousand times as large when it is decompressed, so first a part of it.
        usual = min(_USUAL_BYTES, max(_SMALL_BYTES, _USUAL_RATIO * len(body)), self._max_body_bytes)
        plain = _gunzip(body, usual) if is_gzip else body
        if plain is not None and len(plain) <= _USUAL_BYTES and json_parser.is_simple(plain):
            yield plain
            return
        with self._lane.turn(limits.deadline):
            plain = _gunzip(body, self._max_body_bytes) if is_gzip else body
            if plain is None:
                raise too_large(self._max_body_bytes)
            yield plain


def too_large(limit: int) -> StatusError:
    """How a body above the limit is refused."""
    return StatusError(Code.RESOURCE_EXHAUSTED, f"The body is larger than {limit} bytes")


def _gunzip(body: bytes, limit: int) -> bytes | None:
    """The content of a gzip file; None where it is longer than a limit."""
    decompressor = zlib.decompressobj(wbits=31)
    try:
        plain = decompressor.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid_argument(
            f"The body is not gzip as its Content-Encoding says: {error}"
        ) from error
    if len(plain) > limit:
        return None
    if not decompressor.eof:
        raise invalid_argument("The body is not gzip as its Content-Encoding says: it has no end")
    if decompressor.unused_data:
        raise invalid_argument("Bytes follow the end of the gzip body")
    return plain
