"""Work of the ExampleGen."""

from __future__ import annotations

import posixpath
from typing import Any

from tfx.components.example_gen.import_example_gen import executor as import_example_gen
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, standard_component_specs
from tfx.utils import proto_utils

from tfx_captioner.checksums import find_damage


class DamagedRecordsError(ValueError):
    """Records that are not as the ingestion wrote them; the message names every file."""


class Executor(import_example_gen.Executor):
    """Looks at the checksums of all records, then imports them as TFX does.

    Beam names no file where one cannot be read ("Error -3 while decompressing data"), takes a file
    that was added for records, and does not miss one that is gone.
    """

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Checks, then imports.

        Args:
          input_dict: Empty.
          output_dict: `examples`.
          exec_properties: Those of ImportExampleGen; the pattern of each split is `FOLDER/*`.

        Raises:
          DamagedRecordsError: Records are missing, changed, or not of the ingestion.
        """
        folder = exec_properties[standard_component_specs.INPUT_BASE_KEY]
        config = example_gen_pb2.Input()
        proto_utils.json_to_proto(
            exec_properties[standard_component_specs.INPUT_CONFIG_KEY], config
        )
        check_records(folder, [posixpath.dirname(split.pattern) for split in config.splits])
        super().Do(input_dict, output_dict, exec_properties)


def check_records(folder: str, subfolders: list[str]) -> None:
    """Raises DamagedRecordsError if files in a folder's subfolders are not as they were written."""
    damage = find_damage(folder, subfolders)
    problems = [f"{path}: {problem}" for path, problem in damage.broken.items()]
    problems += [f"{path}: no ingestion wrote it" for path in damage.unknown]
    if problems:
        listing = "".join(f"\n  - {problem}" for problem in problems)
        raise DamagedRecordsError(
            f"{folder} is not as the ingestion wrote it:{listing}\n"
            "Run `captioner ingest` again, which writes damaged records anew from their source; "
            "files that it does not know have to be moved away first."
        )
