"""Compiles the pipeline for Kubeflow Pipelines v2, and for Vertex AI Pipelines.

`captioner compile` and the `tfx` command line both end here:

    captioner compile kubeflow captioner.yaml --settings my-cluster.yaml
    tfx pipeline create --engine=vertex --pipeline-path=kubeflow/runner.py

The `tfx` command line hands no settings through, so environment variables do: `CAPTIONER_KUBEFLOW`
(settings of the cluster, default `kubeflow`) beside those of `pipeline.local_runner`. Its
`--engine=kubeflow` is of no use: TFX 1.16 to 1.21 import a module there that they no longer have.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import yaml
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
    KubeflowV2DagRunner,
    KubeflowV2DagRunnerConfig,
)
from tfx.orchestration.pipeline import Pipeline

from tfx_captioner.kubeflow import entrypoint
from tfx_captioner.kubeflow.config import KubeflowConfig, load_settings, match_nodes
from tfx_captioner.kubeflow.spec import Spec, adapt, check_importable, platform_spec
from tfx_captioner.pipeline.beam_arguments import runs_elsewhere
from tfx_captioner.pipeline.configs import PipelineConfig, load_config
from tfx_captioner.pipeline.errors import UserError
from tfx_captioner.pipeline.pipeline import Locations, Previous, create_pipeline


class Runner(KubeflowV2DagRunner):
    """TFX's runner, which compiles, with the cluster's settings worked into what it writes."""

    def __init__(self, settings: KubeflowConfig, output: Path) -> None:
        """Sets up the compiler.

        Args:
          settings: Settings of the cluster.
          output: File to write. `.yaml` is what Kubeflow Pipelines and Vertex AI take; `.json` is
            what the `tfx` command line keeps for Vertex AI.
        """
        super().__init__(
            KubeflowV2DagRunnerConfig(
                default_image=settings.image,
                default_commands=["python", "-m", entrypoint.MODULE],
                use_pipeline_spec_2_1=True,
            ),
            output_dir=str(output.parent),
            output_filename=output.name,
        )
        self._settings = settings

    def run(
        self,
        pipeline: Pipeline,
        parameter_values: dict[str, Any] | None = None,
        write_out: bool | None = True,
    ) -> Spec:
        """Compiles a pipeline.

        Args:
          pipeline: TFX pipeline.
          parameter_values: Runtime parameters by name.
          write_out: Whether the file is written.

        Returns:
          The PipelineJob.

        Raises:
          UserError: The pipeline cannot run on this back end.
        """
        check_importable(pipeline.components)
        _set_beam_arguments(pipeline, self._settings)
        job: Spec = super().run(pipeline, parameter_values, write_out=False)
        job["pipelineSpec"] = adapt(job["pipelineSpec"], self._settings)
        if write_out:
            # The `tfx` command line sets these two to its own folder.
            output = Path(self._output_dir) / self._output_filename
            write_job(job, self._settings, output)
        return job


def compile_pipeline(config: PipelineConfig, settings: KubeflowConfig, output: Path) -> Spec:
    """Compiles the project's pipeline and writes it.

    Args:
      config: Settings of the run.
      settings: Settings of the cluster.
      output: A `.yaml` or `.json` file.

    Returns:
      The PipelineJob.

    Raises:
      UserError: Settings the back end cannot keep.
    """
    locations = Locations(
        records=settings.records,
        artifacts=settings.pipeline_root,
        serving=settings.serving,
        schema=settings.schema,
        checkpoints=settings.checkpoints,
    )
    pipeline = create_pipeline(config, locations, previous=Previous.SERVING)
    pipeline.enable_cache = settings.caching
    if config.data_gate.drift:
        raise UserError(
            "`data_gate.drift` compares with the statistics of an earlier run, which a cluster's "
            "pipeline has no resolver for. Leave it empty, or run with `captioner run`. "
            f"Received: {config.data_gate.drift}."
        )
    return Runner(settings, output).run(pipeline)


def write_job(job: Spec, settings: KubeflowConfig, output: Path) -> None:
    """Writes a compiled job in the form its suffix asks for.

    Args:
      job: PipelineJob.
      settings: Settings of the cluster.
      output: File to write.

    Raises:
      UserError: Another suffix.
    """
    if output.suffix == ".json":
        text = json.dumps(job, indent=1, sort_keys=True)
    elif output.suffix in (".yaml", ".yml"):
        documents = [job["pipelineSpec"], platform_spec(job["pipelineSpec"], settings)]
        text = yaml.safe_dump_all([document for document in documents if document])
    else:
        raise UserError(f"The output must end in .yaml or .json. Received: {output}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")


def _set_beam_arguments(pipeline: Pipeline, settings: KubeflowConfig) -> None:
    """Adds each node's Beam arguments behind those of the whole pipeline."""
    beam_nodes = {
        node.id: node for node in pipeline.components if isinstance(node, BaseBeamComponent)
    }
    matched = match_nodes(settings.beam_pipeline_args, beam_nodes, "beam_pipeline_args")
    for node_id, arguments in matched.items():
        if runs_elsewhere(arguments) and not settings.pipeline_root.startswith("gs://"):
            raise UserError(
                f"`beam_pipeline_args` of {node_id} names a runner on other machines, which read "
                f"artifacts from gs:// alone. Received a `pipeline_root` of "
                f"{settings.pipeline_root}, and {arguments}."
            )
        beam_nodes[node_id].with_beam_pipeline_args(arguments)


def main() -> None:
    """Entry point of the `tfx` command line."""
    config = load_config(
        os.environ.get("CAPTIONER_PRESET", "sample"),
        shlex.split(os.environ.get("CAPTIONER_SET", "")),
    )
    settings = load_settings(os.environ.get("CAPTIONER_KUBEFLOW", "kubeflow"))
    compile_pipeline(config, settings, Path("pipeline.json"))


if __name__ == "__main__":
    main()
