"""Coverage-guided fuzzing by atheris of what strangers' bytes reach, for as long as one likes.

    scripts/uv run --group fuzz python -m tests.fuzzing json --seconds 1800

Inputs are kept in `--corpus`; one that fails is written there as `crash-*`, and becomes an
`@example` of the tests in `tests/serving/test_fuzz.py`, `tests/ingestion/test_fuzz.py` or
`tests/models/encoders`, which hold the same by hypothesis and run with the suite.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import atheris

with atheris.instrument_imports(include=["tfx_captioner", "h11", "json"]):
    import h11
    import numpy as np
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import predict_pb2

    from tests.ingestion import test_fuzz as readers
    from tfx_captioner.models.encoders.torch_checkpoint import CheckpointError, read_state_dict
    from tfx_captioner.serving.local import json_parser, json_tensor, signatures
    from tfx_captioner.serving.local.http_protocol import StrictConnection
    from tfx_captioner.serving.local.status import Code, StatusError

MANY = b" " + b"," * 60_000
REFUSALS = (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
Target = Callable[[bytes], None]


def _infos(**types: tf.DType) -> dict[str, meta_graph_pb2.TensorInfo]:
    return {
        alias: meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum)
        for alias, dtype in types.items()
    }


def _expect(error: StatusError, *codes: Code) -> None:
    assert error.code in codes, error


INPUTS = (_infos(x=tf.string), _infos(x=tf.float32), _infos(a=tf.int64, b_bytes=tf.string))


def fuzz_json(data: bytes) -> None:
    """Any bytes are what the standard library reads, or refused."""
    if len(data) % 16 == 0:
        data += MANY  # a body of many values has a reader of its own
    try:
        value = json_parser.parse(data)
    except StatusError as error:
        _expect(error, Code.INVALID_ARGUMENT)
        return
    try:
        text = data.decode().lstrip(" \t\r\n\ufeff")
    except UnicodeDecodeError:
        return
    # As TF Serving does, ours ignores what follows the first value.
    expected, _ = json.JSONDecoder().raw_decode(text)
    # NaN, and numbers that no double holds, are read by rules of its own.
    assert repr(value) == repr(expected) or re.search(r"NaN|Infinity|[eE]|\d{15}", text)


def fuzz_predict(data: bytes) -> None:
    """Any body is tensors of the signature's types, base64 read, or refused."""
    infos = INPUTS[len(data) % len(INPUTS)]
    try:
        request = json_tensor.parse_predict(data, lambda name: infos)
    except StatusError as error:
        _expect(error, *REFUSALS)
        return
    for alias, array in request.inputs.items():
        assert tf.dtypes.as_dtype(array.dtype).as_datatype_enum == infos[alias].dtype


def fuzz_message(data: bytes) -> None:
    """Any message is a request within bounds, or refused."""
    signature = meta_graph_pb2.SignatureDef(method_name=tf.saved_model.PREDICT_METHOD_NAME)
    for alias, info in INPUTS[len(data) % len(INPUTS)].items():
        signature.inputs[alias].CopyFrom(info)
    try:
        request = predict_pb2.PredictRequest.FromString(data)
        arrays = signatures.read_inputs(signature, request.inputs)
    except DecodeError:
        return
    except StatusError as error:
        _expect(error, *REFUSALS)
        return
    assert sum(array.nbytes for array in arrays.values()) <= 64 << 20


def fuzz_http(data: bytes) -> None:
    """A head is read alike in whatever pieces it comes."""
    assert _events([data]) == _events([data[i : i + 1] for i in range(len(data))])


def _events(pieces: list[bytes]) -> list[str]:
    connection = StrictConnection(h11.SERVER)
    events: list[str] = []
    try:
        for piece in filter(None, pieces):
            connection.receive_data(piece)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if not (isinstance(event, h11.Data) and events[-1:] == ["Data"]):
                    events.append(type(event).__name__)
    except h11.RemoteProtocolError:
        events.append("refused")
    return events


class Readers:
    """A data set of every form, whose file of annotations is what the fuzzer makes of it."""

    def __init__(self, folder: Path) -> None:
        self._sets = []
        for name, write in readers.FORMS.items():
            root = folder / name
            path = write(root)
            self._sets.append((name, root, path, path.read_bytes()))

    def seeds(self) -> list[bytes]:
        return [bytes([index]) + content for index, (*_, content) in enumerate(self._sets)]

    def __call__(self, data: bytes) -> None:
        """Errors are for people, and nothing is lost uncounted."""
        if not data:
            return
        name, root, path, content = self._sets[data[0] % len(self._sets)]
        path.write_bytes(data[1:])
        try:
            readers.check(name, root)
        finally:
            path.write_bytes(content)


class Checkpoints:
    """A file that the reader of PyTorch's checkpoints is given."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fuzzed.pth"

    def __call__(self, data: bytes) -> None:
        """Any bytes are arrays, or said to be no checkpoint."""
        self._path.write_bytes(data)
        try:
            arrays = read_state_dict(self._path)
        except CheckpointError:
            return
        assert sum(array.nbytes for array in arrays.values()) <= 64 * len(data)


def checkpoint() -> bytes:
    """A small checkpoint in PyTorch's legacy form, made without it."""
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
        pickle.dump(value, file, protocol=2)
    # An OrderedDict of one float tensor [2], as `torch.save` writes it.
    file.write(
        b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00wctorch._utils\n"
        b"_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x02NtQK\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)Rtp0\n"
        b"R0g0\ns."
    )
    pickle.dump(["0"], file, protocol=2)
    file.write((2).to_bytes(8, "little") + np.zeros(2, np.float32).tobytes())
    return file.getvalue()


def main() -> None:
    """Fuzzes one target."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=["json", "predict", "message", "http", "readers", "pth"])
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="folder of inputs; default: a new one")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    corpus = arguments.corpus or work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    target, seeds = _target(arguments.target, work)
    for index, seed in enumerate(seeds):
        (corpus / f"seed{index}").write_bytes(seed)
    options = [
        f"-max_total_time={arguments.seconds}", f"-artifact_prefix={corpus}/",
        "-print_final_stats=1", "-rss_limit_mb=6000", "-timeout=60", "-max_len=20000",
        "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


def _target(name: str, work: Path) -> tuple[Target, list[bytes]]:
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([b"image"]))
    documents = [
        b'{"signature_name": "s", "instances": [{"b64": "aW1hZ2U="}, "a\\u00e9"]}',
        b'{"inputs": {"x": [1.5, -2e3, null, true]}}',
        b'{"instances": [{"a": 1, "b_bytes": {"b64": "AA"}}]}',
    ]
    heads = [
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ]
    if name == "readers":
        data_sets = Readers(work)
        return data_sets, data_sets.seeds()
    return {
        "json": (fuzz_json, documents),
        "predict": (fuzz_predict, documents),
        "message": (fuzz_message, [request.SerializeToString()]),
        "http": (fuzz_http, heads),
        "pth": (Checkpoints(work), [checkpoint()]),
    }[name]


if __name__ == "__main__":
    main()
