"""One photograph gets one caption, whichever way it comes to the model."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfx_captioner.ingestion.pictures import prepare_picture
from tfx_captioner.pipeline import cli
from tfx_captioner.serving.client import Caption, CaptionClient
from tfx_captioner.serving.in_process import open_saved_model
from tfx_captioner.serving.launcher import Server
from tfx_captioner.serving.saved_model import SavedCaptioner

MODEL = "captioner"
# Where `saved_models.TinyCaptioner` looks, of a picture of 96 x 64 pixels.
LOOKED_AT = (24, 0, 48, 16)


def _scene() -> Image.Image:
    """Blue where the model looks, and another colour in the seven places like it."""
    image = Image.new("RGB", (96, 64), (220, 40, 30))
    image.paste((30, 200, 40), (48, 32, 96, 64))
    image.paste((20, 30, 230), LOOKED_AT)
    return image


def _encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


# How a camera that was held so stores what shall be seen as the scene.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def _stored(orientation: int) -> Image.Image:
    how = _STORED[orientation]
    return _scene() if how is None else _scene().transpose(how)


def _turned(orientation: int, form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encode(_stored(orientation), form, exif=exif)


def _clear_where_looked_at() -> Image.Image:
    image = _scene().convert("RGBA")
    image.paste((20, 30, 230, 0), LOOKED_AT)
    return image


_LEVELS = np.linspace(0, 65_535, 96 * 64).reshape(64, 96).astype(np.uint16)

# Each with the last word of its caption.
CASES = {
    **{f"JPEG, orientation {n}": (_turned(n, "JPEG"), "blue") for n in _STORED},
    **{f"PNG, orientation {n}": (_turned(n, "PNG"), "blue") for n in _STORED},
    "transparent": (_encode(_clear_where_looked_at(), "PNG"), "white"),
    "transparent gray": (_encode(_clear_where_looked_at().convert("LA"), "PNG"), "white"),
    "palette": (_encode(_scene().quantize(16), "PNG"), "blue"),
    "transparent palette": (_encode(_clear_where_looked_at().quantize(16), "PNG"), "white"),
    "gray": (_encode(_scene().convert("L"), "JPEG"), "white"),
    "16 bits": (_encode(Image.fromarray(_LEVELS), "PNG"), "white"),
}


@pytest.fixture(scope="module")
def roads(
    server: Server, serving_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Callable[[bytes], tuple[str, float]]]:
    """From the bytes of a file to its caption and score."""
    saved_model = serving_dir / MODEL / "1"
    in_process = SavedCaptioner(str(saved_model), ("serving_default", "serving_examples"))
    folder = tmp_path_factory.mktemp("photographs")

    def read(caption: Caption) -> tuple[str, float]:
        return caption.text, caption.score

    def ingested(data: bytes) -> tuple[str, float]:
        stored = prepare_picture(data, max_pixels=10**6, min_side=16).encoded
        return in_process.captions([stored])[0]

    def over_rest(data: bytes) -> tuple[str, float]:
        body = {"instances": [{"b64": base64.b64encode(data).decode()}]}
        url = f"{server.endpoint.rest_url}/v1/models/{MODEL}:predict"
        (row,) = httpx.post(url, json=body, timeout=60).json()["predictions"]
        return row["caption"], row["score"]

    def over_grpc(data: bytes) -> tuple[str, float]:
        with CaptionClient(server.endpoint.grpc_url) as client:
            return read(client.caption(data))

    def by_command(data: bytes) -> tuple[str, float]:
        (folder / "a.jpg").write_bytes(data)
        (folder / "b.jpg").write_bytes(data)
        arguments = ["caption", str(folder), "--server", server.endpoint.grpc_url]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert cli.main(arguments) == 0
        first, second = map(json.loads, out.getvalue().splitlines())
        assert first["caption"] == second["caption"]
        return first["caption"], first["score"]

    def on_the_page(data: bytes) -> tuple[str, float]:
        demo = pytest.importorskip("tfx_captioner.serving.demo", reason="needs the extra `demo`")
        upload = folder.with_name("upload.jpg")
        upload.write_bytes(data)
        page = demo.Page(server.endpoint.rest_url, [MODEL])
        text, rows, _ = page.explain(str(upload), MODEL)
        return text.partition("\n")[0], float(rows[0][1])

    def in_a_notebook(data: bytes) -> tuple[str, float]:
        with open_saved_model(saved_model) as client:
            return read(client.caption(data))

    return {
        "ingested": ingested,
        "signature": lambda data: in_process.captions([data])[0],
        "signature of examples": lambda data: _of_example(in_process, data),
        "REST": over_rest,
        "gRPC": over_grpc,
        "command": by_command,
        "page": on_the_page,
        "notebook": in_a_notebook,
    }


def _of_example(captioner: SavedCaptioner, data: bytes) -> tuple[str, float]:
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(data)
    answer = captioner.call("serving_examples", [example.SerializeToString()])
    return answer["caption"][0].decode(), float(answer["score"][0])


@pytest.mark.parametrize("name", CASES)
def test_one_picture_has_one_caption(
    name: str, roads: dict[str, Callable[[bytes], tuple[str, float]]]
) -> None:
    data, colour = CASES[name]
    answers = {road: ask(data) for road, ask in roads.items()}
    assert {text for text, _ in answers.values()} == {f"a {MODEL} scene in {colour}"}, answers
    for road, (_, score) in answers.items():
        # The ingestion has encoded some of them once more; the page shows three digits.
        assert score == pytest.approx(answers["ingested"][1], abs=0.02), (road, answers)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_scene_has_another_caption_any_other_way_up(
    orientation: int, roads: dict[str, Callable[[bytes], tuple[str, float]]]
) -> None:
    """Or the test above would not see whether it was turned."""
    text, _ = roads["signature"](_encode(_stored(orientation), "PNG"))
    assert not text.endswith("blue")


def test_transparency_hides_what_is_behind_it(
    roads: dict[str, Callable[[bytes], tuple[str, float]]],
) -> None:
    opaque = _clear_where_looked_at().convert("RGB")
    assert roads["signature"](_encode(opaque, "PNG"))[0].endswith("blue")
