"""infra/monitoring/: what it asks for is what a live run exports; alerts fire when they should; failures are logged."""

import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import ray
import yaml

from pipeline.batch.error_budget import ErrorBudget
from tests.helpers.pictures import jpeg, photo
from tests.helpers.segmenting import last_line, run_job
from tests.helpers.waiting import until

MONITORING = Path(__file__).parents[2] / "infra/monitoring"
KUBERNETES = Path(__file__).parents[2] / "infra/kubernetes"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return loaded


def queries() -> dict[str, str]:
    asked = {rule["alert"]: rule["expr"] for rule in alerts()}
    return asked | {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels() for target in panel["targets"]
    }


@pytest.mark.parametrize("query", queries().values(), ids=queries())
def test_every_query_is_one(query: str) -> None:
    promql_parser.parse(query)


def test_the_alert_has_the_error_budget_of_the_run_and_no_number_of_its_own() -> None:
    (expression,) = (rule["expr"] for rule in alerts() if rule["alert"] == "TooManyFailures")
    assert {"ray_deeplab_error_budget", "ray_deeplab_error_budget_least_images"} <= set(
        re.findall(r"ray_\w+", expression)
    )
    assert not re.search(r"\d", expression.replace("[15m]", ""))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, which comes with Prometheus, is missing")
@pytest.mark.parametrize(
    "check",
    [
        ["check", "rules", str(MONITORING / "alerts.yaml")],
        ["check", "config", str(MONITORING / "prometheus.yml")],
        ["test", "rules", str(Path(__file__).parent / "alerts_test.yaml")],
    ],
    ids=" ".join,
)
def test_prometheus_own_tool_agrees(check: list[str]) -> None:
    done = subprocess.run(["promtool", *check], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_on_kubernetes_scrapes_the_metrics_port_of_each_pod() -> None:
    (scraped,) = yaml.safe_load((MONITORING / "prometheus-kubernetes.yml").read_text())["scrape_configs"]
    assert scraped["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["deeplab-buckets"]}}]
    (rule,) = scraped["relabel_configs"]
    assert rule["action"] == "keep"
    cluster = yaml.safe_load((KUBERNETES / "base/rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod, meta = group["template"], "__meta_kubernetes_pod"
        seen = {f"{meta}_label_{name}": value for name, value in pod["metadata"]["labels"].items()}
        kept = []
        for port in pod["spec"]["containers"][0]["ports"]:
            labels = seen | {f"{meta}_container_port_name": port["name"]}
            if re.fullmatch(rule["regex"], ";".join(labels[name] for name in rule["source_labels"])):
                kept.append(port["containerPort"])
        assert kept == [8080]


class Scrape(threading.Thread):
    """Scrapes this machine's Ray node again and again, as Prometheus does, until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        (node,) = ray.nodes()
        self._url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
        self._stopped = threading.Event()
        self.names: set[str] = set()
        self.now: set[str] = set()
        self.samples: dict[str, dict[str, float]] = {}

    def run(self) -> None:
        while not self._stopped.wait(0.5):
            with suppress(OSError):  # not yet ready, or busy
                self.now = self._scrape()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _scrape(self) -> set[str]:
        """Return the names exported now; `samples` keeps, by run, the last value by name and stage or error."""
        with urllib.request.urlopen(self._url, timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        now = {re.split("[{ ]", line)[0] for line in lines}
        self.names |= now
        for line in lines:
            if run := re.search(r'run_id="([^"]*)"', line):
                labels = re.findall(r'(?:stage|error)="[^"]*"', line)
                name = " ".join([line.partition("{")[0], *sorted(labels)])
                self.samples.setdefault(run[1], {})[name] = float(line.rpartition(" ")[2])
        return now


@pytest.mark.slow
def test_a_live_run_exports_all_that_is_asked_for_and_counts_right(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(12):
        (tmp_path / f"in/{i:02d}.jpg").write_bytes(jpeg(photo(i, 60, 80)))
    (tmp_path / "in/broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "prices.yaml").write_text("node: 3.6")
    flags = ("--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--prices", f"{tmp_path}/prices.yaml")
    scrape = Scrape()
    scrape.start()
    code, out, err = run_job(*flags, "--error_budget", "0.5")
    assert code == 0, err
    summary = last_line(out)
    assert summary["cost"] == pytest.approx(summary["node_seconds"]["node"] / 1000, abs=1e-5)
    assert 0 < summary["node_seconds"]["node"] <= summary["seconds"]

    finished = "ray_deeplab_images_finished_total"
    assert until(lambda: scrape.samples.get(summary["run_id"], {}).get(finished) == 13)
    assert until(lambda: "ray_deeplab_images_to_do" not in scrape.now)  # an ended run is not one that stands still
    scrape.stop()
    asked = {name for query in queries().values() for name in re.findall(r"ray_\w+", query)}
    assert asked <= scrape.names
    samples = scrape.samples[summary["run_id"]]
    assert samples["ray_deeplab_images_listed"] == samples["ray_deeplab_images_to_do"] == 13
    assert samples["ray_deeplab_images_segmented_total"] == 12
    assert samples['ray_deeplab_images_failed_total error="ImageError" stage="decode"'] == 1
    assert samples["ray_deeplab_images_waiting"] == 0
    budget = ErrorBudget(share=0.5)
    assert samples["ray_deeplab_error_budget"] == budget.share
    assert samples["ray_deeplab_error_budget_least_images"] == budget.least_images
    for stage, images in (("fetch", 13), ("segment", 13), ("refine", 12), ("write", 13)):
        assert samples[f'ray_deeplab_stage_images_total stage="{stage}"'] == images
        assert samples[f'ray_deeplab_stage_seconds_total stage="{stage}"'] > 0
        assert samples[f'ray_deeplab_workers stage="{stage}"'] >= 1
    assert 12 <= samples["ray_deeplab_labels_kept_total"] <= 12 * 12

    (line,) = logged(summary["run_id"], "failed")
    assert (line["key"], line["stage"], line["error"]) == ("broken.jpg", "decode", "ImageError")
    assert line["host"] == socket.gethostname()
    assert sum(each["segmented"] for each in logged(summary["run_id"], "committed")) == 12


def logged(run_id: str, event: str) -> list[dict[str, Any]]:
    """Lines of the run in the logs that Ray keeps of its workers."""
    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    text = "\n".join(path.read_text(errors="replace") for path in folder.glob("worker-*.err"))
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if (line["run_id"], line["event"]) == (run_id, event)]
