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
from tensorflow.core.protobuf import config_pb2

from serving.local import tensors
from serving.local.status import CODE_BY_NUMBER, Code, StatusError

_LOG = logging.getLogger("captioner.serving")

_WARM_UP_FILE = Path("assets.extra/tf_serving_warmup_requests")
_MAX_WARM_UP_RECORDS = 1000
DEFAULT_SIGNATURE = "serving_default"

Inputs = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]


class Servable:
    """A SavedModel that is ready to answer.

    Attributes:
      path: Where it was loaded from.
      signatures: Its signatures by name, without TensorFlow's internal ones.
    """

    def __init__(self, path: Path, *, intra_op_threads: int = 0, inter_op_threads: int = 0) -> None:
        """Loads the SavedModel and answers its warm-up requests.

        Args:
          path: Directory of the SavedModel.
          intra_op_threads: Threads of one operation; 0 lets TensorFlow choose.
          inter_op_threads: Operations run at the same time; 0 lets TensorFlow choose.

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
            self.signatures = {
                name: signature
                for name, signature in meta_graph.signature_def.items()
                if not name.startswith("__")
            }
            self._callable = functools.lru_cache(maxsize=64)(self._make_callable)
            self._warm_up()
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

    def _warm_up(self) -> None:
        records = _read_records(self.path / _WARM_UP_FILE)
        if not records:
            return
        from tensorflow_serving.apis import prediction_log_pb2

        if len(records) > _MAX_WARM_UP_RECORDS:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({_MAX_WARM_UP_RECORDS}) at "
                f"{self.path / _WARM_UP_FILE}",
            )
        started = time.monotonic()
        for record in records:
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise StatusError(
                    Code.UNIMPLEMENTED, "Unsupported log_type for warmup: only predict_log is."
                )
            request = log.predict_log.request
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            inputs = {
                alias: tensors.from_proto(proto, alias) for alias, proto in request.inputs.items()
            }
            self.run(name, inputs, sorted(self.signatures[name].outputs))
        _LOG.info(
            "warm-up of %s: %d requests, %.1f s",
            self.path, len(records), time.monotonic() - started,
        )  # fmt: skip


def _read_records(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path))]


def _load_error(path: Path, error: Exception) -> StatusError:
    if isinstance(error, tf.errors.OpError):
        code = CODE_BY_NUMBER.get(error.error_code, Code.UNKNOWN)
        return StatusError(code, str(error.message))
    return StatusError(Code.UNKNOWN, f"{path} does not load: {type(error).__name__}: {error}")
