"""The real client of Kubeflow Pipelines, speaking HTTP with a stand-in of its API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import yaml
from kfp.client import Client

from tfx_captioner.kubeflow.config import load_settings
from tfx_captioner.kubeflow.submit import submit
from tfx_captioner.pipeline.configs import load_config
from tfx_captioner.pipeline.errors import UserError

ANSWERS = {
    "/apis/v2beta1/healthz": {},
    "/apis/v2beta1/pipelines": {},
    "/apis/v2beta1/pipelines/upload": {"pipeline_id": "p1", "display_name": "sample"},
    "/apis/v2beta1/pipelines/upload_version": {"pipeline_id": "p1", "pipeline_version_id": "v1"},
    "/apis/v2beta1/experiments": {"experiment_id": "e1"},
    "/apis/v2beta1/runs": {"run_id": "r1"},
    "/apis/v2beta1/recurringruns": {"recurring_run_id": "c1"},
}


class _Api(BaseHTTPRequestHandler):
    posted: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        # Nothing is there yet: no pipeline and no experiment.
        self._answer({} if path.endswith("experiments") else ANSWERS[path])

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        if kind.startswith("multipart/"):
            message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
            body = message.get_payload(0).get_payload(decode=True)
        self.posted[path.rsplit("/", 1)[1]] = body
        self._answer(ANSWERS[path])

    def _answer(self, content: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Stays quiet."""


@pytest.fixture
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    _Api.posted = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_run_is_started_from_the_uploaded_version(api: str) -> None:
    settings = load_settings("kubeflow", {"service_account": "trainer"})
    submission = submit(load_config("sample"), settings, Client(host=api))
    assert submission.run_id == "r1"
    spec, platform = yaml.safe_load_all(_Api.posted["upload_version"])
    assert spec["pipelineInfo"]["name"] == "sample"
    assert "kubernetes" in platform["platforms"]
    run = json.loads(_Api.posted["runs"])
    assert run["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": "v1"}
    assert run["service_account"] == "trainer"
    assert run["runtime_config"]["pipeline_root"] == settings.pipeline_root


def test_recurring_run_has_schedule_and_no_overlap(api: str) -> None:
    submission = submit(
        load_config("sample"), load_settings("kubeflow"), Client(host=api), "0 0 2 * * 0"
    )
    assert submission.run_id == "c1"
    job = json.loads(_Api.posted["recurringruns"])
    assert job["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * 0"
    assert job["max_concurrency"] == 1


def test_settings_of_vertex_are_refused(api: str) -> None:
    settings = replace(
        load_settings("kubeflow"), backend="vertex", volume_claim=None, pipeline_root="gs://b/r"
    )
    with pytest.raises(UserError, match="Kubeflow Pipelines; Vertex AI"):
        submit(load_config("sample"), settings, Client(host=api))
