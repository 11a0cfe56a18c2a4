"""The manifests: built by Kustomize, valid by Kubernetes' schemas, and fitting together."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from tfx_captioner.kubeflow.config import load_settings
from tfx_captioner.serving import config as serving_config
from tfx_captioner.serving import messages

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "kubeflow"
OVERLAYS = ("serving/base", "serving/gcs", "recurring", "storage/minio")
# Of kinds that clusters add, Kubernetes has no schemas, but their makers have models.
CUSTOM = ("serving/kserve", "serving/prometheus-operator")
MODELS_OF_ADDED_KINDS = ("kserve==0.21.0", "cloudcoil-models-prometheus-operator==0.80.1.0")
VALIDATOR = "kubernetes-validate==1.37.0"
KUBERNETES = "1.31"

Manifest = dict[str, Any]


@functools.cache
def build(overlay: str) -> str:
    """What `kubectl apply -k` would send."""
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl, which has Kustomize in it")
    result = subprocess.run(
        ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", MANIFESTS / overlay],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def by_kind(overlay: str) -> dict[str, Manifest]:
    """The resources of an overlay that has one of each kind."""
    return {resource["kind"]: resource for resource in yaml.safe_load_all(build(overlay))}


@pytest.fixture(autouse=True)
def _credentials(request: pytest.FixtureRequest) -> Any:
    """MinIO's overlay reads a file that is not in git."""
    example = MANIFESTS / "storage/minio/credentials.env.example"
    target = example.with_suffix("")
    made = not target.exists()
    if made:
        shutil.copy(example, target)
    yield
    if made:
        target.unlink()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_resources_are_valid_by_the_schemas_of_kubernetes(overlay: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(build(overlay), encoding="utf-8")
    # In an environment of its own: where it is installed, kubernetes imports it, for seconds.
    tool = [ROOT / "scripts/uv", "tool", "run", "--quiet", "--from", VALIDATOR]
    if importlib.util.find_spec("kubernetes_validate"):
        tool = []
    result = subprocess.run(
        [*tool, "kubernetes-validate", "--strict", "-k", KUBERNETES, manifest],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Failed to fetch" in result.stderr or "resolve dependencies" in result.stderr:
        pytest.skip(f"{VALIDATOR} could not be fetched")
    assert result.returncode == 0, result.stdout + result.stderr
    count = len(list(yaml.safe_load_all(build(overlay))))
    assert result.stdout.count(" passed for resource ") == count, result.stdout


@pytest.mark.slow(reason="an environment of its own with the makers' models of both kinds")
def test_resources_of_added_kinds_are_valid_by_their_makers_models(tmp_path: Path) -> None:
    manifests = [tmp_path / f"{overlay.replace('/', '-')}.yaml" for overlay in CUSTOM]
    for manifest, overlay in zip(manifests, CUSTOM, strict=True):
        manifest.write_text(build(overlay), encoding="utf-8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(build(CUSTOM[0]).replace("storageUri", "storageUrl"), encoding="utf-8")
    # The last one shows that the check can fail.
    result = _check_added_kinds(*manifests, wrong)
    if "Failed to fetch" in result.stderr or "No solution found" in result.stderr:
        pytest.skip(f"{' and '.join(MODELS_OF_ADDED_KINDS)} could not be fetched")
    assert result.stdout.splitlines() == [
        "InferenceService captioner is valid",
        "PodMonitor tf-serving is valid",
    ], result.stderr
    assert "InferenceService.spec.predictor.model.storageUrl is no field" in result.stderr


def _check_added_kinds(*manifests: Path) -> subprocess.CompletedProcess[str]:
    requirements = [part for model in MODELS_OF_ADDED_KINDS for part in ("--with", model)]
    uv_run = [ROOT / "scripts/uv", "run", "--quiet", "--isolated", "--no-project", *requirements]
    return subprocess.run(
        [*uv_run, "python", Path(__file__).with_name("added_kinds.py"), *manifests],
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_selects_the_pods_of_the_deployment() -> None:
    resources = by_kind("serving/base")
    pod = resources["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    selectors = [
        resources["Deployment"]["spec"]["selector"]["matchLabels"],
        resources["Service"]["spec"]["selector"],
        resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    target = resources["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        resources["Deployment"]["metadata"]["name"],
    )
    # A budget that all of the fewest pods are needed for would block every drain.
    assert (
        resources["PodDisruptionBudget"]["spec"]["minAvailable"]
        < resources["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    )


def test_ports_configuration_and_volume_exist() -> None:
    resources = by_kind("serving/base")
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in resources["Service"]["spec"]["ports"]} == ports
    for rule in resources["NetworkPolicy"]["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= ports
    backend = resources["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == resources["Service"]["metadata"]["name"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == resources["ConfigMap"]["metadata"]["name"]
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == resources["PersistentVolumeClaim"]["metadata"]["name"]
    flags = [flag for flag in container["args"] if "_file=/" in flag]
    assert {flag.rsplit("/", 1)[1] for flag in flags} == set(resources["ConfigMap"]["data"])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/models/captioner:predict", True),
        ("/v1/models/captioner/labels/stable:predict", True),
        ("/v1/models/captioner", True),
        ("/v1/models/captioner/metadata", True),
        ("/v1/models/captioner2:predict", False),
        ("/v1/models/cnn_lstm:predict", False),
        ("/monitoring/prometheus/metrics", False),
    ],
)
def test_the_champion_alone_is_asked_from_outside(path: str, allowed: bool) -> None:
    ingress = by_kind("serving/base")["Ingress"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/use-regex"] == "true"
    (rule,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert rule["pathType"] == "ImplementationSpecific"
    # nginx: `location ~* "^<path>"`
    assert bool(re.match(rule["path"], path, re.IGNORECASE)) == allowed


def test_the_port_that_replaces_the_configuration_is_the_deployers() -> None:
    """HandleReloadConfigRequest loads any SavedModel from any path, and TF Serving asks nobody."""
    rules = by_kind("serving/base")["NetworkPolicy"]["spec"]["ingress"]
    (by_grpc,) = (rule for rule in rules if {"port": "grpc"} in rule["ports"])
    labels = {"app.kubernetes.io/name": "captioner", "app.kubernetes.io/component": "deployer"}
    assert by_grpc["from"] == [{"podSelector": {"matchLabels": labels}}]
    assert by_kind("serving/gcs")["NetworkPolicy"]["spec"]["ingress"] == rules


def test_from_outside_there_is_tls_and_a_login() -> None:
    ingress = by_kind("serving/base")["Ingress"]
    hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
    assert [host for entry in ingress["spec"]["tls"] for host in entry["hosts"]] == hosts
    annotations = ingress["metadata"]["annotations"]
    assert annotations["cert-manager.io/cluster-issuer"]
    assert "oauth2" in annotations["nginx.ingress.kubernetes.io/auth-url"]
    assert annotations["nginx.ingress.kubernetes.io/force-ssl-redirect"] == "true"


def test_the_bucket_is_reached_from_the_namespace_alone() -> None:
    resources = by_kind("storage/minio")
    policy = resources["NetworkPolicy"]["spec"]
    pod = resources["StatefulSet"]["spec"]["template"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["ingress"] == [{"from": [{"podSelector": {}}], "ports": [{"port": "s3"}]}]
    assert policy["egress"] == []


def _pods(overlay: str) -> list[tuple[str, Manifest]]:
    """Names and specifications of the pods that an overlay makes, with all their containers."""
    pods = []
    for resource in yaml.safe_load_all(build(overlay)):
        spec = resource.get("spec", {})
        if "predictor" in spec:
            pod = {**spec["predictor"], "containers": [spec["predictor"]["model"]]}
        else:
            pod = spec.get("jobTemplate", resource).get("spec", {}).get("template", {}).get("spec")
        if pod:
            pods.append((f"{resource['kind']} {resource['metadata']['name']}", pod))
    return pods


@pytest.mark.parametrize("overlay", [*OVERLAYS, "serving/kserve"])
def test_pods_may_do_no_more_than_they_must(overlay: str) -> None:
    pods = _pods(overlay)
    assert pods
    for name, pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        # What submits runs needs the account of its cluster.
        assert pod.get("automountServiceAccountToken") is False or name == "CronJob captioner", name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_image_is_whatever_is_the_latest(overlay: str) -> None:
    for name, pod in _pods(overlay):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            tag = re.search(r":([^/:]+)$", container["image"])
            assert tag is not None, name
            assert tag[1] != "latest", name


def test_models_are_read_from_where_the_pipeline_pushes_them() -> None:
    settings = load_settings("kubeflow")
    resources = by_kind("serving/base")
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "models")
    assert settings.volume_claim == resources["PersistentVolumeClaim"]["metadata"]["name"]
    assert settings.serving == f"{settings.volume_path}/{mount['subPath']}"
    models = text_format.Parse(
        resources["ConfigMap"]["data"]["models.config"], messages.ModelServerConfig()
    )
    paths = {model.name: model.base_path for model in models.model_config_list.config}
    assert paths == {serving_config.CHAMPION: f"{mount['mountPath']}/{serving_config.CHAMPION}"}
    model = by_kind("serving/kserve")["InferenceService"]["spec"]["predictor"]["model"]
    assert model["storageUri"] == (
        f"pvc://{settings.volume_claim}/{mount['subPath']}/{serving_config.CHAMPION}"
    )
    # One version of TF Serving, whoever runs it, and the one that validated the model.
    version = model["runtimeVersion"]
    assert pod["containers"][0]["image"] == f"tensorflow/serving:{version}"
    dockerfile = (MANIFESTS / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG TF_SERVING_IMAGE=tensorflow/serving:{version}\n" in dockerfile


def test_the_images_context_has_all_that_goes_into_it() -> None:
    ignore = (MANIFESTS / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    taken = {line[1:] for line in ignore if line.startswith("!")}
    rooms = {path.name for path in (ROOT / "tfx_captioner").iterdir() if path.is_symlink()}
    assert taken >= {"tfx_captioner", *rooms}
    dockerfile = (MANIFESTS / "Dockerfile").read_text(encoding="utf-8")
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    assert taken >= {name for names in copied for name in names.split() if name != "."}


def test_configuration_is_that_of_the_serving_room() -> None:
    data = by_kind("serving/base")["ConfigMap"]["data"]
    assert serving_config.BatchingParameters.from_text(data["batching.config"]) == (
        serving_config.BATCHING
    )
    assert f'"{serving_config.METRICS_PATH}"' in data["monitoring.config"]
    pod = by_kind("serving/base")["Deployment"]["spec"]["template"]
    scrape = pod["metadata"]["annotations"]
    assert scrape["prometheus.io/path"] == serving_config.METRICS_PATH


def test_a_rolling_update_loses_no_request() -> None:
    deployment = by_kind("serving/base")["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    # TF Serving gives a REST request 30 s at the most.
    assert pod["terminationGracePeriodSeconds"] >= pause + 30
    # Without a version that is loaded this answers with an error; the status would not.
    assert container["readinessProbe"]["httpGet"]["path"].endswith("/metadata")


def test_buckets_need_no_volume() -> None:
    resources = by_kind("serving/gcs")
    pod = resources["Deployment"]["spec"]["template"]["spec"]
    assert "PersistentVolumeClaim" not in resources
    assert {volume["name"] for volume in pod["volumes"]} == {"config", "tmp"}
    assert "gs://BUCKET/models/captioner" in resources["ConfigMap"]["data"]["models.config"]


def test_the_recurring_run_uses_the_settings_it_mounts() -> None:
    resources = by_kind("recurring")
    job = resources["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounted = job["volumes"][1]["configMap"]["name"]
    assert mounted == resources["ConfigMap"]["metadata"]["name"]
    settings = yaml.safe_load(resources["ConfigMap"]["data"]["cluster.yaml"])
    command = job["containers"][0]["command"]
    assert "--settings=/etc/captioner/cluster.yaml" in command
    assert job["initContainers"][0]["command"][-1] == settings["records"]
    assert job["serviceAccountName"] == settings["service_account"]
