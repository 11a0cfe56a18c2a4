"""The four ways to a model server: gRPC and REST, blocking and awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

import grpc
import httpx

from tfx_captioner.serving import messages, wire
from tfx_captioner.serving.addresses import is_loopback
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.wire import Answer, ModelVersion, Target

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

    def version(self, target: Target, timeout: float) -> int: ...

    def reload(self, config: Any, timeout: float) -> None: ...

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """One awaited try of each call; errors are ServingErrors."""

    async def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer: ...

    async def status(self, target: Target, timeout: float) -> list[ModelVersion]: ...

    async def version(self, target: Target, timeout: float) -> int: ...

    async def reload(self, config: Any, timeout: float) -> None: ...

    async def close(self) -> None: ...


def connect(url: str) -> Transport:
    """A blocking transport to a server.

    Raises:
      ValueError: The URL is none of the allowed forms.
    """
    address = _parse(url)
    return _GrpcTransport(address) if address.is_grpc else _HttpTransport(address)


def connect_async(url: str) -> AsyncTransport:
    """An awaited transport to a server.

    Raises:
      ValueError: The URL is none of the allowed forms.
    """
    address = _parse(url)
    return _AsyncGrpcTransport(address) if address.is_grpc else _AsyncHttpTransport(address)


@dataclass(frozen=True)
class _Address:
    scheme: str
    netloc: str
    is_loopback: bool

    @property
    def is_grpc(self) -> bool:
        return self.scheme.startswith("grpc")

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    def channel(self, grpc_api: Any) -> Any:
        """A channel of `grpc` or `grpc.aio`."""
        options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", int(not self.is_loopback))]
        if self.scheme == "grpcs":
            return grpc_api.secure_channel(self.netloc, grpc.ssl_channel_credentials(), options)
        return grpc_api.insecure_channel(self.netloc, options)


class _GrpcTransport:
    def __init__(self, address: _Address) -> None:
        self._channel = address.channel(grpc)
        self._predict, self._status, self._metadata, self._reload = _methods(self._channel)

    def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        request = wire.predict_request(target, signature, images)
        return wire.read_predict(self._call(self._predict, request, timeout))

    def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        request = wire.status_request(target)
        return wire.read_status(self._call(self._status, request, timeout))

    def version(self, target: Target, timeout: float) -> int:
        request = wire.metadata_request(target)
        response = self._call(self._metadata, request, timeout)
        return int(response.model_spec.version.value)

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
    def __init__(self, address: _Address) -> None:
        self._channel = address.channel(grpc.aio)
        self._predict, self._status, self._metadata, self._reload = _methods(self._channel)

    async def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        request = wire.predict_request(target, signature, images)
        return wire.read_predict(await self._call(self._predict, request, timeout))

    async def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        request = wire.status_request(target)
        return wire.read_status(await self._call(self._status, request, timeout))

    async def version(self, target: Target, timeout: float) -> int:
        request = wire.metadata_request(target)
        response = await self._call(self._metadata, request, timeout)
        return int(response.model_spec.version.value)

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
    def __init__(self, address: _Address) -> None:
        self._client = httpx.Client(base_url=address.base_url, trust_env=not address.is_loopback)

    def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        body = wire.predict_body(signature, images)
        document = self._call("POST", wire.predict_path(target), timeout, body)
        return wire.read_predict_json(document, signature)

    def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        return wire.read_status_json(self._call("GET", wire.status_path(target), timeout))

    def version(self, target: Target, timeout: float) -> int:
        document = self._call("GET", wire.metadata_path(target), timeout)
        return int(document["model_spec"]["version"])

    def reload(self, config: Any, timeout: float) -> None:
        _refuse_reload()

    def close(self) -> None:
        self._client.close()

    def _call(
        self, method: str, path: str, timeout: float, body: bytes | None = None
    ) -> dict[str, Any]:
        # httpx bounds every single read and write; what trickles in has to be bounded here.
        deadline = time.monotonic() + timeout
        content = bytearray()
        try:
            with self._client.stream(method, path, content=body, timeout=timeout) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout(f"no whole answer after {timeout:.1f} s")
        except httpx.HTTPError as error:
            _raise_http(error)
        return wire.read_json(response.status_code, bytes(content))


class _AsyncHttpTransport:
    def __init__(self, address: _Address) -> None:
        self._client = httpx.AsyncClient(
            base_url=address.base_url, trust_env=not address.is_loopback
        )

    async def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        body = wire.predict_body(signature, images)
        document = await self._call("POST", wire.predict_path(target), timeout, body)
        return wire.read_predict_json(document, signature)

    async def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        return wire.read_status_json(await self._call("GET", wire.status_path(target), timeout))

    async def version(self, target: Target, timeout: float) -> int:
        document = await self._call("GET", wire.metadata_path(target), timeout)
        return int(document["model_spec"]["version"])

    async def reload(self, config: Any, timeout: float) -> None:
        _refuse_reload()

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(
        self, method: str, path: str, timeout: float, body: bytes | None = None
    ) -> dict[str, Any]:
        call = self._client.request(method, path, content=body, timeout=timeout)
        try:
            response = await asyncio.wait_for(call, timeout)
        except (httpx.HTTPError, asyncio.TimeoutError) as error:
            _raise_http(error)
        return wire.read_json(response.status_code, response.content)


def _parse(url: str) -> _Address:
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "grpcs", "http", "https") or not parts.hostname:
        raise ValueError(f"A server's URL is {_SCHEMES}. Received: {url!r}.")
    # No proxy of the environment leads to this machine.
    return _Address(parts.scheme, parts.netloc, is_loopback(parts.hostname))


def _methods(channel: Any) -> list[Any]:
    calls = (
        (wire.PREDICT_METHOD, messages.PredictRequest, messages.PredictResponse),
        (wire.STATUS_METHOD, messages.GetModelStatusRequest, messages.GetModelStatusResponse),
        (
            wire.METADATA_METHOD,
            messages.GetModelMetadataRequest,
            messages.GetModelMetadataResponse,
        ),
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


def _raise_http(error: httpx.HTTPError | asyncio.TimeoutError) -> NoReturn:
    # Predicting changes nothing on the server, so a cut connection is worth another try.
    timed_out = isinstance(error, (httpx.TimeoutException, asyncio.TimeoutError))
    code = "DEADLINE_EXCEEDED" if timed_out else "UNAVAILABLE"
    raise ServingError(code, f"{type(error).__name__}: {error}") from error


def _refuse_reload() -> NoReturn:
    raise ServingError("UNIMPLEMENTED", "A configuration is reloaded over gRPC only.")
