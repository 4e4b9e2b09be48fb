"""ray_cluster.yaml as Ray's own launcher reads it, and the documents of infra/aws/ against what the job does."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
AWS = ROOT / "infra" / "aws"


@pytest.fixture
def cluster() -> dict[str, Any]:
    prepared = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    validate_config(prepared)
    assert isinstance(prepared, dict)
    return prepared


def statements(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((AWS / name).read_text())["Statement"]
    return loaded


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def conditions(action: str, resource: str) -> list[dict[str, Any]]:
    """Of each statement of head_policy.json that lets the head do `action` to `resource`."""
    return [
        statement.get("Condition", {}).get("StringEquals", {})
        for statement in statements("head_policy.json")
        if action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
    ]


def allowed(action: str, resource: str, prefix: str | None = None) -> bool:
    """Whether storage_policy.json lets a role do `action`; a listing also says its prefix."""
    for statement in statements("storage_policy.json"):
        patterns = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if (
            action in listed(statement["Action"])
            and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
            and (patterns is None or any(fnmatchcase(prefix or "", pattern) for pattern in patterns))
        ):
            return True
    return False


def test_ray_refuses_a_field_it_does_not_know(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="max_wrokers"):
        validate_config(cluster | {"max_wrokers": 3})


def test_head_does_no_work_and_workers_come_and_go(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in " ".join(cluster["head_start_ray_commands"])
    for worker in types.values():
        assert worker["min_workers"] == 0 < worker["max_workers"]
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert sum(worker["max_workers"] for worker in types.values()) <= cluster["max_workers"]
    assert {name for name, worker in types.items() if worker["resources"].get("GPU")} == {"gpu"}


def test_images_are_cpus_but_on_gpu_machines_and_come_with_all_that_is_needed(cluster: dict[str, Any]) -> None:
    """By default Ray's head would install boto3 from the package index, which a private subnet may not reach."""
    assert cluster["docker"]["image"] == "REGISTRY/deeplab-buckets:0.1.0-cpu"
    own = {name: machine.get("docker") for name, machine in cluster["available_node_types"].items()}
    assert own == {"head": None, "gpu": {"worker_image": "REGISTRY/deeplab-buckets:0.1.0-cuda"}, "cpu": None}
    assert not cluster["setup_commands"] + cluster["head_setup_commands"] + cluster["worker_setup_commands"]


def test_prometheus_outside_the_container_finds_what_ray_lists_in_it(cluster: dict[str, Any]) -> None:
    assert "--volume /tmp/ray:/tmp/ray" in cluster["docker"]["run_options"]
    assert "mkdir -p -m 1777 /tmp/ray" in cluster["initialization_commands"]
    scraped = yaml.safe_load((ROOT / "infra/monitoring/prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]


def test_no_machine_gets_what_ray_would_make_for_it(cluster: dict[str, Any]) -> None:
    """Left out, Ray takes an old AMI, a group open to SSH from anywhere, and a role with all of EC2 and S3."""
    for machine in cluster["available_node_types"].values():
        assert machine["node_config"]["ImageId"] == "AMI"
        assert machine["node_config"]["SecurityGroupIds"]
        assert machine["node_config"]["IamInstanceProfile"]
    assert cluster["provider"]["use_internal_ips"] is True
    assert "--dashboard-host=127.0.0.1" in " ".join(cluster["head_start_ray_commands"])
    ranges = [
        r["CidrIp"] for rule in json.loads((AWS / "security_group.json").read_text()) for r in rule.get("IpRanges", [])
    ]
    assert ranges == ["OPERATOR_CIDR"]


def test_every_container_asks_for_the_token_that_is_mounted(cluster: dict[str, Any]) -> None:
    options = " ".join(cluster["docker"]["run_options"])
    assert "RAY_AUTH_MODE=token" in options
    path = re.search(r"RAY_AUTH_TOKEN_PATH=(\S+)", options)
    assert path
    assert path[1] in cluster["file_mounts"]


def test_the_nights_drift_is_written_to_a_folder_that_container_and_machine_share(cluster: dict[str, Any]) -> None:
    example = (ROOT / "infra/nightly/nightly.env.example").read_text()
    path = re.search(r"^DRIFT_METRICS=(.*)/", example, re.MULTILINE)
    assert path
    assert f"--volume {path[1]}:{path[1]}" in cluster["docker"]["run_options"]
    assert f"mkdir -p -m 1777 {path[1]}" in cluster["initialization_commands"]  # the container's user is another one


def test_roles_read_the_input_and_write_the_output_and_nothing_else() -> None:
    source, target = "arn:aws:s3:::INPUT_BUCKET", "arn:aws:s3:::OUTPUT_BUCKET"
    assert allowed("s3:ListBucket", source, "INPUT_PREFIX/")
    assert allowed("s3:GetObject", f"{source}/INPUT_PREFIX/a/b.jpg")
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"):
        assert allowed(action, f"{target}/OUTPUT_PREFIX/masks/x.parquet")
        assert not allowed(action, f"{target}/elsewhere/x.parquet")
    assert allowed("s3:ListBucket", target, "OUTPUT_PREFIX/masks/")
    assert not allowed("s3:ListBucket", source, "elsewhere/")
    assert not allowed("s3:ListBucket", source, "INPUT_PREFIX-other/")
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert not allowed(action, f"{source}/INPUT_PREFIX/a.jpg")
    assert not allowed("s3:GetObject", f"{source}/elsewhere/a.jpg")


def test_head_may_start_name_and_end_its_workers_and_no_other_machine(cluster: dict[str, Any]) -> None:
    machine = "arn:aws:ec2:REGION:ACCOUNT:instance/i-1"
    own = {"ec2:ResourceTag/ray-cluster-name": cluster["cluster_name"]}
    for action in ("ec2:DescribeInstances", "ec2:DescribeInstanceStatus"):
        assert conditions(action, "*") == [{}]
    asked = cluster["available_node_types"]["gpu"]["node_config"]
    for resource in (
        machine,
        f"arn:aws:ec2:REGION::image/{asked['ImageId']}",
        f"arn:aws:ec2:REGION:ACCOUNT:subnet/{asked['SubnetIds'][0]}",
        f"arn:aws:ec2:REGION:ACCOUNT:security-group/{asked['SecurityGroupIds'][0]}",
        "arn:aws:ec2:REGION:ACCOUNT:key-pair/ray",
        "arn:aws:ec2:REGION:ACCOUNT:network-interface/eni-1",
        "arn:aws:ec2:REGION:ACCOUNT:volume/vol-1",
        "arn:aws:ec2:REGION:ACCOUNT:spot-instances-request/sir-1",
    ):
        assert conditions("ec2:RunInstances", resource) == [{}], resource
    assert conditions("ec2:RunInstances", "arn:aws:ec2:REGION:ACCOUNT:subnet/subnet-other") == []
    assert conditions("ec2:CreateTags", machine) == [{"ec2:CreateAction": "RunInstances"}, own]
    assert conditions("ec2:TerminateInstances", machine) == [own]
    (role,) = {
        machine["node_config"]["IamInstanceProfile"]["Arn"].replace("instance-profile", "role")
        for name, machine in cluster["available_node_types"].items()
        if name != cluster["head_node_type"]
    }
    assert conditions("iam:PassRole", role) == [{"iam:PassedToService": "ec2.amazonaws.com"}]
    assert conditions("iam:PassRole", "arn:aws:iam::ACCOUNT:role/deeplab-buckets-head") == []


@pytest.mark.parametrize("name", ["storage_policy.json", "head_policy.json"])
def test_no_policy_grants_by_wildcard(name: str) -> None:
    for statement in statements(name):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in listed(statement["Action"]))
        if "*" in listed(statement["Resource"]):
            assert all(action.startswith("ec2:Describe") for action in listed(statement["Action"]))


def test_sizing_table_follows_from_the_measured_refinement() -> None:
    text = (ROOT / "ray_cluster.yaml").read_text()
    measured = re.search(
        r"^\| dense CRF, default settings.*\| ([\d.]+) to ([\d.]+) s \|", (ROOT / "docs/results.md").read_text(), re.M
    )
    assert measured
    assert f"one core: {measured[1]} to {measured[2]} at" in text
    assert f"at c = {measured[2]}," in text
    rows = re.findall(r"^#   (\S+\.\S+) +(\d+) +(\d+) +([\d.]+)$", text, re.M)
    assert len(rows) == 5
    for machine, gpus, cores, rate in rows:
        assert float(rate) == pytest.approx((int(cores) - int(gpus)) / float(measured[2]), abs=0.1), machine
