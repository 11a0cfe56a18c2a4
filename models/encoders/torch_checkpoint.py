"""Reads legacy PyTorch checkpoints into NumPy, without PyTorch and without running the pickle.

The form before PyTorch 1.6, `torch.save(..., _use_new_zipfile_serialization=False)`: five pickles
(magic number, protocol, machine, the object, the storage keys), then for each key the number of
elements as int64 and the elements as they lay in memory (`_legacy_save` in torch/serialization.py).

Python's unpickler is not used, not even restricted: it can be made to allocate gigabytes by one
opcode, and to hash values that take years. The opcodes that a state dict is made of are read here.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickletools
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_STORAGE_TYPES: dict[str, np.dtype] = {
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch IntStorage": np.dtype("<i4"),
    "torch LongStorage": np.dtype("<i8"),
}
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_MOST_BYTES = 1 << 30
_MOST_OPCODES = 500_000  # of a pickle; EfficientNet-Lite2 has 14,000
_MOST_DIMENSIONS = 16


class CheckpointError(ValueError):
    """A file that is no legacy PyTorch state dict, or a damaged one."""


@dataclasses.dataclass
class _Storage:
    """A flat array that tensors are views of; its elements come after the pickles."""

    dtype: np.dtype
    size: int
    elements: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Arguments of `torch._utils._rebuild_tensor_v2`, kept until the storages are read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def to_numpy(self, name: str) -> np.ndarray:
        """The tensor, if it lies within its storage and has no more elements than that."""
        elements = self.storage.elements
        if elements is None:
            raise CheckpointError(f"the elements of {name[:99]!r} are not in it.")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if last >= elements.size or max(self.strides, default=0) > elements.size:
            raise CheckpointError(f"tensor {name[:99]!r} reaches beyond its storage.")
        if math.prod(self.shape) > elements.size:
            raise CheckpointError(f"tensor {name[:99]!r} is larger than its storage.")
        strides = tuple(stride * elements.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class _Name:
    """A global that a pickle names: one of a few, and none of them is ever called."""

    name: str


class _Mark:
    """Where a tuple or a run of items begins on the stack."""


class _Machine:
    """Carries out the opcodes of a pickle as far as state dicts need them."""

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self, file: io.BytesIO) -> Any:
        """The value of the pickle that begins here."""
        argument: Any
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            name = opcode.name
            if count >= _MOST_OPCODES:
                raise CheckpointError(f"its pickle has more than {_MOST_OPCODES} opcodes.")
            if name == "STOP":
                return self._pop()
            if name in ("BINPUT", "LONG_BINPUT"):
                self._memo[argument] = self._push(self._pop())
            elif name in ("BINGET", "LONG_BINGET"):
                if argument not in self._memo:
                    raise CheckpointError("its pickle gets what it never put.")
                self._push(self._memo[argument])
            elif name in _CONSTANTS:
                self._push(_CONSTANTS[name])
            elif name in _LITERALS:
                self._push(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name != "PROTO":
                raise CheckpointError(f"its pickle has the opcode {name}, which no state dict has.")
        raise CheckpointError("its pickle has no end.")

    def _push(self, value: Any) -> Any:
        self._stack.append(value)
        return value

    def _pop(self, expected: type = object) -> Any:
        value = self._stack.pop() if self._stack else _Mark()
        if isinstance(value, _Mark) or not isinstance(value, expected):
            raise CheckpointError("its pickle has one value in the place of another.")
        return value

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[index], _Mark):
                values = self._stack[index + 1 :]
                del self._stack[index:]
                return values
        raise CheckpointError("its pickle lacks a mark.")

    def _mark(self, _: Any) -> None:
        self._push(_Mark())

    def _tuple(self, _: Any) -> None:
        self._push(tuple(self._pop_to_mark()))

    def _tuple_of(self, count: int) -> None:
        self._push(tuple(reversed([self._pop() for _ in range(count)])))

    def _dict(self, _: Any) -> None:
        self._push({})

    def _list(self, _: Any) -> None:
        self._push([])

    def _set_items(self, items: list[Any]) -> None:
        target = self._pop(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise CheckpointError("it has keys that are no texts.")
            if key in target:
                raise CheckpointError(f"it has {key[:99]!r} twice.")
            target[key] = value
        self._push(target)

    def _append(self, items: list[Any]) -> None:
        target = self._pop(list)
        target += items
        self._push(target)

    def _build(self, _: Any) -> None:
        """Attributes of the state dict, such as `_metadata`, are of no use here."""
        self._pop()
        self._push(self._pop(dict))

    def _global(self, name: str) -> None:
        if name not in (_DICT, _TENSOR, *_STORAGE_TYPES):
            raise CheckpointError(
                f"it names {name[:99].replace(' ', '.')}, which has no place in a state dict."
            )
        self._push(_Name(name))

    def _reduce(self, _: Any) -> None:
        arguments, callee = self._pop(tuple), self._pop(_Name).name
        if callee == _DICT and not arguments:
            self._push({})
        elif callee == _TENSOR:
            self._push(_tensor(arguments))
        else:
            raise CheckpointError("it calls what is not to be called.")

    def _persistent(self, _: Any) -> None:
        """A storage, by `("storage", type, key, location, number of elements, view)`."""
        identifier = self._pop(tuple)
        if len(identifier) != 6:
            raise CheckpointError("a storage of it is not described as PyTorch does.")
        _, kind, key, _, size, view = identifier
        if view is not None:
            raise CheckpointError("it holds views of storages, which this reader does not know.")
        dtype = _STORAGE_TYPES.get(kind.name) if isinstance(kind, _Name) else None
        if dtype is None or not (isinstance(key, str) and _is_count(size)):
            raise CheckpointError("a storage of it is not described as PyTorch does.")
        storage = _Storage(dtype, size)
        known = self.storages.setdefault(key, storage)
        if (known.dtype, known.size) != (storage.dtype, storage.size):
            raise CheckpointError("a storage of it is described in two ways.")
        self._push(known)


_CONSTANTS: Mapping[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE")
_STEPS: Mapping[str, Any] = {
    "MARK": _Machine._mark,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "EMPTY_DICT": _Machine._dict,
    "EMPTY_LIST": _Machine._list,
    "SETITEM": lambda machine, _: machine._set_items([machine._pop(), machine._pop()][::-1]),
    "SETITEMS": lambda machine, _: machine._set_items(machine._pop_to_mark()),
    "APPEND": lambda machine, _: machine._append([machine._pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_to_mark()),
    "BUILD": _Machine._build,
    "GLOBAL": _Machine._global,
    "REDUCE": _Machine._reduce,
    "BINPERSID": _Machine._persistent,
}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a legacy PyTorch checkpoint.

    Nothing in the file is run, and no more memory is taken than some times the size of the file.

    Args:
      path: A `.pth` file that holds a state dict and nothing else.

    Returns:
      Arrays by parameter name, in the layout PyTorch gives them.

    Raises:
      CheckpointError: The file is of another form, damaged, or holds other objects than tensors.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"it has more than {_MOST_BYTES} bytes.")
        return _read(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, struct.error) as error:  # of pickletools: not opcodes, or not all of one
        raise CheckpointError(
            f"{path} is no legacy PyTorch checkpoint, or a damaged one: {error}"
        ) from error


def _read(content: bytes) -> dict[str, np.ndarray]:
    if content.startswith(b"PK"):
        raise CheckpointError(
            "it is of the form that PyTorch writes since 1.6, and must be of the one before: "
            "torch.save(..., _use_new_zipfile_serialization=False)."
        )
    file = io.BytesIO(content)
    if not _is_equal(_Machine().load(file), _MAGIC_NUMBER):
        raise CheckpointError("the magic number is wrong.")
    _Machine().load(file)  # protocol version: 1001 is the only one there ever was
    machine = _Machine().load(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError("it was written on a big-endian machine.")
    unpickler = _Machine()
    tensors = unpickler.load(file)
    if not isinstance(tensors, dict):
        raise CheckpointError("it holds no state dict.")
    _read_storages(content, file, unpickler.storages)
    for name, tensor in tensors.items():
        if not isinstance(tensor, _Tensor):
            raise CheckpointError(f"{name[:99]!r} is no tensor.")
    claimed = sum(math.prod(x.shape) * x.storage.dtype.itemsize for x in tensors.values())
    if claimed > len(content):
        raise CheckpointError("its tensors are larger than the file.")
    return {name: tensor.to_numpy(name) for name, tensor in tensors.items()}


def _read_storages(content: bytes, file: io.BytesIO, storages: Mapping[str, _Storage]) -> None:
    keys = _Machine().load(file)
    if not isinstance(keys, list):
        raise CheckpointError("it has no list of storages.")
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.elements is not None:
            raise CheckpointError("its list of storages names one that is not there, or one twice.")
        (size,) = struct.unpack("<q", file.read(8))
        if size != storage.size:
            raise CheckpointError("the size of a storage is not as it was said before.")
        offset = file.tell()
        if offset + size * storage.dtype.itemsize > len(content):
            raise CheckpointError("it ends in the middle of a tensor.")
        # A copy, since elements in the middle of a file are not aligned.
        storage.elements = np.frombuffer(content, storage.dtype, size, offset).copy()
        file.seek(storage.elements.nbytes, io.SEEK_CUR)
    if file.read(1):
        raise CheckpointError("there is more in it after the last tensor.")


def _tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """What `_rebuild_tensor_v2(storage, offset, shape, strides, ...)` would rebuild."""
    if len(arguments) < 4:
        raise CheckpointError("a tensor of it is not described as PyTorch does.")
    storage, offset, shape, strides = arguments[:4]
    counts = isinstance(shape, tuple) and isinstance(strides, tuple)
    if not (
        counts
        and isinstance(storage, _Storage)
        and _is_count(offset)
        and len(shape) == len(strides) <= _MOST_DIMENSIONS
        and all(_is_count(n) and n > 0 for n in shape)
        and all(map(_is_count, strides))
    ):
        raise CheckpointError("a tensor of it is not described as PyTorch does.")
    return _Tensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    """Whether it is a number that counts elements; those beyond 64 bits would be slow to handle."""
    return type(value) is int and 0 <= value < 1 << 63


def _is_equal(value: Any, number: int) -> bool:
    return type(value) is int and value == number
