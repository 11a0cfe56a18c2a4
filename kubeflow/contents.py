"""What an environment, and so an image, consists of: its packages and their sizes.

docker run --rm IMAGE python -m tfx_captioner.kubeflow.contents
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

MEGABYTE = 1e6


def package_sizes(folders: Sequence[str]) -> dict[str, int]:
    """Size of each installed package.

    Args:
      folders: Where packages are looked for, as in `sys.path`.

    Returns:
      `name==version` to bytes, the largest first: of the files that came with the package and are
      still there, without bytecode that was compiled at installation.
    """
    sizes = {
        f"{package.metadata['Name']}=={package.version}": sum(
            path.stat().st_size
            for file in package.files or ()
            if (path := Path(str(file.locate()))).is_file()
        )
        for package in metadata.distributions(path=list(folders))
    }
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def main() -> None:
    """Prints a line per package, and the sum."""
    sizes = package_sizes(sys.path)
    for package, size in sizes.items():
        print(f"{size / MEGABYTE:8.1f} MB  {package}")
    print(f"{sum(sizes.values()) / MEGABYTE:8.1f} MB  in {len(sizes)} packages")


if __name__ == "__main__":
    main()
