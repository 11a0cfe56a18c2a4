"""A bound on what a web page is sent."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestSizeMiddleware:
    """Refuses larger bodies with 413, and cuts those that do not say their length."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wraps an application.

        Args:
          app: The application.
          max_bytes: Largest body.
        """
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_bytes:
            refusal = PlainTextResponse(f"At most {self._max_bytes} bytes.", status_code=413)
            await refusal(scope, receive, send)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self._max_bytes else {"type": "http.disconnect"}

        await self._app(scope, receive_bounded, send)
