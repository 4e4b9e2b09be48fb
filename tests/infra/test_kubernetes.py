"""The overlays of infra/kubernetes/, built by kubectl, against the schema of KubeRay 1.7; see kuberay/NOTICE.md."""

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which builds the overlays, is missing"
)


def closed(schema: Any) -> Any:
    """The same schema, but a field it does not name is refused, as `kubectl apply` does."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    properties = {name: closed(value) for name, value in schema.get("properties", {}).items()}
    rest = {name: closed(value) for name, value in schema.items() if name not in ("properties", "format")}
    if not properties or schema.get("x-kubernetes-preserve-unknown-fields"):
        return rest | ({"properties": properties} if properties else {})
    return rest | {"properties": properties, "additionalProperties": False}


@pytest.fixture(scope="module")
def rayjob_schema() -> Any:
    schema = json.loads(gzip.decompress((Path(__file__).parent / "kuberay/rayjob_v1.json.gz").read_bytes()))
    return closed(schema)


@pytest.fixture(params=["small", "production"])
def built(request: pytest.FixtureRequest) -> dict[str, Any]:
    overlay = ROOT / "infra/kubernetes/overlays" / request.param
    out = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=True).stdout
    return {document["kind"]: document for document in yaml.safe_load_all(out)}


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_rayjob_is_valid_and_an_unknown_field_is_not(built: dict[str, Any], rayjob_schema: Any) -> None:
    job = built["RayJob"]
    jsonschema.validate(job, rayjob_schema)
    groups(job)[1]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePullPolice"):
        jsonschema.validate(job, rayjob_schema)


def test_every_pod_is_limited_confined_and_behind_the_policy(built: dict[str, Any]) -> None:
    selected = built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for group in groups(built["RayJob"]):
        pod = group["template"]["spec"]
        assert selected.items() <= group["template"]["metadata"]["labels"].items()
        assert pod["serviceAccountName"] == built["ServiceAccount"]["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert container["image"].startswith("REGISTRY/deeplab-buckets:0.1.0-")
            assert "env" not in container
            assert {"configMapRef": {"name": built["ConfigMap"]["metadata"]["name"]}} in container["envFrom"]


def test_workers_are_there_before_the_job_and_leave_in_time_for_spot(built: dict[str, Any]) -> None:
    head, *workers = groups(built["RayJob"])
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert built["RayJob"]["spec"]["rayClusterSpec"]["authOptions"]["mode"] == "token"
    for worker in workers:
        assert worker["minReplicas"] == 0 < worker["replicas"] == worker["maxReplicas"]
        pod = worker["template"]["spec"]
        assert 60 < pod["terminationGracePeriodSeconds"] < 120
        assert "ray stop --grace-period 60" in str(pod["containers"][0]["lifecycle"]["preStop"])
