"""Hands a compiled pipeline to Kubeflow Pipelines: once, or by a schedule.

TFX's own way, `tfx run create --engine=kubeflow`, does not work from TFX 1.16 on; this is kfp's.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from kfp.client import Client

from tfx_captioner.kubeflow.config import KubeflowConfig
from tfx_captioner.kubeflow.runner import compile_pipeline
from tfx_captioner.pipeline.configs import PipelineConfig
from tfx_captioner.pipeline.errors import UserError


@dataclass(frozen=True)
class Submission:
    """What Kubeflow Pipelines made of it.

    Attributes:
      pipeline_id: The pipeline.
      version_id: The version of it that was compiled now.
      run_id: The run, or the recurring run.
    """

    pipeline_id: str
    version_id: str
    run_id: str


def submit(
    config: PipelineConfig, settings: KubeflowConfig, client: Client, cron: str | None = None
) -> Submission:
    """Compiles, uploads a new version of the pipeline, and starts it.

    Args:
      config: Settings of the run.
      settings: Settings of the cluster, of back end "kubeflow".
      client: Connected to Kubeflow Pipelines.
      cron: Six fields, seconds first, as Kubeflow reads them; None to run once, at once.

    Raises:
      UserError: The settings are of another back end.
    """
    if settings.backend != "kubeflow":
        raise UserError(
            "`submit` is for Kubeflow Pipelines; Vertex AI is given the compiled file by its own "
            f"client. Received settings of back end {settings.backend!r}."
        )
    version = datetime.now(timezone.utc).strftime(f"{config.name}-%Y%m%d-%H%M%S")
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{config.name}.yaml"
        compile_pipeline(config, settings, package)
        pipeline_id = client.get_pipeline_id(config.name)
        if pipeline_id is None:
            pipeline_id = client.upload_pipeline(str(package), config.name).pipeline_id
        uploaded = client.upload_pipeline_version(str(package), version, pipeline_id)
    version_id = uploaded.pipeline_version_id
    experiment = client.create_experiment(config.name)  # or finds it
    common = {
        "experiment_id": experiment.experiment_id,
        "job_name": version,
        "pipeline_id": pipeline_id,
        "version_id": version_id,
        "pipeline_root": settings.pipeline_root,
        "service_account": settings.service_account,
    }
    if cron is None:
        run_id = client.run_pipeline(**common).run_id
    else:
        # Two runs would push into the same folders, so there is one at a time.
        recurring = client.create_recurring_run(cron_expression=cron, max_concurrency=1, **common)
        run_id = recurring.recurring_run_id
    return Submission(pipeline_id, version_id, run_id)
