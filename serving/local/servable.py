"""One loaded version of a SavedModel.

It is run as TF Serving runs it: the meta graph in a Session, inputs and outputs by the tensor names
of its signatures. Unlike objects of `tf.saved_model.load`, a Session lets go of its memory when it
is closed.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2

from tfx_captioner.serving.local import signatures
from tfx_captioner.serving.local.status import CODE_BY_NUMBER, Code, StatusError, invalid_argument

_LOG = logging.getLogger("captioner.serving")

_WARM_UP_FILE = Path("assets.extra/tf_serving_warmup_requests")
_MAX_WARM_UP_RECORDS = 1000

Inputs = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]


def _ignore_warm_up(path: str, status: str, seconds: float) -> None:
    """Where nobody measures."""


class Servable:
    """A SavedModel that is ready to answer.

    Attributes:
      path: Where it was loaded from.
      signatures: Its signatures by name, TensorFlow's internal ones (`__saved_model_init_op`)
        among them: TF Serving's metadata lists them too.
    """

    def __init__(
        self,
        path: Path,
        *,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
        on_warm_up: Callable[[str, str, float], None] = _ignore_warm_up,
    ) -> None:
        """Loads the SavedModel and answers its warm-up requests.

        Args:
          path: Directory of the SavedModel.
          intra_op_threads: Threads of one operation; 0 lets TensorFlow choose.
          inter_op_threads: Operations run at the same time; 0 lets TensorFlow choose.
          on_warm_up: Is told of the warm-up: path of the model, status, seconds. Like in TF Serving
            not without a file, and not of a request that fails, which fails the load.

        Raises:
          StatusError: It does not load, or a warm-up request fails.
        """
        self.path = path
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(
            graph=graph,
            config=tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=intra_op_threads,
                inter_op_parallelism_threads=inter_op_threads,
            ),
        )
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, [tf.saved_model.SERVING], str(path)
                )
            graph.finalize()
            self.signatures = dict(meta_graph.signature_def)
            self._callable = functools.lru_cache(maxsize=64)(self._make_callable)
            self._warm_up(on_warm_up)
        except StatusError:
            self.close()
            raise
        except Exception as error:  # Whatever a broken SavedModel provokes is its load error.
            self.close()
            raise _load_error(path, error) from error

    def run(self, signature_name: str, inputs: Inputs, outputs: Sequence[str]) -> Outputs:
        """Runs one signature.

        Args:
          signature_name: One of `signatures`.
          inputs: Arrays by input alias, of the signature's types.
          outputs: Aliases of the outputs wanted.

        Returns:
          Arrays by output alias.

        Raises:
          StatusError: The graph refused the inputs.
        """
        call = self._callable(signature_name, tuple(sorted(inputs)), tuple(outputs))
        try:
            values = call(*(inputs[alias] for alias in sorted(inputs)))
        except tf.errors.OpError as error:
            code = CODE_BY_NUMBER.get(error.error_code, Code.UNKNOWN)
            raise StatusError(code, str(error.message)) from error
        except UnicodeDecodeError as error:
            # TensorFlow repeats bytes of the input in its message, and fails to make text of it.
            raise invalid_argument(error.object.decode("utf-8", errors="replace")) from error
        return dict(zip(outputs, values, strict=True))

    def close(self) -> None:
        """Frees the memory of the model."""
        self._session.close()

    def _make_callable(
        self, signature_name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> Callable[..., list[Any]]:
        signature = self.signatures[signature_name]
        # `Session.run` compares inputs with the placeholders' shapes, which TF Serving does not.
        return self._session._make_callable_from_options(
            config_pb2.CallableOptions(
                feed=[signature.inputs[alias].name for alias in inputs],
                fetch=[signature.outputs[alias].name for alias in outputs],
            )
        )

    def _warm_up(self, on_warm_up: Callable[[str, str, float], None]) -> None:
        path = self.path / _WARM_UP_FILE
        if not path.is_file():
            return
        from tensorflow_serving.apis import prediction_log_pb2

        started = time.perf_counter()
        try:
            records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
        except tf.errors.DataLossError as error:
            on_warm_up(str(self.path), f"DATA_LOSS: {error.message}", time.perf_counter() - started)
            raise StatusError(
                Code.DATA_LOSS,
                f"{error.message}. Please verify your warmup data is in TFRecord format.",
            ) from error
        if len(records) > _MAX_WARM_UP_RECORDS:
            raise invalid_argument(
                f"Number of warmup records exceeds the maximum ({_MAX_WARM_UP_RECORDS}) at {path}"
            )
        for record in records:
            try:
                log = prediction_log_pb2.PredictionLog.FromString(record)
            except DecodeError as error:
                raise invalid_argument(f"Failed to parse warmup record from {path}") from error
            if log.WhichOneof("log_type") != "predict_log":
                raise StatusError(
                    Code.UNIMPLEMENTED, "Unsupported log_type for warmup: only predict_log is."
                )
            self._answer(log.predict_log.request)
        seconds = time.perf_counter() - started
        on_warm_up(str(self.path), "OK", seconds)
        _LOG.info("warm-up of %s: %d requests, %.1f s", self.path, len(records), seconds)

    def _answer(self, request: predict_pb2.PredictRequest) -> None:
        name, signature = signatures.find(self.signatures, request.model_spec.signature_name)
        inputs = signatures.read_inputs(signature, request.inputs)
        self.run(name, inputs, signatures.select_outputs(signature, list(request.output_filter)))


def _load_error(path: Path, error: Exception) -> StatusError:
    if isinstance(error, tf.errors.OpError):
        code = CODE_BY_NUMBER.get(error.error_code, Code.UNKNOWN)
        return StatusError(code, str(error.message))
    return StatusError(Code.UNKNOWN, f"{path} does not load: {type(error).__name__}: {error}")
