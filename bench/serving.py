"""The local server against the bare SavedModel in the process, which is the limit.

Latency is compared for a lone client, whose calls alternate with calls of the bare model with one
image; that of many in turns of a second with bare calls of full batches. Both sides run on the same
cores, so that other load on the machine meets both; what counts is the ratio.

The clients share those cores too, so they are light: they send bytes made beforehand, and do not
read the answer beyond its being one. What a caller of `serving.client` waits for is in the rows
"+ library".

usage: python -m bench.serving [--model SAVED_MODEL] [--seconds 6] [--clients 1,4,16,64]
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.table import Table

from tfx_captioner.serving import config, launcher, wire
from tfx_captioner.serving.client import CallOptions, CaptionClient

Ask = Callable[[], object]

MODEL = config.CHAMPION
SIGNATURE = "serving_default"
TIMEOUT = 300.0  # seconds; many clients on few cores wait long
BATCH = config.BATCHING.execution_size
WARM_UP_CALLS = 3
TURN = 1.0  # seconds of the server, then of the bare model


@dataclass(frozen=True)
class Served:
    """One measurement of the server.

    Attributes:
      latencies: Seconds of every call.
      throughput: Images per second.
      bare: Seconds of the bare calls between those of a lone client; empty for many.
      bare_throughput: Images per second of bare calls of full batches; 0 for a lone client.
    """

    latencies: Sequence[float]
    throughput: float
    bare: Sequence[float]
    bare_throughput: float

    def percentile(self, rank: float) -> float:
        return float(np.percentile(self.latencies, rank))

    def ratios(self) -> tuple[str, str]:
        """p50 to that of the bare model, of a lone client; throughput to the bare one, of many."""
        if self.bare:
            return f"{self.percentile(50) / float(np.median(self.bare)):.2f}", "-"
        return "-", f"{self.throughput / self.bare_throughput:.2f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="default: ResNet-50 and GRU, random weights")
    parser.add_argument("--seconds", type=float, default=6.0, help="per measurement")
    parser.add_argument("--clients", default="1,4,16,64")
    arguments = parser.parse_args()
    clients = [int(number) for number in arguments.clients.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        serving_dir = Path(folder)
        saved_model = serving_dir / MODEL / "1"
        if arguments.model:
            shutil.copytree(arguments.model, saved_model)
        else:
            make_model(saved_model)
        config.write_all(serving_dir)
        Console().print(measure_all(serving_dir, saved_model, clients, arguments.seconds))


def measure_all(
    serving_dir: Path, saved_model: Path, clients: Sequence[int], seconds: float
) -> Table:
    """Measures every combination of batching, entry point and number of clients."""
    table = Table(
        "batching", "entry", "clients", "p50 ms", "p95", "p99", "images/s",
        "p50/bare", "images/bare",
        title=f"local server; against the bare SavedModel, of many in batches of {BATCH}", box=None,
    )  # fmt: skip
    image = noise()
    signature = tf.saved_model.load(str(saved_model)).signatures["serving_default"]

    def call_bare(count: int) -> float:
        started = time.perf_counter()
        signature(image_bytes=tf.constant([image] * count))
        return time.perf_counter() - started

    for count in (1, BATCH, 1, BATCH):
        call_bare(count)  # traces, and lets TensorFlow optimise
    for batching in (False, True):
        endpoint = launcher.free_endpoint()
        argv = launcher.command("local", serving_dir, endpoint, batching=batching)
        argv.append(f"--rest_api_timeout_in_ms={TIMEOUT * 1e3:.0f}")
        with launcher.running(argv, endpoint, serving_dir / "server.log") as server:
            server.wait_until_available([MODEL], timeout=300)
            for number in clients:
                for entry, connect in entries(endpoint, image).items():
                    if "library" in entry and number > 1:
                        continue
                    served = measure(connect, number, seconds, call_bare)
                    row = (
                        "on" if batching else "off", entry, str(number),
                        *(f"{1e3 * served.percentile(rank):.1f}" for rank in (50, 95, 99)),
                        f"{served.throughput:.1f}", *served.ratios(),
                    )  # fmt: skip
                    table.add_row(*row)
                    print("  ".join(row), file=sys.stderr, flush=True)
    return table


def entries(endpoint: launcher.Endpoint, image: bytes) -> dict[str, Callable[[], Ask]]:
    """What connects a client, by the name of its row."""
    target = wire.Target(MODEL)
    message = wire.predict_request(target, SIGNATURE, [image]).SerializeToString()
    body = wire.predict_body(SIGNATURE, [image])

    def by_grpc() -> Ask:
        # Of its own, or all clients would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.insecure_channel(f"{endpoint.host}:{endpoint.port}", options)
        predict = channel.unary_unary(wire.PREDICT_METHOD)
        return lambda: predict(message, timeout=TIMEOUT)

    def by_rest() -> Ask:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.rest_api_port, TIMEOUT)

        def ask() -> None:
            connection.request("POST", wire.predict_path(target), body)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {answer[:200]!r}")

        return ask

    def by_library(url: str) -> Callable[[], Ask]:
        client = CaptionClient(url, model=MODEL, options=CallOptions(TIMEOUT, attempts=1))
        return lambda: lambda: client.caption(image)

    return {
        "gRPC": by_grpc,
        "REST": by_rest,
        "gRPC + library": by_library(endpoint.grpc_url),
        "REST + library": by_library(endpoint.rest_url),
    }


def measure(
    connect: Callable[[], Ask], clients: int, seconds: float, call_bare: Callable[[int], float]
) -> Served:
    """Clients that ask without a pause; a lone one in turns with the bare model, call by call."""
    latencies: list[float] = []
    bare: list[float] = []
    asks = [connect() for _ in range(clients)]
    for ask in asks[:WARM_UP_CALLS] * WARM_UP_CALLS:
        ask()
    if clients == 1:
        end = time.perf_counter() + 2 * seconds
        while time.perf_counter() < end:
            latencies.append(timed(asks[0]))
            bare.append(call_bare(1))
        return Served(latencies, 1 / float(np.mean(latencies)), bare, 0.0)

    def work(ask: Ask, end: float) -> None:
        while time.perf_counter() < end:
            latencies.append(timed(ask))

    elapsed = 0.0
    batches: list[float] = []
    with ThreadPoolExecutor(clients) as pool:
        while elapsed < seconds:
            turn: list[float] = []
            while sum(turn) < TURN:
                turn.append(call_bare(BATCH))
            batches += turn
            started = time.perf_counter()
            list(pool.map(work, asks, [started + TURN] * clients))
            elapsed += time.perf_counter() - started
    return Served(latencies, len(latencies) / elapsed, (), BATCH * len(batches) / sum(batches))


def timed(call: Ask) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def make_model(folder: Path) -> None:
    """Exports ResNet-50 and GRU with random weights, as the Exporter would."""
    from tfx_captioner.models.captioner import build_captioner
    from tfx_captioner.models.config import DecodingConfig, RunConfig
    from tfx_captioner.models.data_config import SPECIAL_TOKENS, parse
    from tfx_captioner.models.encoders import build_encoder
    from tfx_captioner.models.export import export
    from tfx_captioner.models.vocabulary import Vocabulary
    from tfx_captioner.models.weights import TrainedModel

    run = parse(
        RunConfig,
        {
            "model_name": "resnet_gru",
            "model": {"encoder": {"name": "resnet50", "weights": None}, "decoder": {}},
            "text": {},
            "trainer": {},
            "code_fingerprint": "",
            "checkpoint_root": "",
        },
    )
    encoder = build_encoder(run.model.encoder)
    vocabulary = Vocabulary(SPECIAL_TOKENS + tuple(f"word{index}" for index in range(2000)))
    captioner = build_captioner(run.model, encoder, vocabulary.size)
    trained = TrainedModel(run, encoder, captioner, {})
    export(str(folder), trained, vocabulary, DecodingConfig())


def noise() -> bytes:
    """A photograph-sized JPEG."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main()
