"""Legacy PyTorch checkpoints, written by hand as `torch.save` did, and damaged in many ways.

A short pass with fixed seeds is part of the suite; `CAPTIONER_FUZZ_EXAMPLES=20000` tries that many
others.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import EncoderWeightsError, build_encoder
from tfx_captioner.models.encoders.torch_checkpoint import CheckpointError, read_state_dict

MAGIC_NUMBER, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
REBUILD = b"torch._utils\n_rebuild_tensor_v2\n"
EXAMPLES = os.environ.get("CAPTIONER_FUZZ_EXAMPLES")
FUZZ = settings(
    max_examples=int(EXAMPLES or 150),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)


def value(content: Any) -> bytes:
    """Opcodes that push a value, as protocol 2 has them, without a memo."""
    if isinstance(content, bytes):
        return content  # opcodes already
    if isinstance(content, str):
        return b"X" + struct.pack("<I", len(content.encode())) + content.encode()
    if isinstance(content, tuple):
        return b"(" + b"".join(map(value, content)) + b"t"
    if content is None:
        return b"N"
    if isinstance(content, int) and not -(1 << 31) <= content < 1 << 31:
        encoded = pickle.encode_long(content)
        return b"\x8a" + bytes([len(encoded)]) + encoded
    return b"J" + struct.pack("<i", content)


def storage(key: Any, size: Any, kind: bytes = b"FloatStorage", view: Any = None) -> bytes:
    return value(("storage", b"ctorch\n" + kind + b"\n", key, "cpu", size, view)) + b"Q"


def tensor(
    of: Any, shape: Any, strides: Any, offset: Any = 0, name: bytes = REBUILD, more: bytes = b"\x89"
) -> bytes:
    """`_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`."""
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"c"
        + name
        + b"("
        + b"".join(map(value, (of, offset, shape, strides)))
        + more
        + hooks
        + b"tR"
    )


def file_of(
    entries: Mapping[str, bytes] | bytes,
    elements: Mapping[Any, bytes],
    *,
    header: tuple[Any, ...] = (MAGIC_NUMBER, PROTOCOL, {"little_endian": True}),
    keys: Any = None,
    after: bytes = b"",
) -> bytes:
    """A checkpoint.

    Args:
      entries: Opcodes of each value of the state dict, or those of the whole object.
      elements: What comes for each storage: the number of elements, and those.
      header: The pickles before the object.
      keys: The storage keys, where they are others than those of `elements`.
      after: What comes at the end.
    """
    if not isinstance(entries, bytes):
        items = b"".join(value(key) + entry for key, entry in entries.items())
        entries = b"ccollections\nOrderedDict\n)Rq\x01(" + items + b"u}" + b"X\1\0\0\0aNsb"
    parts = [pickle.dumps(part, 2) for part in header]
    parts += [b"\x80\x02" + entries + b"."]
    parts += [pickle.dumps([*elements] if keys is None else keys, 2), *elements.values(), after]
    return b"".join(parts)


def sized(values: np.ndarray, size: int | None = None) -> bytes:
    """Elements as they lie in memory, which for a transposed tensor is not row-major."""
    flat = values.ravel(order="K")
    return struct.pack("<q", flat.size if size is None else size) + flat.tobytes()


def checkpoint(tensors: Mapping[str, np.ndarray]) -> bytes:
    kinds = {"f": b"FloatStorage", "i": b"LongStorage"}
    entries = {}
    for name, values in tensors.items():
        strides = tuple(stride // values.itemsize for stride in values.strides)
        of = storage(f"k{name}", values.size, kinds[values.dtype.kind])
        entries[name] = tensor(of, values.shape, strides)
    return file_of(entries, {f"k{name}": sized(values) for name, values in tensors.items()})


TENSORS = {
    "weight": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "transposed": np.arange(24, dtype="<f4").reshape(2, 3, 4).transpose(2, 0, 1),
    "num_batches_tracked": np.array(7, "<i8"),
}
GOOD = checkpoint(TENSORS)
ONE = {"k": sized(np.arange(4, dtype="<f4"))}
FOUR = storage("k", 4)


def read(folder: Path, content: bytes) -> dict[str, np.ndarray]:
    path = folder / "a.pth"
    path.write_bytes(content)
    return read_state_dict(path)


def test_reads_arrays_of_any_layout(tmp_path: Path) -> None:
    state_dict = read(tmp_path, GOOD)
    assert list(state_dict) == list(TENSORS)
    for name, values in TENSORS.items():
        assert state_dict[name].dtype == values.dtype
        np.testing.assert_array_equal(state_dict[name], values)


def test_tensors_may_share_a_storage(tmp_path: Path) -> None:
    entries = {"a": tensor(FOUR, (2,), (1,)), "b": tensor(FOUR, (2,), (1,), offset=2)}
    state_dict = read(tmp_path, file_of(entries, ONE))
    assert {name: values.tolist() for name, values in state_dict.items()} == {
        "a": [0.0, 1.0],
        "b": [2.0, 3.0],
    }


HUGE = 13 * 2**30
ATTACKS: dict[str, tuple[bytes, str]] = {
    "code": (
        file_of({"a": tensor(FOUR, (4,), (1,), name=b"os\nsystem\n")}, ONE),
        "names os.system",
    ),
    "code in a tuple": (file_of(b"cos\nsystem\n(X\2\0\0\0idtR", {}), "names os.system"),
    "call of a type": (file_of(b"ctorch\nFloatStorage\n)R", {}), "calls what is not to be called"),
    "call of a number": (file_of(b"K\1)R", {}), "one value in the place of another"),
    "another opcode": (file_of(b"K\1\x85\x94", {}), "the opcode MEMOIZE, which no state dict has"),
    "an object": (file_of(b"(i__main__\nA\n", {}), "the opcode INST, which no state dict has"),
    "a memo of gigabytes": (
        file_of(b"Nr\xff\xff\xff\x7f0N", {}),
        "the opcode POP, which no state dict has",
    ),
    "a text of gigabytes": (file_of(b"X\xff\xff\xff\x7fa", {}), "expected 2147483647 bytes"),
    "what was never put": (file_of(b"h\7", {}), "gets what it never put"),
    "an empty stack": (file_of(b"\x86", {}), "one value in the place of another"),
    "no mark": (file_of(b"t", {}), "lacks a mark"),
    "items without a dict": (file_of(b"NK\1K\2s", {}), "one value in the place of another"),
    "half an item": (file_of(b"}(X\1\0\0\0au", {}), "no legacy PyTorch checkpoint"),
    "state of a number": (file_of(b"K\1Nb", {}), "one value in the place of another"),
    "too many opcodes": (file_of(b"N" * 500_001, {}), "more than 500000 opcodes"),
    "keys of years": (
        # Tuples of tuples: Python hashes the inmost one 2**60 times.
        file_of(b"})q\1" + b"h\1h\1\x86q\1" * 60 + b"Ns", {}),
        "one value in the place of another",
    ),
    "keys of years in a dict": (
        file_of(b")q\1" + b"h\1h\1\x86q\1" * 60 + b"}h\1Ns", {}),
        "keys that are no texts",
    ),
    "a name twice": (
        file_of(b"}(" + (value("a") + tensor(FOUR, (4,), (1,))) * 2 + b"u", ONE),
        "it has 'a' twice",
    ),
    "no dict": (file_of(b"]", {}), "holds no state dict"),
    "a module": (file_of({"a": value(1)}, {}), "'a' is no tensor"),
    "a list of names": (file_of(b"](NNe", {}), "holds no state dict"),
    "a type unknown": (
        file_of({"a": tensor(storage("k", 4, b"ComplexFloatStorage"), (4,), (1,))}, ONE),
        "names torch.ComplexFloatStorage",
    ),
    "a view": (
        file_of({"a": tensor(storage("k", 4, view=("v", 0, 1)), (4,), (1,))}, ONE),
        "views of",
    ),
    "a short description": (
        file_of({"a": value(("storage", "k")) + b"Q"}, ONE),
        "not described as",
    ),
    "a size below zero": (
        file_of({"a": tensor(storage("k", -4), (4,), (1,))}, ONE),
        "not described",
    ),
    "a key of a number": (
        file_of({"a": tensor(storage(7, 4), (4,), (1,))}, ONE),
        "not described as",
    ),
    "two sizes": (
        file_of({"a": tensor(FOUR, (4,), (1,)), "b": tensor(storage("k", 9), (4,), (1,))}, ONE),
        "described in two ways",
    ),
    "another size": (
        file_of({"a": tensor(FOUR, (4,), (1,))}, {"k": sized(np.zeros(4, "<f4"), size=5)}),
        "the size of a storage is not as it was said before",
    ),
    "gigabytes of elements": (
        file_of(
            {"a": tensor(storage("k", HUGE), (HUGE,), (1,))},
            {"k": sized(np.zeros(4, "<f4"), size=HUGE)},
        ),
        "ends in the middle of a tensor",
    ),
    "no elements": (file_of({"a": tensor(FOUR, (4,), (1,))}, {}), "elements of 'a' are not in it"),
    "elements twice": (
        file_of({"a": tensor(FOUR, (4,), (1,))}, ONE, keys=["k", "k"]),
        "names one that is not there, or one twice",
    ),
    "elements of others": (file_of({}, {"k": b""}), "names one that is not there"),
    "keys that are no list": (file_of({}, {}, keys={"k": 1}), "has no list of storages"),
    "keys that are no texts": (file_of({}, {}, keys=[7]), "names one that is not there"),
    "more at the end": (
        file_of({"a": tensor(FOUR, (4,), (1,))}, ONE, after=b"x"),
        "more in it after",
    ),
    "beyond the storage": (file_of({"a": tensor(FOUR, (4,), (1,), 1)}, ONE), "reaches beyond"),
    "far beyond": (file_of({"a": tensor(FOUR, (1,), (2**62,))}, ONE), "reaches beyond its storage"),
    "before the storage": (file_of({"a": tensor(FOUR, (2,), (1,), -1)}, ONE), "not described as"),
    "strides backwards": (file_of({"a": tensor(FOUR, (2,), (-1,))}, ONE), "not described as"),
    "strides of zero": (file_of({"a": tensor(FOUR, (HUGE,), (0,))}, ONE), "larger than the file"),
    "strides of little": (file_of({"a": tensor(FOUR, (8,), (0,))}, ONE), "larger than its storage"),
    "no elements in it": (
        file_of({"a": tensor(FOUR, (0,), (1,))}, ONE),
        "not described as PyTorch",
    ),
    "shape and strides": (
        file_of({"a": tensor(FOUR, (2, 2), (1,))}, ONE),
        "not described as PyTorch",
    ),
    "a number of 2,000 bits": (
        file_of({"a": tensor(FOUR, (2**2000,), (1,))}, ONE),
        "not described",
    ),
    "a shape of texts": (
        file_of({"a": tensor(FOUR, ("x",), (1,))}, ONE),
        "not described as PyTorch",
    ),
    "a shape that is none": (
        file_of({"a": tensor(FOUR, 4, 1)}, ONE),
        "not described as PyTorch does",
    ),
    "100 dimensions": (
        file_of({"a": tensor(FOUR, (1,) * 100, (1,) * 100)}, ONE),
        "not described as",
    ),
    "no tensor of a tensor": (file_of({"a": tensor(None, (4,), (1,))}, ONE), "not described as"),
    "another magic number": (file_of({}, {}, header=(1, 1001, {})), "the magic number is wrong"),
    "a magic text": (file_of({}, {}, header=("x", 1001, {})), "the magic number is wrong"),
    "another machine": (
        file_of({}, {}, header=(MAGIC_NUMBER, PROTOCOL, {"little_endian": False})),
        "big-endian machine",
    ),
    "no machine": (file_of({}, {}, header=(MAGIC_NUMBER, PROTOCOL, 7)), "big-endian machine"),
    "a zip file": (b"PK\3\4 and so on", "must be of the one before: torch.save"),
    "nothing": (b"", "no legacy PyTorch checkpoint"),
    "a text": (b"<html>no such page</html>", "no legacy PyTorch checkpoint"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_explained_and_get_no_memory(tmp_path: Path, attack: str) -> None:
    content, message = ATTACKS[attack]
    tracemalloc.start()
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, content)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 64 << 20
    assert str(caught.value).startswith(f"{tmp_path / 'a.pth'} ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_tensors_of_one_storage_are_not_more_than_the_file(tmp_path: Path) -> None:
    elements = np.zeros(1000, "<f4")
    of = storage("k", 1000)
    entries = {f"t{number}": tensor(of, (1000,), (1,)) for number in range(9)}
    with pytest.raises(CheckpointError, match="its tensors are larger than the file"):
        read(tmp_path, file_of(entries, {"k": sized(elements)}))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.pth"):
        with pytest.raises(CheckpointError, match=rf"{path} cannot be read: "):
            read_state_dict(path)
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(CheckpointError, match="has more than 1073741824 bytes"):
        read_state_dict(tmp_path / "large.pth")


def test_encoders_say_whose_weights_they_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(ATTACKS["gigabytes of elements"][0])
    with pytest.raises(EncoderWeightsError, match=rf"{path} does not hold weights of encoder effi"):
        build_encoder(EncoderConfig("efficientnet_lite0", str(path), input_size=32))


@FUZZ
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 4),
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"\xff" * 8, b"\0" * 8, b"r\xff\xff\xff\xff", b"(", b".", b"R"]),
            ),
        ),
        max_size=4,
    ),
    st.integers(0, len(GOOD)),
)
@example([], 0)
def test_spoilt_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    edits: list[tuple[int, int, bytes]],
    end: int,
) -> None:
    """Whatever becomes of a good file: it is read, or refused with a reason."""
    content = GOOD
    for start, length, new in edits:
        content = content[:start] + new + content[start + length :]
    for spoilt in (content, content[:end]):
        folder = tmp_path_factory.getbasetemp()
        with contextlib.suppress(CheckpointError):
            tensors = read(folder, spoilt)
            assert all(values.nbytes <= len(spoilt) for values in tensors.values())
