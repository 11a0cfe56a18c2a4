"""Predict and metadata, as both entry points answer them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from dataclasses import dataclass

import numpy as np
from tensorflow_serving.apis import model_pb2

from tfx_captioner.serving.local.manager import ModelManager, ServableHandle
from tfx_captioner.serving.local.metrics import Metrics
from tfx_captioner.serving.local.scheduler import BatchScheduler, Task
from tfx_captioner.serving.local.servable import Outputs
from tfx_captioner.serving.local.signatures import (
    DEFAULT_SIGNATURE,
    SignatureDef,
    find,
    select_outputs,
)
from tfx_captioner.serving.local.status import Code, StatusError, invalid_argument


@dataclass(frozen=True)
class Prediction:
    """The answer to a predict request.

    Attributes:
      version: Version that answered.
      signature_name: Signature that was run.
      signature: Its definition.
      outputs: Arrays by output alias.
    """

    version: int
    signature_name: str
    signature: SignatureDef
    outputs: Outputs


class Predictor:
    """Checks requests, schedules them and waits for their answers."""

    def __init__(self, manager: ModelManager, scheduler: BatchScheduler, metrics: Metrics) -> None:
        self.manager = manager
        self.metrics = metrics
        self._scheduler = scheduler

    def predict(
        self,
        spec: model_pb2.ModelSpec,
        read_inputs: Callable[[SignatureDef], Mapping[str, np.ndarray]],
        *,
        output_filter: Iterable[str] = (),
        timeout: float,
        on_submit: Callable[[Callable[[], None]], None] = lambda cancel: None,
    ) -> Prediction:
        """Runs a signature of a model, and waits for it.

        Args:
          spec: Model, version or label, signature.
          read_inputs: Gives the arrays by input alias, of the signature's types.
          output_filter: Output aliases wanted; all where none is named.
          timeout: Seconds the answer is waited for.
          on_submit: Is given what cancels the request: what of it is not yet run will not be.

        Raises:
          StatusError: In TF Serving's words.
        """
        deadline = time.monotonic() + timeout
        handle = self.manager.acquire(spec)
        try:
            name, signature = find(handle.servable.signatures, spec.signature_name)
            inputs = read_inputs(signature)
            outputs = select_outputs(signature, list(output_filter))
            task = Task(handle.servable, name, inputs, outputs, deadline)
            result = self._scheduler.submit(task)
        except BaseException:
            handle.release()
            raise
        # The version must stay until the graph has run, also when nobody waits for it any more.
        result.add_done_callback(lambda _: handle.release())
        on_submit(task.cancel)
        with self.metrics.runtime(handle.model_name, task.size or 1):
            values = _wait(task, timeout)
        return Prediction(handle.version, name, signature, values)

    def signatures(self, spec: model_pb2.ModelSpec) -> tuple[int, dict[str, SignatureDef]]:
        """Version and signatures of the model a spec names."""
        handle = self.manager.acquire(spec)
        try:
            return handle.version, handle.servable.signatures
        finally:
            handle.release()

    def refuse_method(self, spec: model_pb2.ModelSpec, kind: str, method_name: str) -> StatusError:
        """What a classify or regress request is told: such signatures are not exported any more.

        Args:
          spec: Model and signature of the request.
          kind: "classification" or "regression".
          method_name: The signature method it would need.
        """
        handle: ServableHandle = self.manager.acquire(spec)
        try:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = handle.servable.signatures.get(name)
        finally:
            handle.release()
        if signature is None:
            return invalid_argument(f"No signature was found with the name: {name}")
        if signature.method_name == method_name:
            return StatusError(Code.UNIMPLEMENTED, f"This server has no {kind}; use Predict.")
        return invalid_argument(
            f"Expected {kind} signature method_name to be {method_name}. Was: "
            f"{signature.method_name}"
        )


def _wait(task: Task, timeout: float) -> Outputs:
    try:
        return task.result.result(timeout)
    except futures.TimeoutError as error:
        task.cancel()
        raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded") from error
    except futures.CancelledError as error:
        raise StatusError(Code.CANCELLED, "The caller hung up") from error
