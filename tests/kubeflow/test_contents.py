"""What an image consists of, on a folder of two made-up packages."""

from __future__ import annotations

from pathlib import Path

from tfx_captioner.kubeflow.contents import package_sizes


def install(folder: Path, name: str, version: str, files: dict[str, int]) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")
    info.joinpath("RECORD").write_text("".join(f"{file},,\n" for file in [*files, "removed.h"]))
    for file, size in files.items():
        folder.joinpath(file).write_bytes(b"0" * size)


def test_packages_are_listed_by_the_size_of_what_is_there(tmp_path: Path) -> None:
    install(tmp_path, "small", "1.0", {"small.py": 10})
    install(tmp_path, "large", "2.1", {"large.py": 20, "large.so": 1000})
    # Bytecode is in no record.
    tmp_path.joinpath("small.pyc").write_bytes(b"0" * 5000)
    assert list(package_sizes([str(tmp_path)]).items()) == [
        ("large==2.1", 1020),
        ("small==1.0", 10),
    ]
