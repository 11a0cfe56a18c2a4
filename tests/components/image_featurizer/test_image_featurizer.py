"""The ImageFeaturizer as a TFX node, on a few records."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import channel_utils, standard_artifacts

from tfx_captioner.components.image_featurizer.component import ImageFeaturizer
from tfx_captioner.components.image_featurizer.executor import Executor
from tfx_captioner.components.image_featurizer.featurizing import (
    Featurizer,
    FeaturizingError,
    Shard,
)
from tfx_captioner.models import images
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import EncoderError, build_encoder

SIZE = 32
JPEG = "JPEG"
BEAM_ARGS = ["--direct_running_mode=in_memory", "--direct_num_workers=1"]


def picture(seed: int, kind: str = JPEG) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def record(image_id: str, image: bytes) -> bytes:
    example = tf.train.Example()
    feature = example.features.feature
    feature["image/id"].bytes_list.value.append(image_id.encode())
    feature["image/encoded"].bytes_list.value.append(image)
    feature["caption/text"].bytes_list.value.extend([b"a dog", b"two dogs"])
    feature["caption/token_ids"].int64_list.value.extend([1, 4, 5, 2, 0, 0])
    return example.SerializeToString()


def write(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for one in records:
            writer.write(one)


def read(folder: Path) -> list[tf.train.Example]:
    files = sorted(str(path) for path in folder.iterdir())
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP")
    return [tf.train.Example.FromString(one.numpy()) for one in dataset]


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a small encoder, so that two builds of it give the same features."""
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    build_encoder(EncoderConfig("small_cnn", None, input_size=SIZE)).model.save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def encoder(encoder_file: str) -> EncoderConfig:
    return EncoderConfig("small_cnn", encoder_file, input_size=SIZE)


def examples_in(folder: Path, shards: dict[str, list[list[bytes]]]) -> standard_artifacts.Examples:
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    examples.split_names = json.dumps(list(shards))
    for split, files in shards.items():
        for index, records in enumerate(files):
            name = f"transformed_examples-{index:05d}-of-{len(files):05d}.gz"
            write(folder / f"Split-{split}" / name, records)
    return examples


def featurize(
    examples: standard_artifacts.Examples, out: Path, encoder: EncoderConfig, batch_size: int = 4
) -> standard_artifacts.Examples:
    """Runs the executor with what the component would hand it."""
    component = ImageFeaturizer(
        examples=channel_utils.as_channel([examples]),
        encoder=encoder,
        batch_size=batch_size,
        code_fingerprint="0",
    )
    output = standard_artifacts.Examples()
    output.uri = str(out)
    executor = Executor(
        BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM_ARGS), tmp_dir=str(out) + ".tmp")
    )
    executor.Do(
        {"transformed_examples": [examples]}, {"examples": [output]}, component.exec_properties
    )
    return output


def test_features_take_the_place_of_pixels(tmp_path: Path, encoder: EncoderConfig) -> None:
    train = [
        [record(f"{i}.jpg", picture(i)) for i in range(5)],
        [record("5.png", picture(5, "PNG"))],
    ]
    examples = examples_in(tmp_path / "in", {"train": train, "val": [[record("v", picture(9))]]})
    examples.span = 3
    output = featurize(examples, tmp_path / "out", encoder)

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "Split-train",
        "Split-val",
    ]
    assert sorted(path.name for path in (tmp_path / "out" / "Split-train").iterdir()) == [
        "featurized_examples-00000-of-00002.gz",
        "featurized_examples-00001-of-00002.gz",
    ]
    assert output.split_names == examples.split_names
    assert output.span == 3
    assert examples_utils.get_payload_format_string(output) == "FORMAT_TF_EXAMPLE"

    assert output.get_string_custom_property("encoder") == "small_cnn"
    assert output.get_int_custom_property("input_size") == SIZE
    assert output.get_string_custom_property("shape") == "4x128"
    assert output.get_string_custom_property("trained_from") == ""
    weights_sha256 = hashlib.sha256(Path(encoder.weights).read_bytes()).hexdigest()
    assert output.get_string_custom_property("weights_sha256") == weights_sha256

    featurized = read(tmp_path / "out" / "Split-train")
    reference = build_encoder(encoder)
    assert [one.features.feature["image/id"].bytes_list.value[0] for one in featurized] == [
        b"0.jpg", b"1.jpg", b"2.jpg", b"3.jpg", b"4.jpg", b"5.png",
    ]  # fmt: skip
    for before, after in zip(train[0] + train[1], featurized, strict=True):
        expected = tf.train.Example.FromString(before)
        image = expected.features.feature.pop("image/encoded").bytes_list.value[0]
        raw = after.features.feature.pop("image/features").bytes_list.value[0]
        mean = after.features.feature.pop("image/mean_features").bytes_list.value[0]
        assert after == expected
        features = np.frombuffer(raw, "<f2").reshape(reference.info.feature_shape)
        np.testing.assert_allclose(
            np.frombuffer(mean, "<f2"), features.mean(0, dtype=np.float32), rtol=2e-3, atol=1e-3
        )
        pixels = images.decode_and_resize(tf.constant([image]), SIZE)
        np.testing.assert_allclose(
            features, reference.model(pixels, training=False)[0], rtol=2e-3, atol=1e-3
        )


def test_an_encoder_trained_from_a_stage_on_is_applied_up_to_it(tmp_path: Path) -> None:
    weights = tmp_path / "vgg16.weights.h5"
    build_encoder(EncoderConfig("vgg16", None, input_size=SIZE)).model.save_weights(weights)
    config = EncoderConfig("vgg16", str(weights), True, "block5", SIZE)
    examples = examples_in(tmp_path / "in", {"val": [[record("v", picture(9))]]})
    output = featurize(examples, tmp_path / "out", config, batch_size=1)
    assert output.get_string_custom_property("shape") == "2x2x512"
    assert output.get_string_custom_property("trained_from") == "block5"

    [after] = read(tmp_path / "out" / "Split-val")
    made, mean = (
        np.frombuffer(after.features.feature[key].bytes_list.value[0], "<f2")
        for key in ("image/features", "image/mean_features")
    )
    reference = build_encoder(config)
    pixels = images.decode_and_resize(tf.constant([picture(9)]), SIZE)
    features = reference.model(pixels, training=False)
    np.testing.assert_allclose(mean, tf.reduce_mean(features, 1)[0], rtol=2e-3, atol=1e-3)
    # What is left to the Trainer makes the encoder's features of it.
    rest = reference.trained(made.reshape(1, 2, 2, 512).astype(np.float32))
    np.testing.assert_allclose(rest, features, rtol=5e-3, atol=1e-3 * np.max(features))


@pytest.fixture(scope="module")
def featurizer(encoder: EncoderConfig) -> Featurizer:
    return Featurizer(encoder, batch_size=4)


def shard_of(folder: Path, records: list[bytes]) -> Shard:
    write(folder / "shard.gz", records)
    (folder / "out").mkdir()
    return Shard(
        "train", str(folder / "shard.gz"), str(folder / "out" / "done.gz"), f"{folder}/partial-"
    )


def features_in(folder: Path) -> np.ndarray:
    values = [one.features.feature["image/features"].bytes_list.value[0] for one in read(folder)]
    return np.stack([np.frombuffer(value, "<f2") for value in values])


def test_batch_size_changes_nothing(
    tmp_path: Path, encoder: EncoderConfig, featurizer: Featurizer
) -> None:
    shard = shard_of(tmp_path, [record(str(i), picture(i)) for i in range(5)])
    featurizer.featurize(shard)
    four = features_in(tmp_path / "out")
    Featurizer(encoder, batch_size=2).featurize(shard)
    two = features_in(tmp_path / "out")
    assert four.shape == (5, 4 * 128)
    np.testing.assert_allclose(four, two, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    "image",
    [b"", b"GIF89a, or so it says", b"\xff\xd8\xff", picture(1, "PNG")[:60]],
    ids=["empty", "GIF", "JPEG signature", "half a PNG"],
)
def test_image_that_cannot_be_decoded_is_named(
    tmp_path: Path, featurizer: Featurizer, image: bytes
) -> None:
    shard = shard_of(tmp_path, [record("fine.jpg", picture(1)), record("broken.jpg", image)])
    with pytest.raises(FeaturizingError, match=r"in split train, shard\.gz: broken\.jpg") as caught:
        featurizer.featurize(shard)
    assert "fine.jpg" not in str(caught.value)
    assert not Path(shard.target).exists()


def test_truncated_jpeg_is_featurized_from_what_is_there(
    tmp_path: Path, featurizer: Featurizer
) -> None:
    truncated = picture(1)[: len(picture(1)) * 2 // 3]
    featurizer.featurize(shard_of(tmp_path, [record("cut.jpg", truncated)]))
    assert features_in(tmp_path / "out").shape == (1, 4 * 128)


def test_features_that_are_not_finite_are_named(tmp_path: Path) -> None:
    damaged = Featurizer(EncoderConfig("small_cnn", None, input_size=SIZE), batch_size=1)
    for variable in damaged.encoder.model.weights:
        variable.assign(variable * np.nan)
    with pytest.raises(FeaturizingError, match=r"Image one\.jpg of split train, .* not finite"):
        damaged.featurize(shard_of(tmp_path, [record("one.jpg", picture(1))]))


def test_damaged_shard_is_named(tmp_path: Path, featurizer: Featurizer) -> None:
    shard = shard_of(tmp_path, [record("1", picture(1))])
    Path(shard.source).write_bytes(Path(shard.source).read_bytes()[:-40])
    with pytest.raises(FeaturizingError, match=r"split train, shard\.gz is damaged"):
        featurizer.featurize(shard)


def test_shard_without_examples_becomes_an_empty_file(
    tmp_path: Path, featurizer: Featurizer
) -> None:
    featurizer.featurize(shard_of(tmp_path, []))
    assert read(tmp_path / "out") == []


def test_node_fails_with_the_name_of_the_image(tmp_path: Path, encoder: EncoderConfig) -> None:
    examples = examples_in(tmp_path / "in", {"val": [[record("broken.jpg", b"text")]]})
    with pytest.raises(Exception, match=r"cannot be decoded, in split val, .*: broken\.jpg"):
        featurize(examples, tmp_path / "out", encoder)


def test_missing_weights_are_found_before_anything_is_read(tmp_path: Path) -> None:
    examples = examples_in(tmp_path / "in", {"train": [[record("1", b"never looked at")]]})
    with pytest.raises(EncoderError, match="no such file"):
        featurize(examples, tmp_path / "out", EncoderConfig("small_cnn", "/missing.h5"))


def test_empty_split_is_an_error(tmp_path: Path, encoder: EncoderConfig) -> None:
    examples = examples_in(tmp_path / "in", {"train": [[record("1", picture(1))]], "val": []})
    with pytest.raises(ValueError, match=r"Split val .* must hold files"):
        featurize(examples, tmp_path / "out", encoder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EncoderConfig("small_cnn", "x.h5", trainable=True), "all of small_cnn is to be trained"),
        (EncoderConfig("vgg16", None), "must have weights that the Trainer finds again"),
    ],
)
def test_what_cannot_be_made_beforehand_is_refused(config: EncoderConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFeaturizer(
            examples=channel_utils.as_channel([standard_artifacts.Examples()]),
            encoder=config,
            batch_size=4,
            code_fingerprint="0",
        )
