"""Client of a captioning service on TF Serving or on the local server.

Needs grpcio, httpx and protobuf, the package's extra `client`, and no TensorFlow:

    with CaptionClient("grpc://127.0.0.1:8500") as client:
        print(client.caption(Path("photo.jpg").read_bytes()).text)
"""

from __future__ import annotations

import asyncio
import collections
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tfx_captioner.serving import transports
from tfx_captioner.serving.bisection import Bisection
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.wire import Answer, ModelVersion, Target

DEFAULT_URL = "grpc://127.0.0.1:8500"
DEFAULT_MODEL = "captioner"
# What the models give beside an empty caption; a number that JSON has.
NO_CAPTION_SCORE = -1e9

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0  # seconds between tries
_T = TypeVar("_T")


@dataclass(frozen=True)
class Caption:
    """A caption of one image.

    Attributes:
      text: The caption; empty where the bytes are no JPEG or PNG, or one of too many pixels.
      score: Length-normalised log-probability; `NO_CAPTION_SCORE` for an empty caption.
      version: Model version that answered; None over REST, which does not tell.

    >>> Caption("a dog runs", -0.4).text
    'a dog runs'
    """

    text: str
    score: float
    version: int | None = None


@dataclass(frozen=True)
class Attention:
    """Where a model looked, word by word.

    Attributes:
      tokens: Words of the caption.
      maps: For each word a grid of weights, row by row, that sum to one.
    """

    tokens: tuple[str, ...]
    maps: tuple[list[list[float]], ...]


@dataclass(frozen=True)
class CallOptions:
    """How calls are made.

    Attributes:
      timeout: Seconds for a call, all its tries included.
      attempts: Tries at the most; transient errors are retried, with back-off.

    >>> CallOptions(timeout=5.0, attempts=1).timeout
    5.0
    """

    timeout: float = 30.0
    attempts: int = 5

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.attempts < 1:
            raise ValueError(
                "`timeout` must be above 0 and `attempts` at least 1. "
                f"Received: {self.timeout}, {self.attempts}."
            )


class CaptionClient:
    """Blocking client; may be shared by threads.

    Example:

    ```python
    with CaptionClient("grpc://127.0.0.1:8500", model="captioner") as client:
        print(client.caption(Path("photo.jpg").read_bytes()).text)
        for caption in client.stream(map(Path.read_bytes, Path("album").glob("*.jpg"))):
            print(caption)
    ```
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        options: CallOptions = CallOptions(),
        transport: transports.Transport | None = None,
    ) -> None:
        """Connects lazily: nothing is sent before the first call.

        Args:
          url: grpc://, grpcs://, http:// or https:// and HOST:PORT.
          model: Name of the model asked.
          version: Version of it; None for the latest.
          label: Label of a version, such as "stable", instead of `version`.
          options: Deadline and tries.
          transport: Another way to a model, instead of the URL.

        Raises:
          ValueError: The URL has another form, or both version and label are given.
        """
        self.target = Target(model, version, label)
        self._options = options
        self._transport = transport or transports.connect(url)

    def __enter__(self) -> CaptionClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def caption(self, image: bytes) -> Caption:
        """The best caption of a JPEG or PNG.

        Raises:
          ServingError: The server refused the image or could not be reached in time.
        """
        return read_captions(self._predict("serving_default", [image]))[0]

    def captions(self, images: Sequence[bytes]) -> list[Caption | ServingError]:
        """Captions of several images in one call.

        When the server refuses the batch, the images that are at fault are found by splitting it,
        and have their error in the place of a caption.

        Raises:
          ServingError: The server could not be reached in time.
        """
        search: Bisection[bytes, Caption, ServingError] = Bisection(images)
        while search.batch:
            try:
                search.answer(read_captions(self._predict("serving_default", search.batch)))
            except ServingError as error:
                if error.code != "INVALID_ARGUMENT":
                    raise
                search.refuse(error)
        return search.results

    def beams(self, image: bytes) -> tuple[Caption, ...]:
        """Alternative captions, the best first.

        Raises:
          ServingError: The server refused the image or could not be reached in time.
        """
        return read_beams(self._predict("beams", [image]))

    def attention(self, image: bytes) -> Attention:
        """The best caption's words, and where the model looked for each.

        Raises:
          ServingError: The server refused the image or could not be reached in time.
        """
        return read_attention(self._predict("attention", [image]))

    def stream(
        self, images: Iterable[bytes], *, in_flight: int = 8, batch_size: int = 1
    ) -> Iterator[Caption | ServingError]:
        """Captions of any number of images, in their order.

        The images are drawn as they are needed: at most `in_flight` calls wait at a time.

        Args:
          images: Encoded images.
          in_flight: Calls at the same time.
          batch_size: Images per call.

        Yields:
          A caption, or the error of an image the server refused.

        Raises:
          ServingError: The server could not be reached in time.
          ValueError: `in_flight` or `batch_size` is below 1.
        """
        _check_stream(in_flight, batch_size)
        with ThreadPoolExecutor(in_flight) as pool:
            waiting: collections.deque[Future[list[Caption | ServingError]]] = collections.deque()
            for batch in batched(images, batch_size):
                waiting.append(pool.submit(self.captions, batch))
                if len(waiting) >= in_flight:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def status(self) -> list[ModelVersion]:
        """Versions of the model and their states, newest first.

        Raises:
          ServingError: NOT_FOUND where the server never saw such a model.
        """
        return self._retry(lambda timeout: self._transport.status(self.target, timeout))

    def version(self) -> int:
        """The version that answers this client: the latest, or the one its label names now.

        Raises:
          ServingError: NOT_FOUND where it is not loaded, INVALID_ARGUMENT for an unknown label.
        """
        return self._retry(lambda timeout: self._transport.version(self.target, timeout))

    def reload(self, config: Any) -> None:
        """Replaces the server's configuration; over gRPC only, and tried once.

        Args:
          config: A `serving.messages.ModelServerConfig`.

        Raises:
          ServingError: The server refused it.
        """
        self._transport.reload(config, self._options.timeout)

    def _predict(self, signature: str, images: Sequence[bytes]) -> Answer:
        return self._retry(
            lambda timeout: self._transport.predict(self.target, signature, images, timeout)
        )

    def _retry(self, call: Callable[[float], _T]) -> _T:
        tries = _Tries(self._options)
        while True:
            try:
                return call(tries.remaining())
            except ServingError as error:
                time.sleep(tries.delay_or_raise(error))


class AsyncCaptionClient:
    """The same client for asyncio.

    Example:

    ```python
    async with AsyncCaptionClient("http://127.0.0.1:8501") as client:
        caption = await client.caption(Path("photo.jpg").read_bytes())
    ```
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        label: str | None = None,
        options: CallOptions = CallOptions(),
    ) -> None:
        """See `CaptionClient`; to be made inside the event loop."""
        self.target = Target(model, version, label)
        self._options = options
        self._transport = transports.connect_async(url)

    async def __aenter__(self) -> AsyncCaptionClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._transport.close()

    async def caption(self, image: bytes) -> Caption:
        """See `CaptionClient.caption`."""
        return read_captions(await self._predict("serving_default", [image]))[0]

    async def captions(self, images: Sequence[bytes]) -> list[Caption | ServingError]:
        """See `CaptionClient.captions`."""
        search: Bisection[bytes, Caption, ServingError] = Bisection(images)
        while search.batch:
            try:
                answer = await self._predict("serving_default", search.batch)
                search.answer(read_captions(answer))
            except ServingError as error:
                if error.code != "INVALID_ARGUMENT":
                    raise
                search.refuse(error)
        return search.results

    async def beams(self, image: bytes) -> tuple[Caption, ...]:
        """See `CaptionClient.beams`."""
        return read_beams(await self._predict("beams", [image]))

    async def attention(self, image: bytes) -> Attention:
        """See `CaptionClient.attention`."""
        return read_attention(await self._predict("attention", [image]))

    async def stream(
        self, images: Iterable[bytes], *, in_flight: int = 8, batch_size: int = 1
    ) -> AsyncIterator[Caption | ServingError]:
        """See `CaptionClient.stream`."""
        _check_stream(in_flight, batch_size)
        waiting: collections.deque[asyncio.Task[list[Caption | ServingError]]] = collections.deque()
        try:
            for batch in batched(images, batch_size):
                waiting.append(asyncio.create_task(self.captions(batch)))
                if len(waiting) >= in_flight:
                    for result in await waiting.popleft():
                        yield result
            while waiting:
                for result in await waiting.popleft():
                    yield result
        finally:
            for task in waiting:
                task.cancel()

    async def status(self) -> list[ModelVersion]:
        """See `CaptionClient.status`."""
        return await self._retry(lambda timeout: self._transport.status(self.target, timeout))

    async def version(self) -> int:
        """See `CaptionClient.version`."""
        return await self._retry(lambda timeout: self._transport.version(self.target, timeout))

    async def reload(self, config: Any) -> None:
        """See `CaptionClient.reload`."""
        await self._transport.reload(config, self._options.timeout)

    async def _predict(self, signature: str, images: Sequence[bytes]) -> Answer:
        return await self._retry(
            lambda timeout: self._transport.predict(self.target, signature, images, timeout)
        )

    async def _retry(self, call: Callable[[float], Any]) -> Any:
        tries = _Tries(self._options)
        while True:
            try:
                return await call(tries.remaining())
            except ServingError as error:
                await asyncio.sleep(tries.delay_or_raise(error))


class _Tries:
    """Counts the tries of one call against its deadline."""

    def __init__(self, options: CallOptions) -> None:
        self._left = options.attempts
        self._deadline = time.monotonic() + options.timeout
        self._ceiling = _FIRST_DELAY

    def remaining(self) -> float:
        return max(self._deadline - time.monotonic(), 1e-3)

    def delay_or_raise(self, error: ServingError) -> float:
        """Seconds before the next try; full jitter keeps many clients from coming back at once.

        Raises:
          ServingError: `error`, when another try is of no use or there is no time for it.
        """
        self._left -= 1
        delay = random.uniform(0, self._ceiling)
        self._ceiling = min(2 * self._ceiling, _LONGEST_DELAY)
        if not error.may_pass or not self._left or delay >= self.remaining():
            raise error
        return delay


def read_captions(answer: Answer) -> list[Caption]:
    """Captions of a `serving_default` answer."""
    texts, scores = answer.outputs["caption"], answer.outputs["score"]
    return _captions(texts, scores, answer.version)


def read_beams(answer: Answer) -> tuple[Caption, ...]:
    """Captions of a `beams` answer to one image."""
    texts, scores = answer.outputs["captions"][0], answer.outputs["scores"][0]
    return tuple(_captions(texts, scores, answer.version))


def _captions(texts: Sequence[str], scores: Sequence[Any], version: int | None) -> list[Caption]:
    return [Caption(text, float(score), version) for text, score in zip(texts, scores, strict=True)]


def read_attention(answer: Answer) -> Attention:
    """Tokens and maps of an `attention` answer to one image; padding is left out."""
    pairs = zip(answer.outputs["tokens"][0], answer.outputs["attention"][0], strict=True)
    kept = [(token, grid) for token, grid in pairs if token]
    return Attention(tuple(token for token, _ in kept), tuple(grid for _, grid in kept))


def _check_stream(in_flight: int, batch_size: int) -> None:
    if in_flight < 1 or batch_size < 1:
        raise ValueError(
            f"`in_flight` and `batch_size` must be at least 1. Received: {in_flight}, {batch_size}."
        )


def batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Lists of up to `size` items."""
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
