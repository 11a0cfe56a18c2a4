"""The four ways to a model server: gRPC and REST, blocking and awaited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

import grpc
import httpx

from serving import messages, wire
from serving.errors import ServingError
from serving.wire import Answer, ModelVersion, Target

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # the client retries by itself, alike over gRPC and REST
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_SCHEMES = "grpc://HOST:PORT, grpcs://HOST:PORT, http://HOST:PORT or https://HOST:PORT"


class Transport(Protocol):
    """One blocking try of each call; errors are ServingErrors."""

    def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer: ...

    def status(self, target: Target, timeout: float) -> list[ModelVersion]: ...

    def reload(self, config: Any, timeout: float) -> None: ...

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """One awaited try of each call; errors are ServingErrors."""

    async def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer: ...

    async def status(self, target: Target, timeout: float) -> list[ModelVersion]: ...

    async def reload(self, config: Any, timeout: float) -> None: ...

    async def close(self) -> None: ...


def connect(url: str) -> Transport:
    """A blocking transport to a server.

    Raises:
      ValueError: The URL is none of the allowed forms.
    """
    scheme, address = _split(url)
    if scheme.startswith("grpc"):
        return _GrpcTransport(scheme == "grpcs", address)
    return _HttpTransport(f"{scheme}://{address}")


def connect_async(url: str) -> AsyncTransport:
    """An awaited transport to a server.

    Raises:
      ValueError: The URL is none of the allowed forms.
    """
    scheme, address = _split(url)
    if scheme.startswith("grpc"):
        return _AsyncGrpcTransport(scheme == "grpcs", address)
    return _AsyncHttpTransport(f"{scheme}://{address}")


class _GrpcTransport:
    def __init__(self, secure: bool, address: str) -> None:
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), _CHANNEL_OPTIONS)
            if secure
            else grpc.insecure_channel(address, _CHANNEL_OPTIONS)
        )
        self._predict, self._status, self._reload = _methods(self._channel)

    def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        request = wire.predict_request(target, signature, images)
        return wire.read_predict(self._call(self._predict, request, timeout))

    def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        request = wire.status_request(target)
        return wire.read_status(self._call(self._status, request, timeout))

    def reload(self, config: Any, timeout: float) -> None:
        self._call(self._reload, messages.ReloadConfigRequest(config=config), timeout)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            _raise_grpc(error)


class _AsyncGrpcTransport:
    def __init__(self, secure: bool, address: str) -> None:
        self._channel = (
            grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), _CHANNEL_OPTIONS)
            if secure
            else grpc.aio.insecure_channel(address, _CHANNEL_OPTIONS)
        )
        self._predict, self._status, self._reload = _methods(self._channel)

    async def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        request = wire.predict_request(target, signature, images)
        return wire.read_predict(await self._call(self._predict, request, timeout))

    async def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        request = wire.status_request(target)
        return wire.read_status(await self._call(self._status, request, timeout))

    async def reload(self, config: Any, timeout: float) -> None:
        await self._call(self._reload, messages.ReloadConfigRequest(config=config), timeout)

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: Any, timeout: float) -> Any:
        try:
            return await method(request, timeout=timeout)
        except grpc.RpcError as error:
            _raise_grpc(error)


class _HttpTransport:
    def __init__(self, base_url: str) -> None:
        self._client = httpx.Client(base_url=base_url)

    def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        body = wire.predict_body(signature, images)
        document = self._call("POST", wire.predict_path(target), timeout, body)
        return wire.read_predict_json(document, signature)

    def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        return wire.read_status_json(self._call("GET", wire.status_path(target), timeout))

    def reload(self, config: Any, timeout: float) -> None:
        _refuse_reload()

    def close(self) -> None:
        self._client.close()

    def _call(
        self, method: str, path: str, timeout: float, body: bytes | None = None
    ) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, content=body, timeout=timeout)
        except httpx.HTTPError as error:
            _raise_http(error)
        return wire.read_json(response.status_code, response.content)


class _AsyncHttpTransport:
    def __init__(self, base_url: str) -> None:
        self._client = httpx.AsyncClient(base_url=base_url)

    async def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        body = wire.predict_body(signature, images)
        document = await self._call("POST", wire.predict_path(target), timeout, body)
        return wire.read_predict_json(document, signature)

    async def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        return wire.read_status_json(await self._call("GET", wire.status_path(target), timeout))

    async def reload(self, config: Any, timeout: float) -> None:
        _refuse_reload()

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, timeout: float, body: bytes | None = None
    ) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, content=body, timeout=timeout)
        except httpx.HTTPError as error:
            _raise_http(error)
        return wire.read_json(response.status_code, response.content)


def _split(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.hostname:
        raise ValueError(f"A server's URL is {_SCHEMES}. Received: {url!r}.")
    return parts.scheme, parts.netloc


def _methods(channel: Any) -> list[Any]:
    calls = (
        (wire.PREDICT_METHOD, messages.PredictRequest, messages.PredictResponse),
        (wire.STATUS_METHOD, messages.GetModelStatusRequest, messages.GetModelStatusResponse),
        (wire.RELOAD_METHOD, messages.ReloadConfigRequest, messages.ReloadConfigResponse),
    )
    return [
        channel.unary_unary(
            path,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        for path, request, response in calls
    ]


def _raise_grpc(error: Any) -> NoReturn:
    raise ServingError(error.code().name, error.details() or "") from error


def _raise_http(error: httpx.HTTPError) -> NoReturn:
    # Predicting changes nothing on the server, so a cut connection is worth another try.
    code = "DEADLINE_EXCEEDED" if isinstance(error, httpx.TimeoutException) else "UNAVAILABLE"
    raise ServingError(code, f"{type(error).__name__}: {error}") from error


def _refuse_reload() -> NoReturn:
    raise ServingError("UNIMPLEMENTED", "A configuration is reloaded over gRPC only.")
