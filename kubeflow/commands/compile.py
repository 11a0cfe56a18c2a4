"""`captioner compile`: the pipeline as a file a cluster runs."""

from __future__ import annotations

import argparse

from tfx_captioner.pipeline.arguments import add_preset

HELP = "Compile the pipeline for Kubeflow Pipelines or Vertex AI."
EXAMPLES = """\
examples:
  captioner compile kubeflow captioner.yaml --image registry.example.com/tfx-captioner:0.1.0
  captioner compile kubeflow captioner.yaml --settings my-cluster.yaml --preset flickr8k
  captioner compile vertex captioner.yaml --settings my-project.yaml --set trainer.epochs=3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds back end, output, preset and overrides."""
    parser.add_argument("backend", choices=("kubeflow", "vertex"), help="where it will run")
    parser.add_argument("output", metavar="OUT.yaml", help="file to write")
    add_preset(parser)
    parser.add_argument(
        "--settings",
        metavar="FILE",
        help="settings of the cluster: a copy of kubeflow/settings/<back end>.yaml (the default)",
    )
    parser.add_argument("--image", help="image of all nodes, over that of the settings")


def run(args: argparse.Namespace) -> int:
    """Compiles, and says what to do with the file."""
    from pathlib import Path

    from tfx_captioner.kubeflow.config import load_settings
    from tfx_captioner.pipeline.configs import load_config
    from tfx_captioner.pipeline.noise import silence_libraries

    values = {"backend": args.backend, "image": args.image}
    settings = load_settings(
        args.settings or args.backend,
        {key: value for key, value in values.items() if value is not None},
    )
    config = load_config(args.preset, args.overrides)
    silence_libraries()
    from tfx_captioner.kubeflow.runner import compile_pipeline

    job = compile_pipeline(config, settings, Path(args.output))
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    print(f"{args.output}: {len(tasks)} nodes of {config.name}, image {settings.image}")
    return 0
