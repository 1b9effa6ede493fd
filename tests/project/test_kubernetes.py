"""The manifests are valid Kubernetes, and say of the server what its image and its application say themselves."""

from __future__ import annotations

import copy
import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate.utils
import pytest
import yaml

from serve.app import create_app
from serve.http.api_keys import KEYS_VARIABLE, OPEN_PATHS
from serve.metrics import Metrics
from tests.support.paths import ROOT
from tests.support.server import WAIT, ask, instructions
from toolkit.config import ServeConfig

FILES = sorted((ROOT / "kubernetes").glob("*.yaml"))
# the preStop hook sleep is there from 1.30 on
VERSIONS = ("1.30", kubernetes_validate.utils.major_minor(kubernetes_validate.utils.latest_version()))


def documents() -> dict[str, dict[str, Any]]:
    """Every manifest by its kind."""
    manifests = [document for file in FILES for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    assert len({manifest["kind"] for manifest in manifests}) == len(manifests)
    return {manifest["kind"]: manifest for manifest in manifests}


MANIFESTS = documents()
POD = MANIFESTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
IMAGE = dict(instructions((ROOT / "Dockerfile").read_text()))
COMMAND = json.loads(IMAGE["CMD"])


def follow(value: dict[str, Any], *path: str) -> Any:
    for name in path:
        value = value[name]
    return value


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", MANIFESTS)
def test_each_manifest_is_valid(kind: str, version: str) -> None:
    assert kubernetes_validate.validate(MANIFESTS[kind], version, strict=True) == version


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", "spec.template.spec.runAsUser", 10001),
        ("Deployment", "spec.replicas", "two"),
        ("Service", "spec.ports", {"port": 80}),
        ("HorizontalPodAutoscaler", "spec.maxReplica", 3),
    ],
)
def test_a_wrong_manifest_is_caught(kind: str, path: str, value: Any) -> None:
    wrong = copy.deepcopy(MANIFESTS[kind])
    *parents, last = path.split(".")
    follow(wrong, *parents)[last] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_it_runs_what_the_image_runs() -> None:
    assert "command" not in CONTAINER
    assert "args" not in CONTAINER
    (port,) = CONTAINER["ports"]
    assert str(port["containerPort"]) == IMAGE["EXPOSE"] == COMMAND[COMMAND.index("--port") + 1]
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    assert mounts[COMMAND[3]]["readOnly"] is True
    assert {volume["name"] for volume in CONTAINER["volumeMounts"]} == {
        volume["name"] for volume in POD["spec"]["volumes"]
    }
    assert CONTAINER["image"].partition(":")[0] in (ROOT / "Dockerfile").read_text()


def test_it_runs_as_the_user_of_the_image_and_may_do_nothing_else() -> None:
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert str(pod["runAsUser"]) == IMAGE["USER"]
    assert pod["runAsNonRoot"] is True
    assert container == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert POD["spec"]["automountServiceAccountToken"] is False


def test_probes_ask_paths_that_exist_and_need_no_key(tiny_onnx: Path) -> None:
    known = set(create_app(tiny_onnx).openapi()["paths"])
    asked = {}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert CONTAINER[name]["httpGet"]["port"] == CONTAINER["ports"][0]["name"]
        asked[name] = CONTAINER[name]["httpGet"]["path"]
    assert asked == {
        "startupProbe": "/health/ready", "readinessProbe": "/health/ready", "livenessProbe": "/health/live"
    }  # fmt: skip
    assert set(asked.values()) <= known & OPEN_PATHS
    annotations = POD["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == IMAGE["EXPOSE"]
    assert annotations["prometheus.io/path"] in known


def test_names_and_labels_meet() -> None:
    labels = POD["metadata"]["labels"]
    assert MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["selector"] == labels
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service"]["spec"]["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", MANIFESTS["Deployment"]["metadata"]["name"])
    assert target["apiVersion"] == MANIFESTS["Deployment"]["apiVersion"]


def test_it_scales_on_a_metric_that_is_shown() -> None:
    (metric,) = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"# TYPE {metric['pods']['metric']['name']} gauge".encode() in Metrics().render()
    assert "replicas" not in MANIFESTS["Deployment"]["spec"], "to apply it would undo what the autoscaler did"
    least = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["minAvailable"] < least


def test_the_environment_is_what_the_server_reads() -> None:
    assert [variable["name"] for variable in CONTAINER["env"]] == [KEYS_VARIABLE]


def test_it_is_given_the_time_that_draining_takes() -> None:
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["spec"]["terminationGracePeriodSeconds"] > before + ServeConfig.drain_s


def test_the_server_writes_no_file(tiny_onnx: Path) -> None:
    """The server runs on a read-only root file system: here no file may grow beyond 0 bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serve", str(tiny_onnx), "--port", "0", "--log-format", "json"], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
        assert url
        assert ask(url.group(), "/predict", {"inputs": "good film"})[0] == 200
        assert ask(url.group(), "/metrics")[0] == 200
    finally:
        process.terminate()
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert "error" not in err
