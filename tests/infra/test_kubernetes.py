"""The overlays of infra/kubernetes/, built by kubectl, against Kubernetes' and KubeRay's schemas: schemas/NOTICE.md."""

import gzip
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator

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


def read(name: str) -> Any:
    return json.loads(gzip.decompress((Path(__file__).parent / "schemas" / name).read_bytes()))


@pytest.fixture(scope="module")
def validators() -> dict[str, Validator]:
    """Of each kind."""
    kubernetes = read("kubernetes_v1.37.json.gz")
    ours = {kind: closed(read(f"{kind.lower()}_v1.json.gz")) for kind in ("RayJob", "RayCronJob")}
    core = {kind: schema | {"$defs": kubernetes["$defs"]} for kind, schema in kubernetes["kinds"].items()}
    return {kind: Draft202012Validator(schema) for kind, schema in (ours | core).items()}


def build(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(_kustomized(overlay)))


@cache
def _kustomized(overlay: str) -> str:
    command = ["kubectl", "kustomize", str(ROOT / "infra/kubernetes/overlays" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["small", "production"])
def built(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {document["kind"]: document for document in build(request.param)}


@pytest.fixture(scope="module")
def nightly() -> dict[str, Any]:
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in build("nightly")}


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("overlay", ["small", "production", "nightly", "raycronjob"])
def test_every_object_is_valid_and_an_unknown_field_of_it_is_not(
    overlay: str, validators: dict[str, Validator]
) -> None:
    for document in build(overlay):
        validator = validators[document["kind"]]
        validator.validate(document)
        with pytest.raises(ValidationError, match="unknown_field"):
            validator.validate(document | {"unknown_field": 1})


def test_a_misspelt_field_deep_in_a_pod_is_refused(built: dict[str, Any], validators: dict[str, Validator]) -> None:
    groups(built["RayJob"])[1]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(ValidationError, match="imagePullPolice"):
        validators["RayJob"].validate(built["RayJob"])


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
            assert container["ports"] == [{"name": "metrics", "containerPort": 8080}]
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


def test_nightly_starts_copies_of_a_suspended_run_and_never_two(nightly: dict[str, Any]) -> None:
    job, cron = nightly["RayJob/segment-bucket"], nightly["CronJob/nightly"]["spec"]
    assert job["spec"]["suspend"] is True
    assert cron["concurrencyPolicy"] == "Forbid"
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == groups(job)[0]["template"]["spec"]["containers"][0]["image"]
    (volume,) = pod["volumes"]
    mounted = container["volumeMounts"][0]["mountPath"]
    scripts = nightly[f"ConfigMap/{volume['configMap']['name']}"]["data"]
    assert container["command"] == ["python", f"{mounted}/{next(iter(scripts))}"]


def test_nightly_may_only_read_and_create_runs(nightly: dict[str, Any]) -> None:
    account = nightly["CronJob/nightly"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
    binding = nightly["RoleBinding/nightly"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "deeplab-buckets"}]
    rules = nightly[f"Role/{binding['roleRef']['name']}"]["rules"]
    assert rules == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "create"]}]


def test_raycronjob_schedules_the_run_of_production_and_starts_none_at_once() -> None:
    scheduled = {document["kind"]: document for document in build("raycronjob")}
    production = {document["kind"]: document for document in build("production")}
    assert scheduled["RayCronJob"]["spec"]["jobTemplate"] == production["RayJob"]["spec"]
    assert "RayJob" not in scheduled
