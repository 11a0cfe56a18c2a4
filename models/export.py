"""The SavedModel: image bytes in, captions out.

Core TensorFlow ops only, so that a stock TensorFlow Serving binary runs it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from tfx_captioner.models import images, text
from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.data_config import START_ID, to_plain
from tfx_captioner.models.decoders.recurrent import EncodedImages
from tfx_captioner.models.decoding import DecoderSteps, Hypotheses, beam_search
from tfx_captioner.models.encoders import Encoder
from tfx_captioner.models.vocabulary import Vocabulary
from tfx_captioner.models.weights import TrainedModel

# Score where there is no caption: far below any log-probability, and written exactly as JSON.
NO_CAPTION_SCORE = -1e9
METADATA_NAME = "captioner.json"
WARMUP_NAME = "tf_serving_warmup_requests"


class ServedCaptioner:
    """The served model: decoding of images, encoder, beam search, words.

    Example:

    ```python
    served = ServedCaptioner(captioner, encoder, vocabulary, DecodingConfig(beam_size=3))
    answer = served.caption(tf.constant([jpeg]))
    print(answer["caption"], answer["score"])
    ```

    Args:
      captioner: The trained model.
      encoder: Encoder of the model, trained with it or frozen.
      vocabulary: Words of the token ids.
      decoding: Settings of the beam search.
    """

    def __init__(
        self,
        captioner: Captioner,
        encoder: Encoder,
        vocabulary: Vocabulary,
        decoding: DecodingConfig,
    ):
        self._model = Captioner(captioner.decoder, encoder.model)
        self._input_size = encoder.input_size
        self._grid = encoder.grid
        self._vocabulary = vocabulary
        self._decoding = decoding

    @property
    def weights(self) -> list[tf.Variable]:
        """Weights that the signatures read."""
        return [variable.value for variable in self._model.variables]

    def signatures(self) -> dict[str, Callable]:
        """Concrete signatures by name."""

        def signature(function: Callable, argument: str) -> tf.types.experimental.GenericFunction:
            spec = tf.TensorSpec([None], tf.string, name=argument)
            return tf.function(_of_any_number(function), input_signature=[spec], autograph=False)

        return {
            "serving_default": signature(self.caption, "image_bytes"),
            "beams": signature(self.beams, "image_bytes"),
            "attention": signature(self.attention, "image_bytes"),
            "serving_examples": signature(self.caption_examples, "examples"),
        }

    def caption(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Captions JPEGs or PNGs, string [N]: `caption` string [N], `score` float32 [N].

        What `images.decode_or_black` does not decode gets an empty caption of `NO_CAPTION_SCORE`.
        """
        beams = self.beams(image_bytes)
        return {"caption": beams["captions"][:, 0], "score": beams["scores"][:, 0]}

    def beams(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """All hypotheses: `captions` string [N, beam], best first, `scores` float32 [N, beam].

        Where there are fewer hypotheses than beams, the rest is as where there is no caption.
        """
        hypotheses, decodable, _ = self._search(image_bytes)
        captions = text.detokenize(self._vocabulary.words(hypotheses.token_ids))
        is_caption = decodable[:, None] & (hypotheses.scores != -float("inf"))
        return {
            "captions": tf.where(is_caption, captions, ""),
            "scores": tf.where(is_caption, hypotheses.scores, NO_CAPTION_SCORE),
        }

    def attention(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Best caption: `tokens` string [N, T], `attention` float32 [N, T, height, width].

        Each word's weights over the feature grid sum to one; those of a decoder without attention
        are the same everywhere.
        """
        hypotheses, decodable, encoded = self._search(image_bytes)
        token_ids = hypotheses.token_ids[:, 0, :-1]
        start = tf.fill([tf.shape(token_ids)[0], 1], START_ID)
        _, weights = self._model.decoder(tf.concat([start, token_ids[:, :-1]], 1), encoded)
        height, width = self._grid
        shape = [tf.shape(token_ids)[0], self._decoding.max_length, height, width]
        maps = (
            tf.fill(shape, 1.0 / (height * width))
            if weights is None
            else tf.reshape(weights, shape)
        )
        tokens = tf.where(decodable[:, None], self._vocabulary.words(token_ids), "")
        is_word = tf.cast(tokens != "", tf.float32)
        return {"tokens": tokens, "attention": maps * is_word[:, :, None, None]}

    def caption_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Captions serialized raw examples, string [N], as `caption` does."""
        spec = {"image/encoded": tf.io.FixedLenFeature([], tf.string, default_value="")}
        return self.caption(tf.io.parse_example(examples, spec)["image/encoded"])

    def _search(self, image_bytes: tf.Tensor) -> tuple[Hypotheses, tf.Tensor, EncodedImages]:
        pixels, decodable = images.decode_or_black(image_bytes, self._input_size)
        encoded = self._model.encode(pixels)
        hypotheses = beam_search(
            DecoderSteps(self._model.decoder), encoded, self._decoding, self._vocabulary
        )
        return hypotheses, decodable, encoded


def _of_any_number(function: Callable) -> Callable:
    """Lets a function take an empty batch too: convolutions on the CPU refuse that."""

    def run(values: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(values)[0]
        stand_in = tf.fill([tf.cast(count == 0, tf.int32)], "")
        outputs = function(tf.concat([values, stand_in], 0))
        return {name: output[:count] for name, output in outputs.items()}

    return run


def export(
    folder: str, trained: TrainedModel, vocabulary: Vocabulary, decoding: DecodingConfig
) -> None:
    """Writes the SavedModel with `assets.extra`.

    Args:
      folder: Folder of the SavedModel; any path of tf.io.gfile.
      trained: The model, and what it was trained by.
      vocabulary: Words of the token ids.
      decoding: Settings of the beam search.
    """
    run, encoder = trained.run, trained.encoder
    served = ServedCaptioner(trained.captioner, encoder, vocabulary, decoding)
    # Of a Keras variable the saver makes a copy that the signatures do not read; an object loaded
    # into Python does not mind, but a Session, and so TensorFlow Serving, finds no value.
    saved = tf.Module()
    saved.weights = served.weights
    tf.saved_model.save(saved, folder, signatures=served.signatures())
    extra = f"{folder}/assets.extra"
    tf.io.gfile.makedirs(extra)
    metadata = {
        "model_name": run.model_name,
        "model": to_plain(run.model),
        "input_size": encoder.input_size,
        "grid": list(encoder.grid),
        "vocabulary_size": vocabulary.size,
        "max_caption_length": run.text.max_caption_length,
        "decoding": to_plain(decoding),
        "code_fingerprint": run.code_fingerprint,
        "training": dict(trained.facts),
    }
    with tf.io.gfile.GFile(f"{extra}/{METADATA_NAME}", "w") as file:
        file.write(json.dumps(metadata, indent=2))
    _write_warmup(f"{extra}/{WARMUP_NAME}", run.model_name, encoder.input_size)


def _write_warmup(path: str, model_name: str, size: int) -> None:
    """Requests that a server answers before it says it is ready: tracing costs no client time."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    with tf.io.TFRecordWriter(path) as writer:
        for signature in ("serving_default", "beams", "attention"):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([jpeg.getvalue()]))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
