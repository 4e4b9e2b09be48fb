"""infra/kubernetes/nightly/start_run.py against a server that answers as the Kubernetes API does."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import certifi
import pytest

SCRIPT = Path(__file__).parents[2] / "infra/kubernetes/nightly/start_run.py"
PATH = "/apis/ray.io/v1/namespaces/night/rayjobs"
RUN = "segment-bucket-20261124-0100"  # the minute 29924700 of Unix time
UID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
CUT = 0
"""For a status: an answer that ends before its end."""

TEMPLATE = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"name": "segment-bucket", "uid": "t", "resourceVersion": "5", "finalizers": ["ray.io/x"]},
    "spec": {"suspend": True, "entrypoint": "python"},
    "status": {"jobDeploymentStatus": "Suspended"},
}


class FakeApi(ThreadingHTTPServer):
    """Keeps RayJobs; `states` is what a run's status says, one for each time it is asked for; 500 is no answer.

    The job of a run that is complete is `job_status`; one that has failed has `reason`. The first requests get the
    `failures`: a code, or half an answer.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.template: dict[str, Any] = TEMPLATE
        self.rayjobs: dict[str, dict[str, Any]] = {"segment-bucket": self.template}
        self.states: list[Any] = ["Complete"]
        self.job_status, self.reason = "SUCCEEDED", "AppFailed"
        self.tokens: set[str] = set()
        self.failures: list[int] = []


class Handler(BaseHTTPRequestHandler):
    server: FakeApi

    def do_GET(self) -> None:
        if self.server.failures:
            return self.answer(self.server.failures.pop(0), {})
        name = self.path.removeprefix(PATH + "/")
        rayjob = self.server.rayjobs.get(name)
        if rayjob is None or rayjob is self.server.template:
            return self.answer(200 if rayjob else 404, rayjob or {})
        state = self.server.states.pop(0)
        if state == 500:
            return self.answer(500, {})
        status = {"jobDeploymentStatus": state, "message": "out of GPUs"}
        if state == "Complete":
            status["jobStatus"] = self.server.job_status
        if state == "Failed":
            status["reason"] = self.server.reason
        return self.answer(200, rayjob | {"status": status})

    def do_POST(self) -> None:
        assert self.path == PATH
        run = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        taken = run["metadata"]["name"] in self.server.rayjobs
        self.server.rayjobs.setdefault(run["metadata"]["name"], run)
        lost = self.server.failures and self.server.failures.pop(0)
        self.answer(lost or (409 if taken else 201), run)

    def answer(self, code: int, body: dict[str, Any]) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        self.send_response(200 if code == CUT else code)
        if code == CUT:
            self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def night(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A call is what one pod of the Job does; returns its exit code."""
    spec = spec_from_file_location("start_run", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "token").write_text("secret")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    for name, value in (("NAMESPACE", "night"), ("JOB_NAME", "nightly-29924700"), ("JOB_UID", UID)):
        monkeypatch.setenv(name, value)
    return lambda **options: module.main(f"http://127.0.0.1:{api.server_port}", tmp_path, poll_seconds=0.01, **options)


def test_a_run_is_the_template_not_suspended_and_goes_with_its_job(night: Any, api: FakeApi) -> None:
    api.states = ["", "Running", "Complete"]
    assert night() == 0
    run = api.rayjobs[RUN]
    assert run["spec"] == {"suspend": False, "entrypoint": "python"}
    assert run["metadata"] == {
        "name": RUN,
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "nightly-29924700", "uid": UID}],
    }
    assert api.tokens == {"Bearer secret"}


def test_a_second_pod_of_the_night_waits_for_the_first_ones_run(night: Any, api: FakeApi) -> None:
    api.rayjobs[RUN] = first = {"metadata": {"name": RUN}}
    assert night() == 0
    assert api.rayjobs[RUN] is first
    assert len(api.rayjobs) == 2


@pytest.mark.parametrize(
    "job", ["again", "2026", "nightly-2026", "nightly-99999999999999999999", "again-29924700", "segment-bucket"]
)
def test_the_run_of_a_job_made_by_hand_has_a_name_that_no_other_has(
    job: str, night: Any, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_NAME", job)
    assert night() == 0
    assert set(api.rayjobs) == {"segment-bucket", "segment-bucket-7c9e6679"}


def test_a_server_that_fails_for_a_while_is_asked_again(night: Any, api: FakeApi) -> None:
    api.states = [500, "Running", 500, "Complete"]
    assert night() == 0


@pytest.mark.parametrize("failure", [500, 503, 429, CUT])
def test_a_moment_without_an_answer_fails_no_night(failure: int, night: Any, api: FakeApi) -> None:
    """Neither before the run is there, nor where it was made and only the answer was lost, nor later."""
    api.failures = [failure] * 4
    api.states = ["Running", "Complete"]
    assert night() == 0
    assert len(api.rayjobs) == 2


def test_a_server_that_answers_nothing_for_long_fails_the_night(
    night: Any, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.failures = [503] * 1000
    assert night(start_seconds=0.1) == 1
    assert f"cannot start {RUN}: HTTP Error 503" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["Failed", "ValidationFailed"])
def test_a_run_that_failed_fails_the_job(
    state: str, night: Any, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["Running", state]
    assert night() == 1
    assert f"{RUN}: {state}: out of GPUs" in capsys.readouterr().err
    assert set(api.rayjobs) == {"segment-bucket", RUN}


def test_a_run_that_is_lost_with_its_head_is_continued_by_a_second_and_no_third(night: Any, api: FakeApi) -> None:
    """KubeRay gives such a run no second cluster, whatever its backoffLimit."""
    api.reason = "JobStatusCheckTimeoutExceeded"
    api.states = ["Running", "Failed", "Running", "Complete"]
    assert night() == 0
    assert set(api.rayjobs) == {"segment-bucket", RUN, f"{RUN}-2"}
    second = api.rayjobs[f"{RUN}-2"]
    assert second["metadata"] == api.rayjobs[RUN]["metadata"] | {"name": f"{RUN}-2"}
    api.states = ["Failed", "Failed"]  # as another pod of the night finds them
    assert night() == 1
    assert len(api.rayjobs) == 3


def test_what_queues_and_kuberay_go_by_comes_along(night: Any, api: FakeApi) -> None:
    labels = {"kueue.x-k8s.io/queue-name": "nights"}
    annotations = {"ray.io/x": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    metadata = {"name": "segment-bucket", "labels": labels, "annotations": annotations}
    api.rayjobs["segment-bucket"] = api.template = TEMPLATE | {"metadata": metadata}
    assert night() == 0
    run = api.rayjobs[RUN]["metadata"]
    assert (run["labels"], run["annotations"]) == (labels, {"ray.io/x": "y"})


@pytest.mark.parametrize("status", ["STOPPED", ""])
def test_a_run_that_was_stopped_fails_the_job(
    status: str, night: Any, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.job_status = status
    assert night() == 1
    assert f"{RUN} has ended without success: its job is {status}" in capsys.readouterr().err


def test_a_run_that_never_ends_is_not_waited_for_for_ever(
    night: Any, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.states = ["Running"] * 1000
    assert night(wait_seconds=0.1) == 1
    assert f"`kubectl delete rayjob {RUN}` ends it" in capsys.readouterr().err


def test_without_the_template_the_error_says_what_to_apply(
    night: Any, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    del api.rayjobs["segment-bucket"]
    assert night() == 1
    assert "apply infra/kubernetes/overlays/nightly" in capsys.readouterr().err
