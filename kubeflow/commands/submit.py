"""`captioner submit`: the pipeline, started on a cluster."""

from __future__ import annotations

import argparse

from tfx_captioner.pipeline.arguments import add_preset

HELP = "Start the pipeline on Kubeflow Pipelines, once or by a schedule."
EXAMPLES = """\
examples:
  captioner submit --host http://localhost:8888 --settings my-cluster.yaml
  captioner submit --host http://localhost:8888 --settings my-cluster.yaml --cron '0 0 2 * * 0'

The host is the API of Kubeflow Pipelines; from outside of the cluster:
  kubectl -n kubeflow port-forward svc/ml-pipeline 8888
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the cluster, preset and overrides."""
    parser.add_argument("--host", required=True, help="URL of the API of Kubeflow Pipelines")
    parser.add_argument("--namespace", default="kubeflow", help="namespace of the runs")
    parser.add_argument(
        "--settings",
        metavar="FILE",
        required=True,
        help="settings of the cluster: a copy of kubeflow/settings/kubeflow.yaml",
    )
    add_preset(parser)
    parser.add_argument(
        "--cron", metavar="EXPRESSION", help="run by this schedule; six fields, seconds first"
    )


def run(args: argparse.Namespace) -> int:
    """Submits, and says what came of it."""
    from tfx_captioner.kubeflow.config import load_settings
    from tfx_captioner.pipeline.configs import load_config

    settings = load_settings(args.settings)
    config = load_config(args.preset, args.overrides)
    from kfp.client import Client

    from tfx_captioner.kubeflow.submit import submit

    client = Client(host=args.host, namespace=args.namespace)
    submission = submit(config, settings, client, args.cron)
    kind = "recurring run" if args.cron else "run"
    print(f"{kind} {submission.run_id} of version {submission.version_id}")
    return 0
