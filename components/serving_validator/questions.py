"""What a served model is asked, and what is wrong with its answers, in words.

Every function returns reasons not to bless the model; none is good news.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import tensorflow as tf

from serving.client import CallOptions, Caption, CaptionClient
from serving.errors import ServingError
from serving.launcher import Endpoint

_ENTRY_POINTS = ("gRPC", "REST")
# A server that hangs on a hostile request is found out by this deadline, in seconds.
_OPTIONS = CallOptions(timeout=60, attempts=1)


@dataclass(frozen=True)
class Example:
    """An example of the eval split.

    Attributes:
      image: `image/encoded`.
      serialized: The whole tf.Example.
    """

    image: bytes
    serialized: bytes


def ask_about_examples(
    endpoint: Endpoint, model: str, examples: Sequence[Example], saved_model: Path, tolerance: float
) -> list[str]:
    """Captions over gRPC and REST against those of the SavedModel called directly.

    Args:
      endpoint: The server.
      model: Name the model is served under.
      examples: What is asked.
      saved_model: The same model on disk.
      tolerance: Largest difference of scores.
    """
    expected = _direct_captions(saved_model, examples)
    reasons = []
    for name, client in _clients(endpoint, model):
        with client:
            try:
                captions = [client.caption(example.image) for example in examples]
                reasons += _compare(f"{name}, one by one", captions, expected, tolerance)
                batch = client.captions([example.image for example in examples])
                reasons += _compare(f"{name}, as a batch", batch, expected, tolerance)
                reasons += _check_beams(name, client, examples[0], expected[0], tolerance)
                reasons += _check_attention(name, client, examples[0])
            except ServingError as error:
                reasons.append(f"{name}: a real image was answered with {error}")
    return reasons


def ask_hostile_things(endpoint: Endpoint, model: str, good: bytes) -> list[str]:
    """Broken images beside a good one, and requests that are wrong in themselves.

    Args:
      endpoint: The server.
      model: Name the model is served under.
      good: An image it captions.
    """
    reasons = []
    for name, client in _clients(endpoint, model):
        with client:
            try:
                expected = client.caption(good)
                for what, broken in _broken_images(good):
                    reasons += _ask_broken(name, client, what, broken, good, expected)
            except ServingError as error:
                reasons.append(f"{name}: a good image was answered with {error}")
    return reasons + _ask_wrong_requests(endpoint, model)


def _ask_broken(
    name: str, client: CaptionClient, what: str, broken: bytes, good: bytes, expected: Caption
) -> list[str]:
    where = f"{name}: {what} between two good images"
    before, answer, after = client.captions([good, broken, good])
    reasons = []
    for neighbour in (before, after):
        if not isinstance(neighbour, Caption) or neighbour.text != expected.text:
            reasons.append(f"{where} changed a neighbour's caption to {neighbour!r}")
    if isinstance(answer, ServingError):
        return reasons  # Refused by itself: INVALID_ARGUMENT, or `captions` would have raised.
    if not answer.text and answer.score != -math.inf:
        reasons.append(f"{where} got no caption but score {answer.score}, not -inf")
    if what == "text" and answer.text:
        reasons.append(f"{where} got the caption {answer.text!r}")
    return reasons


def _ask_wrong_requests(endpoint: Endpoint, model: str) -> list[str]:
    reasons = []
    with CaptionClient(endpoint.grpc_url, model=f"no-{model}", options=_OPTIONS) as client:
        try:
            client.caption(b"")
            reasons.append("gRPC: a model of another name was answered")
        except ServingError as error:
            if error.code != "NOT_FOUND":
                reasons.append(f"gRPC: a model of another name got {error}, not NOT_FOUND")
    path = f"/v1/models/{model}:predict"
    for what, body in (
        ("no JSON", b"{"),
        ("a number for an image", b'{"instances": [1]}'),
        ("bad base64", b'{"instances": [{"b64": "!"}]}'),
        ("an unknown signature", b'{"signature_name": "no", "instances": [""]}'),
    ):
        try:
            status = httpx.post(
                endpoint.rest_url + path, content=body, timeout=_OPTIONS.timeout
            ).status_code
        except httpx.HTTPError as error:
            reasons.append(f"REST: {what} ended in {type(error).__name__}: {error}")
            continue
        if status != 400:
            reasons.append(f"REST: {what} got status {status}, not 400")
    return reasons


def _clients(endpoint: Endpoint, model: str) -> Iterator[tuple[str, CaptionClient]]:
    for name, url in zip(_ENTRY_POINTS, (endpoint.grpc_url, endpoint.rest_url), strict=True):
        yield name, CaptionClient(url, model=model, options=_OPTIONS)


def _direct_captions(saved_model: Path, examples: Sequence[Example]) -> list[Caption]:
    """Captions by the signature that takes whole Examples, which is checked on the way."""
    model = tf.saved_model.load(str(saved_model))
    answer = model.signatures["serving_examples"](
        examples=tf.constant([example.serialized for example in examples])
    )
    return [
        Caption(text.decode("utf-8", errors="replace"), float(score))
        for text, score in zip(answer["caption"].numpy(), answer["score"].numpy(), strict=True)
    ]


def _compare(
    where: str, captions: Sequence[Any], expected: Sequence[Caption], tolerance: float
) -> list[str]:
    reasons = []
    for index, (caption, wanted) in enumerate(zip(captions, expected, strict=True)):
        what = f"{where}, image {index}"
        if isinstance(caption, ServingError):
            reasons.append(f"{what}: {caption}")
        elif not caption.text:
            reasons.append(f"{what}: the caption is empty")
        elif not math.isfinite(caption.score):
            reasons.append(f"{what}: the score is {caption.score}")
        elif abs(caption.score - wanted.score) > tolerance:
            reasons.append(
                f"{what}: the score is {caption.score}, called directly {wanted.score}; "
                f"the tolerance is {tolerance}"
            )
        elif caption.text != wanted.text:
            reasons.append(f"{what}: {caption.text!r}, called directly {wanted.text!r}")
    return reasons


def _check_beams(
    name: str, client: CaptionClient, example: Example, best: Caption, tolerance: float
) -> list[str]:
    beams = client.beams(example.image)
    scores = [beam.score for beam in beams]
    reasons = []
    if scores != sorted(scores, reverse=True):
        reasons.append(f"{name}: the beams' scores do not fall: {scores}")
    if not beams or abs(beams[0].score - best.score) > tolerance:
        reasons.append(f"{name}: the first beam is not the caption: {beams[:1]}, {best}")
    return reasons


def _check_attention(name: str, client: CaptionClient, example: Example) -> list[str]:
    attention = client.attention(example.image)
    if not attention.tokens:
        return [f"{name}: the attention has no words"]
    reasons = []
    for token, grid in zip(attention.tokens, attention.maps, strict=True):
        total = sum(sum(row) for row in grid)
        if not math.isclose(total, 1.0, abs_tol=1e-2):
            reasons.append(f"{name}: the attention of {token!r} sums to {total:.4f}, not 1")
    return reasons


def _broken_images(good: bytes) -> list[tuple[str, bytes]]:
    return [
        ("text", b"this is no image"),
        ("nothing", b""),
        ("a truncated image", good[: len(good) // 2]),
        ("a PNG without pixels", b"\x89PNG\r\n\x1a\n" + bytes(32)),
        ("a JPEG without pixels", b"\xff\xd8\xff\xe0" + bytes(32)),
    ]
