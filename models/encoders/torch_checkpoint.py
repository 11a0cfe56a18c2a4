"""Reads legacy PyTorch checkpoints into NumPy, without PyTorch and without trusting the pickle.

The form before PyTorch 1.6, `torch.save(..., _use_new_zipfile_serialization=False)`: five pickles
(magic number, protocol, machine, the object, the storage keys), then for each key the number of
elements as int64 and the elements as they lay in memory (`_legacy_save` in torch/serialization.py).
"""

from __future__ import annotations

import collections
import dataclasses
import pickle
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_STORAGE_TYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
}


class CheckpointError(ValueError):
    """A file that is no legacy PyTorch state dict, or a damaged one."""


@dataclasses.dataclass
class _Storage:
    """A flat array that tensors are views of; its elements come after the pickles."""

    dtype: np.dtype
    elements: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Arguments of `torch._utils._rebuild_tensor_v2`, kept until the storages are read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def to_numpy(self) -> np.ndarray:
        elements = self.storage.elements
        assert elements is not None
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape or self.offset < 0 or min(self.strides, default=0) < 0:
            raise CheckpointError(f"a tensor of shape {self.shape} cannot be rebuilt.")
        if last >= elements.size:
            raise CheckpointError(f"a tensor of shape {self.shape} reaches beyond its storage.")
        strides = tuple(stride * elements.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


class _Unpickler(pickle.Unpickler):
    """Knows what a state dict is made of, and refuses every other name: pickles can run code."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, tuple(shape), tuple(strides)
            )
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        raise CheckpointError(f"it names {module}.{name}, which has no place in a state dict.")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, _, view = pid
        if view is not None:
            raise CheckpointError("it holds views of storages, which this reader does not know.")
        return self.storages.setdefault(key, _Storage(dtype))


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a legacy PyTorch checkpoint.

    Args:
      path: A `.pth` file that holds a state dict and nothing else.

    Returns:
      Arrays by parameter name, in the layout PyTorch gives them.

    Raises:
      CheckpointError: The file is of another form, damaged, or holds other objects than tensors.
    """
    with path.open("rb") as file:
        try:
            state_dict = _read(file)
        except CheckpointError as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        except (pickle.UnpicklingError, EOFError, struct.error, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is no legacy PyTorch checkpoint, or a damaged one: {error}"
            ) from error
    return state_dict


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != _MAGIC_NUMBER:
        raise CheckpointError("the magic number is wrong.")
    _Unpickler(file).load()  # protocol version: 1001 is the only one there ever was
    if not _Unpickler(file).load()["little_endian"]:
        raise CheckpointError("it was written on a big-endian machine.")
    unpickler = _Unpickler(file)
    tensors = unpickler.load()
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        (size,) = struct.unpack("<q", file.read(8))
        storage.elements = np.frombuffer(file.read(size * storage.dtype.itemsize), storage.dtype)
        if storage.elements.size != size:
            raise CheckpointError("it ends in the middle of a tensor.")
    if not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise CheckpointError("it holds other objects than tensors.")
    return {name: tensor.to_numpy() for name, tensor in tensors.items()}
