"""The local server against the bare SavedModel in the process, which is the limit.

Latency is compared for a lone client, whose calls alternate with calls of the bare model with one
image; throughput with bare calls of a full batch before and after. Both sides run on the same
cores, so that other load on the machine meets both; what counts is the ratio.

The clients share those cores too, so they are light: they send bytes made beforehand, and do not
read the answer beyond its being one. What a caller of `serving.client` waits for is in the rows
"client library".

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

from serving import config, launcher, wire
from serving.client import CallOptions, CaptionClient

Ask = Callable[[], object]

MODEL = config.CHAMPION
SIGNATURE = "serving_default"
TIMEOUT = 300.0  # seconds; many clients on few cores wait long
BATCH = config.BATCHING.max_batch_size
WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Served:
    """One measurement of the server.

    Attributes:
      latencies: Seconds of every call.
      throughput: Images per second.
      bare: Seconds of the bare calls between those of a lone client.
    """

    latencies: Sequence[float]
    throughput: float
    bare: Sequence[float]

    def percentile(self, rank: float) -> float:
        return float(np.percentile(self.latencies, rank))

    def latency_ratio(self) -> str:
        if not self.bare:
            return "-"
        return f"{self.percentile(50) / float(np.median(self.bare)):.2f}"


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
        "batching", "entry", "clients", "p50 ms", "p95 ms", "p99 ms", "images/s",
        "p50 / bare", "throughput / bare batched",
        title=f"local server against the bare SavedModel, batches of {BATCH}", box=None,
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
            for entry, connect in entries(endpoint, image).items():
                for number in clients if "library" not in entry else (1,):
                    before = bare_throughput(call_bare, seconds / 2)
                    served = measure(connect, number, seconds, call_bare)
                    after = bare_throughput(call_bare, seconds / 2)
                    row = (
                        "on" if batching else "off", entry, str(number),
                        *(f"{1e3 * served.percentile(rank):.1f}" for rank in (50, 95, 99)),
                        f"{served.throughput:.1f}", served.latency_ratio(),
                        "-" if number == 1 else f"{2 * served.throughput / (before + after):.2f}",
                    )  # fmt: skip
                    table.add_row(*row)
                    print("  ".join(row), file=sys.stderr, flush=True)
    return table


def bare_throughput(call_bare: Callable[[int], float], seconds: float) -> float:
    """Images per second of the SavedModel called in this process with full batches."""
    times: list[float] = []
    while sum(times) < seconds:
        times.append(call_bare(BATCH))
    return BATCH * len(times) / sum(times)


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
        "gRPC, client library": by_library(endpoint.grpc_url),
        "REST, client library": by_library(endpoint.rest_url),
    }


def measure(
    connect: Callable[[], Ask], clients: int, seconds: float, call_bare: Callable[[int], float]
) -> Served:
    """Clients that ask without a pause; a lone one in turns with the bare model."""
    latencies: list[float] = []
    bare: list[float] = []
    asks = [connect() for _ in range(clients)]
    for ask in asks[:WARM_UP_CALLS] * WARM_UP_CALLS:
        ask()

    def work(ask: Ask) -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            ask()
            latencies.append(time.perf_counter() - started)
            if clients == 1:
                bare.append(call_bare(1))

    started = time.perf_counter()
    end = started + seconds * (2 if clients == 1 else 1)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, asks))
    elapsed = time.perf_counter() - started - sum(bare)
    return Served(latencies, len(latencies) / elapsed, bare)


def make_model(folder: Path) -> None:
    """Exports ResNet-50 and GRU with random weights, as a Trainer would."""
    from models.captioner import build_captioner
    from models.config import RunConfig
    from models.data_config import SPECIAL_TOKENS, parse
    from models.encoders import build_encoder
    from models.export import export
    from models.vocabulary import Vocabulary

    run = parse(
        RunConfig,
        {
            "model_name": "resnet_gru",
            "model": {"encoder": {"name": "resnet50", "weights": None}, "decoder": {}},
            "text": {},
            "trainer": {},
            "decoding": {},
            "code_fingerprint": "",
            "checkpoint_root": "",
        },
    )
    encoder = build_encoder(run.model.encoder)
    vocabulary = Vocabulary(SPECIAL_TOKENS + tuple(f"word{index}" for index in range(2000)))
    captioner = build_captioner(run.model, encoder, vocabulary.size)
    export(str(folder), captioner, encoder, vocabulary, run, training={})


def noise() -> bytes:
    """A photograph-sized JPEG."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


if __name__ == "__main__":
    main()
