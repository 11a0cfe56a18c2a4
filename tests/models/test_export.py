"""The SavedModel's contract, asked from outside."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfx_captioner.models.captioner import build_captioner
from tfx_captioner.models.config import DecodingConfig, RunConfig
from tfx_captioner.models.data_config import SPECIAL_TOKENS, parse
from tfx_captioner.models.encoders import build_encoder
from tfx_captioner.models.export import NO_CAPTION_SCORE, export
from tfx_captioner.models.vocabulary import Vocabulary
from tfx_captioner.models.weights import TrainedModel
from tfx_captioner.serving import client
from tfx_captioner.serving.saved_model import SavedCaptioner, UnusableModelError

BEAM, MIN_LENGTH, MAX_LENGTH = 2, 5, 8
WORDS = ("a", "dog", "cat", "runs", "sits", "on", "grass", "狗")


def _export(folder: Path, attention: str, trainable: bool) -> None:
    keras.utils.set_random_seed(4)
    run = {
        "model_name": "tiny",
        "model": {
            "encoder": {
                "name": "small_cnn",
                "weights": None,
                "trainable": trainable,
                "input_size": 32,
            },
            "decoder": {
                "cell": "lstm",
                "units": 8,
                "embedding_dim": 6,
                "attention": attention,
                "attention_heads": 2,
            },
        },
        "text": {},
        "trainer": {},
        "code_fingerprint": "0123",
        "checkpoint_root": "",
    }
    config = parse(RunConfig, run)
    encoder = build_encoder(config.model.encoder)
    vocabulary = Vocabulary(SPECIAL_TOKENS + WORDS)
    captioner = build_captioner(config.model, encoder, vocabulary.size)
    decoding = DecodingConfig(
        beam_size=BEAM, min_length=MIN_LENGTH, max_length=MAX_LENGTH, repeatable_words="a on"
    )
    trained = TrainedModel(config, encoder, captioner, {"val_loss": 1.5})
    export(str(folder), trained, vocabulary, decoding)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    _export(folder, "dot_product", trainable=True)
    return folder


@pytest.fixture(scope="module")
def signatures(exported: Path) -> dict[str, Callable]:
    model = tf.saved_model.load(str(exported))

    def call(name: str) -> Callable:
        return lambda value: model.signatures[name](tf.constant(value, tf.string))

    return {name: call(name) for name in model.signatures}


@pytest.fixture(scope="module")
def pictures(picture: Callable[[str, str], bytes]) -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    return [picture("red", "bright"), tf.io.encode_jpeg(noise).numpy(), picture("blue", "dark")]


def test_captions_and_scores(signatures: dict, pictures: list[bytes]) -> None:
    answer = signatures["serving_default"](pictures)
    assert set(answer) == {"caption", "score"}
    assert answer["caption"].shape == answer["score"].shape == (3,)
    assert answer["score"].dtype == tf.float32
    for caption in answer["caption"].numpy():
        words = caption.decode().replace("狗", " 狗 ").split()
        assert MIN_LENGTH <= len(words) <= MAX_LENGTH
        assert set(words) <= set(WORDS)
        assert all(words.count(word) == 1 for word in set(words) - {"a", "on"})
    assert (answer["score"].numpy() < 0).all()


def test_beams_are_sorted_and_begin_with_the_caption(
    signatures: dict, pictures: list[bytes]
) -> None:
    beams = signatures["beams"](pictures)
    best = signatures["serving_default"](pictures)
    assert beams["captions"].shape == beams["scores"].shape == (3, BEAM)
    assert (np.diff(beams["scores"].numpy(), axis=1) <= 0).all()
    assert beams["captions"][:, 0].numpy().tolist() == best["caption"].numpy().tolist()


def test_attention_is_per_word_and_sums_to_one(signatures: dict, pictures: list[bytes]) -> None:
    answer = signatures["attention"](pictures)
    tokens = answer["tokens"].numpy()
    assert tokens.shape == (3, MAX_LENGTH)
    assert answer["attention"].shape == (3, MAX_LENGTH, 2, 2)
    sums = answer["attention"].numpy().sum(axis=(2, 3))
    np.testing.assert_allclose(sums, (tokens != b"").astype("float32"), rtol=1e-5)
    captions = signatures["serving_default"](pictures)["caption"].numpy()
    for row, caption in zip(tokens, captions, strict=True):
        words = [token.decode() for token in row if token]
        assert "".join(words) == caption.decode().replace(" ", "")


@pytest.mark.parametrize("name", ["serving_default", "beams", "attention", "serving_examples"])
def test_no_image_has_no_caption(signatures: dict, name: str) -> None:
    some = signatures[name]([b""])
    none = signatures[name]([])
    assert {key: value.shape[1:] for key, value in none.items()} == {
        key: value.shape[1:] for key, value in some.items()
    }
    assert all(value.shape[0] == 0 for value in none.values())


def test_serialized_examples_are_captioned_alike(signatures: dict, pictures: list[bytes]) -> None:
    examples = []
    for encoded in pictures:
        example = tf.train.Example()
        example.features.feature["image/encoded"].bytes_list.value.append(encoded)
        example.features.feature["caption/text"].bytes_list.value.extend([b"one", b"two"])
        examples.append(example.SerializeToString())
    examples.append(tf.train.Example().SerializeToString())
    answer = signatures["serving_examples"](examples)
    expected = signatures["serving_default"](pictures)
    assert answer["caption"].numpy()[:3].tolist() == expected["caption"].numpy().tolist()
    assert answer["caption"].numpy()[3] == b""
    assert answer["score"].numpy()[3] == NO_CAPTION_SCORE


def test_bad_bytes_are_answered_empty_and_neighbours_are_not_harmed(
    signatures: dict, pictures: list[bytes]
) -> None:
    mixed = [b"", pictures[0], b"GIF89a no", pictures[1], b"%PDF-1.4 \x00\xff"]
    answer = signatures["serving_default"](mixed)
    good = signatures["serving_default"](pictures[:2])
    assert answer["caption"].numpy()[[0, 2, 4]].tolist() == [b"", b"", b""]
    assert (answer["score"].numpy()[[0, 2, 4]] == NO_CAPTION_SCORE).all()
    assert answer["caption"].numpy()[[1, 3]].tolist() == good["caption"].numpy().tolist()
    beams = signatures["beams"](mixed)
    assert (beams["captions"].numpy()[0] == b"").all()
    assert (beams["scores"].numpy()[0] == NO_CAPTION_SCORE).all()
    attention = signatures["attention"](mixed)
    assert (attention["tokens"].numpy()[0] == b"").all()
    assert attention["attention"].numpy()[0].sum() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_seen_upright(signatures: dict, orientation: int) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph, turned = io.BytesIO(), io.BytesIO()
    image.save(photograph, "PNG", exif=exif)
    ImageOps.exif_transpose(Image.open(photograph)).save(turned, "PNG")
    scores = signatures["beams"]([photograph.getvalue(), turned.getvalue()])["scores"].numpy()
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    unturned = signatures["beams"]([tf.io.encode_png(np.asarray(image)).numpy()])["scores"]
    assert np.allclose(scores[0], unturned[0], atol=1e-5) == (orientation == 1)


def test_a_picture_of_too_many_pixels_is_answered_like_no_picture(
    signatures: dict, pictures: list[bytes]
) -> None:
    huge = io.BytesIO()
    Image.new("1", (10_000, 5_001)).save(huge, "PNG")
    answer = signatures["serving_default"]([pictures[0], huge.getvalue(), pictures[1]])
    expected = signatures["serving_default"](pictures[:2])
    assert answer["caption"].numpy()[1] == b""
    assert answer["score"].numpy()[1] == NO_CAPTION_SCORE
    assert answer["caption"].numpy()[[0, 2]].tolist() == expected["caption"].numpy().tolist()


def test_the_score_of_no_caption_is_the_clients() -> None:
    assert NO_CAPTION_SCORE == client.NO_CAPTION_SCORE
    assert json.loads(json.dumps(float(np.float32(NO_CAPTION_SCORE)))) == NO_CAPTION_SCORE


def test_only_ops_of_stock_tensorflow_serving(exported: Path) -> None:
    proto = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    [graph] = proto.meta_graphs
    nodes = [*graph.graph_def.node]
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    ops = {node.op for node in nodes}
    assert "TopKV2" in ops
    # `tf.raw_ops` has the ops of TensorFlow itself and none that other packages load.
    assert not {op for op in ops if not hasattr(tf.raw_ops, op)}
    assert not ops & {"PyFunc", "EagerPyFunc", "PyFuncStateless"}


def test_a_session_reads_the_same_weights(
    exported: Path, signatures: dict, pictures: list[bytes]
) -> None:
    """TensorFlow Serving runs the graph in a Session, not the object Python loads."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = meta_graph.signature_def["serving_default"]
        captions, scores = session.run(
            [signature.outputs["caption"].name, signature.outputs["score"].name],
            {signature.inputs["image_bytes"].name: pictures},
        )
    direct = signatures["serving_default"](pictures)
    assert captions.tolist() == direct["caption"].numpy().tolist()
    np.testing.assert_allclose(scores, direct["score"], rtol=1e-5)


def test_metadata(exported: Path) -> None:
    path = exported / "assets.extra" / "captioner.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    assert metadata["model_name"] == "tiny"
    assert metadata["model"]["encoder"]["name"] == "small_cnn"
    assert metadata["vocabulary_size"] == len(SPECIAL_TOKENS) + len(WORDS)
    assert metadata["decoding"]["beam_size"] == BEAM
    assert metadata["code_fingerprint"] == "0123"
    assert metadata["training"] == {"val_loss": 1.5}


def test_warm_up_requests_can_be_answered(exported: Path, signatures: dict) -> None:
    path = exported / "assets.extra" / "tf_serving_warmup_requests"
    names = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        names.append(request.model_spec.signature_name)
        image_bytes = tf.make_ndarray(request.inputs["image_bytes"])
        answer = signatures[names[-1]](image_bytes)
        assert all(tensor.shape[0] == 1 for tensor in answer.values())
    assert names == ["serving_default", "beams", "attention"]


def test_without_attention_all_positions_are_alike(tmp_path: Path, pictures: list[bytes]) -> None:
    _export(tmp_path / "model", "none", trainable=False)
    model = tf.saved_model.load(str(tmp_path / "model"))
    answer = model.signatures["attention"](tf.constant(pictures))
    maps = answer["attention"].numpy()[answer["tokens"].numpy() != b""]
    np.testing.assert_allclose(maps, np.full_like(maps, 0.25))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableModelError, match="cannot be loaded"):
        SavedCaptioner(str(tmp_path))


def test_captions_in_the_process_are_strings(exported: Path, pictures: list[bytes]) -> None:
    [(caption, score), (empty, lowest)] = SavedCaptioner(str(exported)).captions(
        [pictures[0], b"x"]
    )
    assert isinstance(caption, str)
    assert NO_CAPTION_SCORE < score < 0
    assert (empty, lowest) == ("", NO_CAPTION_SCORE)
