"""Legacy PyTorch checkpoints, written by hand as `torch.save` did."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from tfx_captioner.models.encoders.torch_checkpoint import CheckpointError, read_state_dict

MAGIC_NUMBER, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def tensor_opcodes(key: str, values: np.ndarray, name: bytes) -> bytes:
    """Protocol 0 opcodes of `_rebuild_tensor_v2(storage, 0, shape, strides, False, {})`."""

    def tuple_of(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"I%d\n" % number for number in numbers) + b"t"

    storage = {"f": b"FloatStorage", "i": b"LongStorage"}[values.dtype.kind]
    strides = tuple(stride // values.itemsize for stride in values.strides)
    persistent_id = b"(S'storage'\nctorch\n%b\nS'%b'\nS'cpu'\nI%d\nNtQ" % (
        storage,
        key.encode(),
        values.size,
    )
    layout = tuple_of(values.shape) + tuple_of(strides)
    return b"c" + name + b"\n(" + persistent_id + b"I0\n" + layout + b"I00\n}tR"


def checkpoint(
    path: Path, tensors: dict[str, np.ndarray], name: bytes = b"torch._utils\n_rebuild_tensor_v2"
) -> Path:
    header = [MAGIC_NUMBER, PROTOCOL, {"little_endian": True}]
    body = b"".join(pickle.dumps(part, 2) for part in header)
    body += b"}"
    for key, values in tensors.items():
        body += b"S'" + key.encode() + b"'\n" + tensor_opcodes(f"k{key}", values, name) + b"s"
    body += b"." + pickle.dumps([f"k{key}" for key in tensors], 2)
    for values in tensors.values():
        # Elements lie as in memory, which for a transposed tensor is not row-major.
        flat = values.ravel(order="K")
        body += struct.pack("<q", flat.size) + flat.tobytes()
    path.write_bytes(body)
    return path


def test_reads_arrays_of_any_layout(tmp_path: Path) -> None:
    tensors = {
        "weight": np.arange(24, dtype="<f4").reshape(2, 3, 4),
        "transposed": np.arange(24, dtype="<f4").reshape(2, 3, 4).transpose(2, 0, 1),
        "num_batches_tracked": np.array(7, "<i8"),
    }
    state_dict = read_state_dict(checkpoint(tmp_path / "a.pth", tensors))
    assert list(state_dict) == list(tensors)
    for name, values in tensors.items():
        assert state_dict[name].dtype == values.dtype
        np.testing.assert_array_equal(state_dict[name], values)


def test_refuses_to_run_code(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.pth", {"weight": np.zeros(2, "<f4")}, name=b"os\nsystem")
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be read: it names os\.system"):
        read_state_dict(path)


@pytest.mark.parametrize("kept", [0, 10, 60, -4])
def test_damaged_file_is_named(tmp_path: Path, kept: int) -> None:
    path = checkpoint(tmp_path / "a.pth", {"weight": np.zeros(9, "<f4")})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        read_state_dict(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"PK\x03\x04 a zip file, as newer versions write")
    with pytest.raises(CheckpointError, match="no legacy PyTorch checkpoint"):
        read_state_dict(path)
