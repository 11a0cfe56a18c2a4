"""Requests that probe a served model, and what is wrong with its answers, in words.

Every function returns reasons not to bless the model; none is good news.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
import tensorflow as tf

from tfx_captioner.models import images
from tfx_captioner.serving.client import (
    NO_CAPTION_SCORE,
    Attention,
    CallOptions,
    Caption,
    CaptionClient,
    read_captions,
)
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.launcher import Endpoint
from tfx_captioner.serving.saved_model import OUTPUTS, SavedCaptioner, UnusableModelError
from tfx_captioner.serving.transports import Transport, connect
from tfx_captioner.serving.wire import Answer, Target, to_text

Direct: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]

_ENTRY_POINTS = ("gRPC", "REST")
# Broken images that a caption must not be made of.
_TEXT, _TOO_LARGE = "text", "a picture of too many pixels"
# A server that hangs on a hostile request is found out by this deadline, in seconds.
_OPTIONS = CallOptions(timeout=60, attempts=1)


class WrongFormError(Exception):
    """The model has not the signatures and outputs of a captioner; the message says which."""


@dataclass(frozen=True)
class Example:
    """An example of the eval split.

    Attributes:
      image: `image/encoded`.
      serialized: The whole tf.Example.
    """

    image: bytes
    serialized: bytes


def call_directly(saved_model: Path, examples: Sequence[Example]) -> Direct:
    """What every signature of the SavedModel gives for the examples, without a server.

    Args:
      saved_model: The model on disk.
      examples: What is asked, N of them.

    Returns:
      Arrays by output alias, [N, ...], by signature.

    Raises:
      WrongFormError: A signature is missing, fails, or gives something else than it should.
    """
    try:
        captioner = SavedCaptioner(str(saved_model), OUTPUTS)
    except UnusableModelError as error:
        raise WrongFormError(str(error)) from error
    answers: dict[str, Mapping[str, np.ndarray]] = {}
    for name in OUTPUTS:
        try:
            answers[name] = captioner.call(name, _values_for(name, examples))
        except (TypeError, tf.errors.OpError) as error:
            raise WrongFormError(f"called directly, `{name}` fails: {error}") from error
        _check_form(name, answers[name], len(examples))
    return answers


def probe_examples(
    endpoint: Endpoint, model: str, examples: Sequence[Example], direct: Direct, tolerance: float
) -> list[str]:
    """Answers over gRPC and REST against those of the SavedModel called directly.

    Args:
      endpoint: The server.
      model: Name the model is served under.
      examples: What is asked.
      direct: What `call_directly` gave for them.
      tolerance: Largest difference of numbers.
    """
    # From the signature that takes whole Examples, so that both ways into the model must agree.
    expected = read_captions(_as_answer(direct["serving_examples"]))
    pictures = [example.image for example in examples]
    reasons = []
    for name, client in _clients(endpoint, model):
        with client:
            try:
                captions = [client.caption(image) for image in pictures]
                reasons += _compare(f"{name}, one by one", captions, expected, tolerance)
                batch = client.captions(pictures)
                reasons += _compare(f"{name}, as a batch", batch, expected, tolerance)
                reasons += _check_beams(name, client.beams(pictures[0]))
                reasons += _check_attention(name, client.attention(pictures[0]))
            except ServingError as error:
                reasons.append(f"{name}: a real image was answered with {error}")
    for name, transport in _transports(endpoint):
        for signature in ("beams", "attention", "serving_examples"):
            asked = _values_for(signature, examples)
            try:
                answer = transport.predict(Target(model), signature, asked, _OPTIONS.timeout)
            except ServingError as error:
                reasons.append(f"{name}, `{signature}`: {error}")
                continue
            reasons += _compare_outputs(
                f"{name}, `{signature}`", answer.outputs, direct[signature], tolerance
            )
        transport.close()
    return reasons


def probe_hostile_inputs(endpoint: Endpoint, model: str, good: bytes) -> list[str]:
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
                    reasons += _probe_broken(name, client, what, broken, good, expected)
            except ServingError as error:
                reasons.append(f"{name}: a good image was answered with {error}")
    return reasons + _probe_malformed_requests(endpoint, model)


def _probe_broken(
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
    if not answer.text and answer.score != NO_CAPTION_SCORE:
        reasons.append(f"{where} got no caption but score {answer.score}, not {NO_CAPTION_SCORE:g}")
    if what in (_TEXT, _TOO_LARGE) and answer.text:
        reasons.append(f"{where} got the caption {answer.text!r}")
    return reasons


def _probe_malformed_requests(endpoint: Endpoint, model: str) -> list[str]:
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


def _transports(endpoint: Endpoint) -> Iterator[tuple[str, Transport]]:
    for name, url in zip(_ENTRY_POINTS, (endpoint.grpc_url, endpoint.rest_url), strict=True):
        yield name, connect(url)


def _values_for(signature: str, examples: Sequence[Example]) -> list[bytes]:
    """What a signature takes of the examples."""
    whole = signature == "serving_examples"
    return [example.serialized if whole else example.image for example in examples]


def _check_form(name: str, answer: Mapping[str, np.ndarray], count: int) -> None:
    if set(answer) != set(OUTPUTS[name]):
        raise WrongFormError(
            f"signature `{name}` gives {', '.join(sorted(answer))}, "
            f"not {', '.join(sorted(OUTPUTS[name]))}"
        )
    for alias, array in answer.items():
        wanted, rank = OUTPUTS[name][alias]
        dtype = np.dtype(wanted.as_numpy_dtype)  # strings are objects to numpy
        if array.dtype != dtype or array.ndim != rank or len(array) != count:
            raise WrongFormError(
                f"output `{alias}` of signature `{name}` is {array.dtype.name} {array.shape}, "
                f"not {dtype.name} of rank {rank} with one row for each of {count} images"
            )


def _as_answer(outputs: Mapping[str, np.ndarray]) -> Answer:
    return Answer({alias: to_text(array.tolist()) for alias, array in outputs.items()})


def _compare_outputs(
    where: str,
    served: Mapping[str, list[Any]],
    direct: Mapping[str, np.ndarray],
    tolerance: float,
) -> list[str]:
    """Shapes and values of all outputs of a signature."""
    if set(served) != set(direct):
        return [f"{where}: the outputs are {sorted(served)}, called directly {sorted(direct)}"]
    reasons = []
    for alias, wanted in sorted(direct.items()):
        numbers = wanted.dtype != object
        got = np.array(served[alias], wanted.dtype)
        if got.shape != wanted.shape:
            reasons.append(
                f"{where}: `{alias}` has shape {got.shape}, called directly {wanted.shape}"
            )
        elif numbers and not np.allclose(got, wanted, rtol=0, atol=tolerance):
            reasons.append(
                f"{where}: `{alias}` is up to {np.abs(got - wanted).max()} from what it is called "
                f"directly; the tolerance is {tolerance}"
            )
        elif not numbers and got.tolist() != to_text(wanted.tolist()):
            reasons.append(
                f"{where}: `{alias}` is {got.tolist()}, called directly {to_text(wanted.tolist())}"
            )
    return reasons


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


def _check_beams(name: str, beams: Sequence[Caption]) -> list[str]:
    scores = [beam.score for beam in beams]
    if scores != sorted(scores, reverse=True):
        return [f"{name}: the beams' scores do not fall: {scores}"]
    return []


def _check_attention(name: str, attention: Attention) -> list[str]:
    if not attention.tokens:
        return [f"{name}: the attention has no words"]
    reasons = []
    for token, grid in zip(attention.tokens, attention.maps, strict=True):
        total = sum(sum(row) for row in grid)
        if not math.isclose(total, 1.0, abs_tol=1e-2):
            reasons.append(f"{name}: the attention of {token!r} sums to {total:.4f}, not 1")
    return reasons


def _broken_images(good: bytes) -> list[tuple[str, bytes]]:
    side = math.isqrt(images.MAX_PIXELS) + 1
    return [
        (_TOO_LARGE, tf.io.encode_png(tf.zeros((side, side, 1), tf.uint8)).numpy()),
        (_TEXT, b"this is no image"),
        ("nothing", b""),
        ("a truncated image", good[: len(good) // 2]),
        ("a PNG without pixels", b"\x89PNG\r\n\x1a\n" + bytes(32)),
        ("a JPEG without pixels", b"\xff\xd8\xff\xe0" + bytes(32)),
    ]
