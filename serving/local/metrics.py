"""Prometheus metrics under TF Serving's names.

TensorFlow's monitoring names its metrics by paths (`/tensorflow/serving/request_count`), and
TF Serving's exporter writes them with colons.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from tfx_captioner.serving.local.status import Code, StatusError

# `Buckets::Exponential(10, 1.8, 33)`, and for the queue `(100, 1.2, 52)`; microseconds.
_LATENCY_BUCKETS = tuple(10 * 1.8**n for n in range(33))
_QUEUE_BUCKETS = tuple(100 * 1.2**n for n in range(52))
_COUNT_BUCKETS = tuple(float(2**n) for n in range(15))
_PREFIX = ":tensorflow:serving:"


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # TF Serving has no such series
        self._registry = CollectorRegistry()
        self._requests = self._counter("request_count", ["model_name", "status"])
        self._examples = self._counter("request_example_count_total", ["model"])
        self._latency = self._histogram(
            "request_latency", ["model_name", "API", "entrypoint"], _LATENCY_BUCKETS
        )
        self._runtime = self._histogram(
            "runtime_latency", ["model_name", "API", "runtime"], _LATENCY_BUCKETS
        )
        self._example_counts = self._histogram("request_example_counts", ["model"], _COUNT_BUCKETS)
        self._warm_up = self._histogram(
            "model_warmup_latency", ["model_path", "status"], _LATENCY_BUCKETS
        )
        self._queue = self._histogram(
            "batching_session:queuing_latency", ["thread_pool_name"], _QUEUE_BUCKETS
        )

    @contextlib.contextmanager
    def request(self, model: str, entrypoint: str) -> Iterator[None]:
        """Counts a predict request, and times it when it succeeds.

        Args:
          model: Its model, or "" if it named none that is served.
          entrypoint: "GRPC" or "REST".
        """
        started = time.perf_counter()
        code = Code.INTERNAL
        try:
            yield
            code = Code.OK
            self._latency.labels(model, "Predict", entrypoint).observe(_microseconds(started))
        except StatusError as error:
            code = error.code
            raise
        finally:
            self._requests.labels(model, code.name).inc()

    @contextlib.contextmanager
    def runtime(self, model: str, examples: int) -> Iterator[None]:
        """Times the model, waiting in the queue included, and counts the rows it is given."""
        started = time.perf_counter()
        yield
        self._runtime.labels(model, "Predict", "TF1").observe(_microseconds(started))
        self._examples.labels(model).inc(examples)
        self._example_counts.labels(model).observe(examples)

    def warmed_up(self, path: str, status: str, seconds: float) -> None:
        """Records the warm-up of a model version.

        Args:
          path: Directory of the version.
          status: "OK", or the error in words.
          seconds: How long it took.
        """
        self._warm_up.labels(path, status).observe(seconds * 1e6)

    def queued(self, seconds: float) -> None:
        """Records how long a request waited for its batch to be run."""
        # TF Serving's sessions do not know the name of their thread pool and leave it empty.
        self._queue.labels("").observe(seconds * 1e6)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        # The library ends every counter in `_total`; TF Serving's counter has another name.
        name = f"{_PREFIX}request_count".encode()
        return generate_latest(self._registry).replace(name + b"_total", name)

    def _counter(self, name: str, labels: list[str]) -> Counter:
        return Counter(_PREFIX + name, "", labels, registry=self._registry)

    def _histogram(self, name: str, labels: list[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(_PREFIX + name, "", labels, buckets=buckets, registry=self._registry)


def _microseconds(started: float) -> float:
    return (time.perf_counter() - started) * 1e6
