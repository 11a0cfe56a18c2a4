"""What the entry point does to the back end's input, before TFX reads it."""

from __future__ import annotations

import pytest

from tfx_captioner.kubeflow.entrypoint import prepare, to_path, to_uri

EXAMPLES = {"instanceSchema": "title: tfx.Examples"}


def test_artifacts_get_local_paths_and_declared_types_and_parameters_stay() -> None:
    invocation = {
        "inputs": {
            "artifacts": {
                "examples": {"artifacts": [{"name": "7", "uri": "minio://bucket/examples"}]}
            },
            "parameterValues": {"input_base": "gs://bucket/records"},
        },
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"uri": "s3://bucket/model"}]}},
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }
    prepared = prepare(invocation, {"artifacts": {"examples": {"artifactType": EXAMPLES}}}, "/")
    assert prepared == {
        "inputs": {
            "artifacts": {
                "examples": {
                    "artifacts": [{"name": "7", "uri": "/minio/bucket/examples", "type": EXAMPLES}]
                }
            },
            "parameterValues": {"input_base": "gs://bucket/records"},
        },
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"uri": "/s3/bucket/model"}]}},
            "outputFile": "/tmp/kfp_outputs/output_metadata.json",
        },
    }


@pytest.mark.parametrize("uri", ["gs://b/k", "s3://b/k/x", "minio://b/k", "/mnt/captioner/models"])
def test_uris_survive_the_way_to_paths_and_back(uri: str) -> None:
    assert to_uri(to_path(uri, "/"), "/") == uri
    assert "://" not in to_path(uri, "/pod")


def test_workers_elsewhere_get_uris() -> None:
    invocation = {
        "inputs": {"artifacts": {"examples": {"artifacts": [{"uri": "gs://bucket/examples"}]}}},
        "outputs": {"artifacts": {}, "outputFile": "gs://bucket/executor_output.json"},
    }
    prepared = prepare(invocation, {"artifacts": {"examples": {"artifactType": EXAMPLES}}}, None)
    artifact = prepared["inputs"]["artifacts"]["examples"]["artifacts"][0]
    assert artifact == {"uri": "gs://bucket/examples", "type": EXAMPLES}
    assert prepared["outputs"] == invocation["outputs"]
