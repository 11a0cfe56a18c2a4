"""The local server under mixed load for a long time, with versions that come and go.

Clients ask over gRPC and REST, for captions, beams, attention and Examples, one image and many, and
for metrics and status; others send what is wrong: no picture, broken JSON, cut gzip, heads without
a body, tensors of claimed gigabytes. Every minute a version is pushed; every third minute a broken
one first, and a version with other signatures after it. No well-formed request may fail, no
malformed one may be the server's fault, and memory, threads and file descriptors stay where they
were after the first tenth of the time.

usage: python -m bench.soak [--minutes 60] [--model SAVED_MODEL] [--rate 40] [--out FILE]
"""

from __future__ import annotations

import argparse
import base64
import collections
import gzip
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import httpx
import numpy as np
import psutil
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from tests.serving import saved_models
from tfx_captioner.serving import config, launcher, wire
from tfx_captioner.serving.client import CallOptions, CaptionClient
from tfx_captioner.serving.errors import ServingError

MODEL = config.CHAMPION
WELL_FORMED, MALFORMED = "well-formed", "malformed"
PUSH_SECONDS = 60.0
SAMPLE_SECONDS = 30.0
# Growth beyond which the soak fails, from the end of the first tenth to the last tenth.
MOST_GROWTH = {"rss_mib": 64.0, "threads": 8, "descriptors": 16}

Call = Callable[[], None]


@dataclass(frozen=True)
class Sample:
    """What the server's process holds at one moment."""

    minute: float
    rss_mib: float
    threads: int
    descriptors: int
    loaded: int


class Counts:
    """Requests by kind, and what went wrong with them."""

    def __init__(self) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def add(self, kind: str, failure: str = "") -> None:
        """Counts a request, and keeps what was wrong with its answer."""
        with self._lock:
            self.requests[kind] += 1
            if failure:
                self.failures.append(f"{kind}: {failure}")


def main() -> int:
    """Prints the table; 1 where something failed or grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--model", type=Path, help="a SavedModel; default: a tiny one")
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second in all")
    parser.add_argument("--out", type=Path, help="JSON file for the counts and samples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, samples = soak(
            Path(folder), arguments.model, 60 * arguments.minutes, arguments.rate
        )
    growth = growth_of(samples)
    if arguments.out:
        text = json.dumps(
            {
                "requests": counts.requests,
                "failures": counts.failures,
                "growth": growth,
                "samples": [asdict(sample) for sample in samples],
            },
            indent=2,
        )
        arguments.out.write_text(text, encoding="utf-8")
    Console().print(report(counts, samples))
    for failure in counts.failures[:20]:
        print(failure, file=sys.stderr)
    grown = {name: by for name, by in growth.items() if by > MOST_GROWTH[name]}
    print(f"{len(counts.failures)} failures; grown beyond the bounds: {grown or 'nothing'}")
    return 1 if counts.failures or grown else 0


def soak(
    serving_dir: Path, saved_model: Path | None, seconds: float, rate: float
) -> tuple[Counts, list[Sample]]:
    """Runs a server, its clients and the pushes until the time is up.

    Args:
      serving_dir: Empty folder to push to.
      saved_model: SavedModel of every version; None for a tiny one that says its version.
      seconds: Time in all.
      rate: Requests per second of all clients together.
    """
    push(serving_dir, saved_model, 1)
    config.write_all(serving_dir)
    endpoint = launcher.free_endpoint()
    argv = launcher.command("local", serving_dir, endpoint)
    counts, samples, stop = Counts(), [], threading.Event()
    with launcher.running(argv, endpoint, serving_dir / "server.log") as server:
        server.wait_until_available([MODEL], timeout=300)
        calls = [*well_formed(endpoint), *malformed(endpoint)]
        threads = [
            threading.Thread(
                target=repeat, args=(kind, name, call, len(calls) / rate, counts, stop)
            )
            for kind, name, call in calls
        ]
        threads.append(threading.Thread(target=watch, args=(server, samples, stop)))
        threads.append(
            threading.Thread(target=push_versions, args=(serving_dir, saved_model, stop))
        )
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and server.process.poll() is None:
            time.sleep(1)
        if server.process.poll() is not None:
            counts.add(WELL_FORMED, f"the server ended: {server.log_tail()}")
        stop.set()
        for thread in threads:
            thread.join()
    return counts, samples


def repeat(
    kind: str, name: str, call: Call, pause: float, counts: Counts, stop: threading.Event
) -> None:
    """Makes one call again and again."""
    while not stop.wait(pause):
        try:
            call()
        except (ServingError, httpx.HTTPError, OSError, AssertionError) as error:
            counts.add(kind, f"{name}: {type(error).__name__}: {error}")
        else:
            counts.add(kind)


def well_formed(endpoint: launcher.Endpoint) -> Iterator[tuple[str, str, Call]]:
    """Calls that must be answered, each by a client of its own."""
    red = saved_models.image(saved_models.RED)
    green = saved_models.image(saved_models.GREEN, size=64, form="JPEG")
    options = CallOptions(timeout=60, attempts=1)
    for url in (endpoint.grpc_url, endpoint.rest_url):
        client = CaptionClient(url, model=MODEL, options=options)

        def captions(client: CaptionClient = client) -> None:
            answers = client.captions([red, green] * 8)
            assert all(not isinstance(a, ServingError) and a.text for a in answers), answers

        calls: dict[str, Call] = {
            "caption": lambda client=client: check(client.caption(red).text),
            "captions": captions,
            "beams": lambda client=client: check(client.beams(green)),
            "attention": lambda client=client: check(client.attention(red).tokens),
            "no picture": lambda client=client: check(client.caption(b"no picture").text == ""),
            "status": lambda client=client: check(client.status()),
        }
        for name, call in calls.items():
            yield WELL_FORMED, f"{url.partition(':')[0]} {name}", call
    http = httpx.Client(base_url=endpoint.rest_url, timeout=60)
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(red)
    text = base64.b64encode(example.SerializeToString()).decode()
    body = json.dumps({"signature_name": "serving_examples", "instances": [{"b64": text}]})
    packed = gzip.compress(body.encode())
    path = wire.predict_path(wire.Target(MODEL))
    yield WELL_FORMED, "examples", lambda: status_of(http.post(path, content=body), 200)
    yield (
        WELL_FORMED,
        "gzip",
        lambda: status_of(
            http.post(path, content=packed, headers={"Content-Encoding": "gzip"}), 200
        ),
    )
    yield WELL_FORMED, "metrics", lambda: status_of(http.get(config.METRICS_PATH), 200)
    yield WELL_FORMED, "metadata", lambda: status_of(http.get(f"/v1/models/{MODEL}/metadata"), 200)


def malformed(endpoint: launcher.Endpoint) -> Iterator[tuple[str, str, Call]]:
    """Calls that must be refused as their sender's fault."""
    http = httpx.Client(base_url=endpoint.rest_url, timeout=60)
    path = wire.predict_path(wire.Target(MODEL))
    bomb = gzip.compress(b'{"instances":[' + b"[]," * 400_000 + b"[]]}")
    damaged = saved_models.image(saved_models.RED)[:-30]
    text = base64.b64encode(b"\x89PNG\r\n\x1a\n" + damaged[8:]).decode()
    bodies = {
        "cut JSON": b'{"instances": [{"b64": "',
        "wrong type": b'{"instances": [1, 2]}',
        "wrong base64": b'{"instances": [{"b64": "?"}]}',
        "no Example": b'{"signature_name": "serving_examples", "instances": [{"b64": "AAA="}]}',
        "no signature": b'{"signature_name": "none", "instances": ["x"]}',
        "damaged PNG": json.dumps({"instances": [{"b64": text}]}).encode(),
    }
    for name, body in bodies.items():
        yield MALFORMED, name, lambda body=body: status_of(http.post(path, content=body), 400, 404)
    packed = {"Content-Encoding": "gzip"}
    yield (
        MALFORMED,
        "bomb",
        lambda: status_of(http.post(path, content=bomb, headers=packed), 400, 429),
    )
    yield (
        MALFORMED,
        "cut gzip",
        lambda: status_of(http.post(path, content=bomb[:-9], headers=packed), 400, 429),
    )
    yield MALFORMED, "head without a body", lambda: leave(endpoint, path)


def leave(endpoint: launcher.Endpoint, path: str) -> None:
    """Announces a body, and goes away."""
    address = (endpoint.host, endpoint.rest_api_port)
    with socket.create_connection(address, timeout=10) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Length: 1000000\r\n\r\n{{"
        connection.sendall(head.encode())


def status_of(response: httpx.Response, *allowed: int) -> None:
    """Fails where the status is another."""
    assert response.status_code in allowed, f"{response.status_code}: {response.text[:200]}"


def check(value: object) -> None:
    """Fails where an answer is empty."""
    assert value, "an empty answer"


def push_versions(serving_dir: Path, saved_model: Path | None, stop: threading.Event) -> None:
    """Pushes a version a minute, old ones taken away; broken and foreign ones between."""
    version = 1
    while not stop.wait(PUSH_SECONDS):
        version += 1
        base = serving_dir / MODEL
        if version % 3 == 0:
            saved_models.save_broken(base, version)
        elif version % 3 == 1:
            saved_models.save_half_plus_two(base, version)
        else:
            push(serving_dir, saved_model, version)
        # What is kept is what a rollback needs; the rest would fill the disk within days.
        for old in sorted(
            (p for p in base.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
        ):
            if int(old.name) < version - 9:
                shutil.rmtree(old)


def push(serving_dir: Path, saved_model: Path | None, version: int) -> None:
    """Pushes one good version."""
    base = serving_dir / MODEL
    if saved_model is None:
        saved_models.save_captioner(base, version)
        return
    base.mkdir(parents=True, exist_ok=True)
    shutil.copytree(saved_model, serving_dir / "aside")
    (serving_dir / "aside").rename(base / str(version))


def watch(server: launcher.Server, samples: list[Sample], stop: threading.Event) -> None:
    """Takes a sample of the server's process every half minute."""
    process = psutil.Process(server.process.pid)
    started = time.monotonic()
    with CaptionClient(server.endpoint.grpc_url, model=MODEL) as client:
        while not stop.wait(SAMPLE_SECONDS):
            try:
                loaded = sum(version.state == "AVAILABLE" for version in client.status())
                with process.oneshot():
                    sample = Sample(
                        round((time.monotonic() - started) / 60, 1),
                        round(process.memory_info().rss / 2**20, 1),
                        process.num_threads(),
                        process.num_fds(),
                        loaded,
                    )
            except (ServingError, psutil.NoSuchProcess):
                continue
            samples.append(sample)
            print("  ".join(map(str, asdict(sample).values())), file=sys.stderr, flush=True)


def growth_of(samples: list[Sample]) -> dict[str, float]:
    """Median of the last tenth less that of the second tenth."""
    tenth = max(1, len(samples) // 10)
    return {
        name: float(
            np.median([getattr(sample, name) for sample in samples[-tenth:]])
            - np.median([getattr(sample, name) for sample in samples[tenth : 2 * tenth] or samples])
        )
        for name in MOST_GROWTH
    }


def report(counts: Counts, samples: list[Sample]) -> Table:
    """Begin and end beside each other."""
    table = Table("", "after a tenth", "at the end", "growth", box=None)
    tenth = max(1, len(samples) // 10)
    for name, by in growth_of(samples).items():
        first, last = samples[min(tenth, len(samples) - 1)], samples[-1]
        table.add_row(name, str(getattr(first, name)), str(getattr(last, name)), f"{by:+.1f}")
    for kind, number in counts.requests.items():
        failed = sum(failure.startswith(kind) for failure in counts.failures)
        table.add_row(kind, "", f"{number} requests", f"{failed} failed")
    return table


if __name__ == "__main__":
    sys.exit(main())
