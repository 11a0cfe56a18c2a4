"""Work of the PushedModel."""

from __future__ import annotations

import logging
from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_captioner.components.artifacts import PUSHED_VERSION
from tfx_captioner.serving import versions

LOG = logging.getLogger("captioner.pushed_model")


class Executor(BaseExecutor):
    """Copies the highest whole version, where there is one."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Looks into `base_directory` and copies the SavedModel to where TFX looks for it.

        Args:
          input_dict: Nothing.
          output_dict: `model`.
          exec_properties: `base_directory`.
        """
        base = exec_properties["base_directory"]
        model = artifact_utils.get_single_instance(output_dict["model"])
        version, path = latest_version(base)
        model.set_int_custom_property(PUSHED_VERSION, version)
        if not version:
            LOG.info("nothing was pushed to %s yet", base)
            fileio.makedirs(model.uri)
            return
        # The Pusher leaves out the folder that a Model artifact keeps its SavedModel in.
        io_utils.copy_dir(path, path_utils.serving_model_dir(model.uri))
        LOG.info("version %d of %s", version, base)


def latest_version(base_directory: str) -> tuple[int, str]:
    """The highest version that is whole and as it was pushed, and its path; 0 where there is none.

    Args:
      base_directory: Local path or URI; need not exist.
    """
    for version, path in reversed(versions.whole_versions(base_directory).items()):
        problems = versions.damage(path)
        if not problems:
            return version, path
        LOG.warning("version %d is left out: %s", version, "; ".join(problems))
    return 0, ""
