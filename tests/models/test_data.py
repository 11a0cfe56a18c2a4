"""Batches of images with their captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.config import SourceMix
from tfx_captioner.models.data import CaptionData, read_features, read_pixels

# Three images with 2, 1 and 3 captions; an image is known by its value.
INPUTS = np.array([[10.0], [20.0], [30.0]], np.float16)
TOKEN_IDS = np.array(
    [
        *([1, 11, 2, 0, 0], [1, 12, 5, 2, 0]),
        [1, 21, 2, 0, 0],
        *([1, 31, 2, 0, 0], [1, 32, 5, 5, 2], [1, 33, 2, 0, 0]),
    ],
    np.int32,
)
DATA = CaptionData(INPUTS, TOKEN_IDS, np.array([0, 2, 3, 6]))


def _pairs(data: CaptionData, **kwargs: object) -> list[tuple[float, int]]:
    """(image, second token) of every caption in order."""
    pairs = []
    for batch in data.epoch(**kwargs).as_numpy_iterator():
        images = batch["inputs"][batch["image_index"], 0]
        pairs += zip(images.tolist(), batch["token_ids"][:, 1].tolist(), strict=True)
    return pairs


def test_every_caption_once_beside_its_image() -> None:
    pairs = _pairs(DATA, batch_size=4)
    assert pairs == [(10, 11), (10, 12), (20, 21), (30, 31), (30, 32), (30, 33)]


def test_batches_are_cut_to_their_longest_caption() -> None:
    widths = [b["token_ids"].shape[1] for b in DATA.epoch(batch_size=4).as_numpy_iterator()]
    assert widths == [4, 5]
    assert DATA.batches_per_epoch(4) == 2


def test_order_depends_on_seed_and_epoch_alone() -> None:
    data = CaptionData(
        np.arange(50, dtype=np.float16)[:, None],
        np.tile(np.array([[1, 7, 2]], np.int32), (50, 1)),
        np.arange(51),
    )
    one = _pairs(data, batch_size=8, shuffle=(3, 1))
    assert one == _pairs(data, batch_size=8, shuffle=(3, 1))
    assert one != _pairs(data, batch_size=8, shuffle=(3, 2))
    assert one != _pairs(data, batch_size=8, shuffle=(4, 1))
    assert sorted(one) == [(image, 7) for image in range(50)]


def _mixed(target_share: float) -> CaptionData:
    # The first image, with two of the six captions, is of the target.
    source = np.array([0, 2, 1], np.int32)
    mix = SourceMix(("coco", "mine"), target_share)
    return CaptionData(INPUTS, TOKEN_IDS, np.array([0, 2, 3, 6]), source, mix)


@pytest.mark.parametrize(("target_share", "times"), [(0.0, 1), (0.3, 1), (0.5, 2), (0.6, 3)])
def test_images_of_the_target_are_repeated_up_to_their_share(
    target_share: float, times: int
) -> None:
    data = _mixed(target_share)
    assert data.images_by_source == [1, 1, 1]
    seen = [image for image, _ in _pairs(data, batch_size=4, shuffle=(1, 1))]
    assert sorted(seen) == [10.0] * 2 * times + [20.0] + [30.0] * 3
    assert data.captions_per_epoch == 4 + 2 * times
    assert data.num_captions == 6
    batches = list(data.epoch(batch_size=4).as_numpy_iterator())
    assert len(batches) == data.batches_per_epoch(4)
    images = np.concatenate([batch["inputs"][:, 0] for batch in batches])
    numbers = np.concatenate([batch["source"] for batch in batches])
    sources = dict(zip(images.tolist(), numbers.tolist(), strict=True))
    assert sources == {10.0: 0, 20.0: 2, 30.0: 1}


def test_nothing_is_repeated_where_all_is_target_or_all_is_auxiliary() -> None:
    for number in (0, 1):
        source = np.full(3, number, np.int32)
        mix = SourceMix(("coco",), 0.9)
        data = CaptionData(INPUTS, TOKEN_IDS, np.array([0, 2, 3, 6]), source, mix)
        assert data.captions_per_epoch == 6


def test_pixels_are_decoded_to_uint8(transformed: Path) -> None:
    data = read_pixels([f"{transformed}/Split-val/*"], size=32, max_caption_length=8)
    assert (data.num_images, data.num_captions) == (6, 12)
    batch = next(data.epoch(batch_size=100).as_numpy_iterator())
    assert batch["inputs"].shape == (6, 32, 32, 3)
    assert batch["inputs"].dtype == np.uint8
    assert batch["inputs"][1, 0, 0].tolist() == [220, 20, 20]
    assert batch["token_ids"].shape == (12, 7)


def _write(path: Path, features: bytes, token_ids: list[int], source: bytes = b"") -> None:
    example = tf.train.Example()
    example.features.feature["image/features"].bytes_list.value.append(features)
    example.features.feature["caption/token_ids"].int64_list.value.extend(token_ids)
    example.features.feature["image/source"].bytes_list.value.append(source)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        writer.write(example.SerializeToString())


def test_features_are_read_as_float16_grids(tmp_path: Path) -> None:
    grid = np.arange(12, dtype=np.float16)
    _write(tmp_path / "one", grid.tobytes(), [1, 9, 2, 0, 1, 2, 0, 0])
    _write(tmp_path / "two", grid.tobytes(), [1, 2, 0, 0])
    data = read_features([str(tmp_path / "*")], shape=(4, 3), max_caption_length=4)
    batch = next(data.epoch(batch_size=9).as_numpy_iterator())
    # Captions without words are left out, and images that have no others.
    assert batch["token_ids"].tolist() == [[1, 9, 2]]
    assert batch["inputs"].tolist() == grid.reshape(1, 4, 3).tolist()


def test_sources_are_read_by_name(tmp_path: Path) -> None:
    grid = np.zeros(12, np.float16)
    for number, source in enumerate([b"flickr8k", b"coco", b"mine", b"coco"]):
        _write(tmp_path / str(number), grid.tobytes(), [1, 5 + number, 2, 0], source)
    data = read_features(
        [str(tmp_path / "*")],
        shape=(4, 3),
        max_caption_length=4,
        mix=SourceMix(auxiliary=("coco", "mine"), target_share=0.4),
    )
    batch = next(data.epoch(batch_size=9).as_numpy_iterator())
    # The target has two captions of five.
    assert batch["token_ids"][:, 1].tolist() == [5, 5, 6, 7, 8]
    assert batch["source"].tolist() == [0, 0, 1, 2, 1]


def test_features_of_another_encoder_are_an_error(tmp_path: Path) -> None:
    _write(tmp_path / "one", np.zeros(10, np.float16).tobytes(), [1, 9, 2, 0])
    with pytest.raises(ValueError, match=r"must hold 4 x 3 values.*Received: 10"):
        read_features([str(tmp_path / "one")], shape=(4, 3), max_caption_length=4)


def test_no_files_and_no_captions_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No training files match.*missing"):
        read_pixels([str(tmp_path / "missing*")], size=8, max_caption_length=4)
    _write(tmp_path / "one", np.zeros(12, np.float16).tobytes(), [1, 2, 0, 0])
    with pytest.raises(ValueError, match="No image with a caption that has words"):
        read_features([str(tmp_path / "one")], shape=(4, 3), max_caption_length=4)
