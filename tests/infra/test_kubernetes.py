"""The overlays of infra/kubernetes/, built by kubectl, against Kubernetes' and KubeRay's schemas: schemas/NOTICE.md."""

import gzip
import json
import os
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
            assert {"name": "metrics", "containerPort": 8080} in container["ports"]
            assert {"configMapRef": {"name": built["ConfigMap"]["metadata"]["name"]}} in container["envFrom"]


def test_the_heads_service_has_the_dashboard_to_which_the_job_is_submitted(built: dict[str, Any]) -> None:
    """KubeRay makes the service of the ports that the head names, and of its own defaults only where it names none."""
    head = groups(built["RayJob"])[0]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in head["ports"]}
    assert ports == {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080}


def test_policy_lets_in_the_run_itself_the_operator_and_prometheus(built: dict[str, Any]) -> None:
    own, operator, prometheus = built["NetworkPolicy"]["spec"]["ingress"]
    assert own == {"from": [{"podSelector": built["NetworkPolicy"]["spec"]["podSelector"]}]}
    assert operator["ports"] == [{"port": 8265, "protocol": "TCP"}]
    assert operator["from"] == [
        {
            "namespaceSelector": {},
            "podSelector": {
                "matchExpressions": [
                    {"key": "app.kubernetes.io/name", "operator": "In", "values": ["kuberay-operator", "kuberay"]}
                ]
            },
        }
    ]
    assert prometheus["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert prometheus["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_gpus_and_their_image_are_where_segmenters_run_and_nowhere_else(built: dict[str, Any]) -> None:
    head, gpu, cpu = groups(built["RayJob"])
    assert (gpu["groupName"], cpu["groupName"]) == ("gpu", "cpu")
    for group, variant, gpus in ((head, "cpu", None), (gpu, "cuda", "1"), (cpu, "cpu", None)):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f"-{variant}")
        assert container["resources"]["limits"].get("nvidia.com/gpu") == gpus


def test_entrypoint_keeps_a_prefix_with_a_space_in_one_piece(built: dict[str, Any], tmp_path: Path) -> None:
    """Ray gives it to a shell, here one whose `python` only says what it was given."""
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "INPUT": "s3://a/my photos/",
        "OUTPUT": "s3://b/x $1",
        "MODEL": "a b",
        "GPUS": "1",
        "CPUS": "24",
    }
    entrypoint = built["RayJob"]["spec"]["entrypoint"]
    given = subprocess.check_output(["/bin/sh", "-c", entrypoint], env=environment, text=True).splitlines()
    assert given == [
        "jobs/segment_bucket.py",
        "--input",
        "s3://a/my photos/",
        "--output",
        "s3://b/x $1",
        "--model",
        "a b",
        "--workers.gpus",
        "1",
        "--workers.cpus",
        "24",
    ]


def test_a_run_that_never_starts_ends_and_idle_workers_go(built: dict[str, Any]) -> None:
    job = built["RayJob"]["spec"]
    cluster = job["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    assert job["shutdownAfterJobFinishes"] is True
    assert 0 < job["preRunningDeadlineSeconds"] <= 3600
    assert 60 <= cluster["autoscalerOptions"]["idleTimeoutSeconds"] <= 600


def test_workers_come_for_the_job_and_leave_in_time_for_spot(built: dict[str, Any]) -> None:
    head, *workers = groups(built["RayJob"])
    settings = built["ConfigMap"]["data"]
    assert int(settings["GPUS"]) == workers[0]["maxReplicas"]
    cpus = [int(worker["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) for worker in workers]
    most = [worker["maxReplicas"] for worker in workers]
    assert int(settings["CPUS"]) == sum(count * each for count, each in zip(most, cpus, strict=True))
    assert head["rayStartParams"]["num-cpus"] == "0"
    for worker in workers:
        assert worker["minReplicas"] == worker["replicas"] == 0 < worker["maxReplicas"]
        pod = worker["template"]["spec"]
        assert 60 < pod["terminationGracePeriodSeconds"] < 120
        assert "ray stop --grace-period 60" in str(pod["containers"][0]["lifecycle"]["preStop"])


def test_nightly_starts_copies_of_a_suspended_run_and_never_two(nightly: dict[str, Any]) -> None:
    job, cron = nightly["RayJob/segment-bucket"], nightly["CronJob/nightly"]["spec"]
    assert job["spec"]["suspend"] is True
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["startingDeadlineSeconds"] == 3600  # without one a night passed over starts whenever the other ends
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    starting, comparing = *pod["initContainers"], *pod["containers"]
    scripts = nightly[f"ConfigMap/{pod['volumes'][0]['configMap']['name']}"]["data"]
    for container, script in ((starting, "start_run.py"), (comparing, "compare_night.py")):
        assert container["image"] == groups(job)[0]["template"]["spec"]["containers"][0]["image"]
        mounted = container["volumeMounts"][0]["mountPath"]
        assert container["command"] == ["python", f"{mounted}/{script}"]
        assert script in scripts
    (rule,) = cron["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == starting["name"]


def test_the_comparison_of_a_night_is_scraped_as_a_run_is(nightly: dict[str, Any]) -> None:
    template = nightly["CronJob/nightly"]["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert (
        nightly["NetworkPolicy/deeplab-buckets"]["spec"]["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    )
    assert container["ports"] == [{"name": "metrics", "containerPort": 8080}]
    assert container["envFrom"][0]["configMapRef"]["name"] in {name.partition("/")[2] for name in nightly}


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
