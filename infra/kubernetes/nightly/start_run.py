"""Start the night's run, a copy of the suspended RayJob, and wait for its end.

It runs in the CronJob's pod. The run's name follows from the Job's, so that a second pod of the same night goes on
waiting for the run that the first has started. A server that does not answer is asked again. A run whose head KubeRay
cannot reach any more is followed by a second, which continues it. Exit codes: 0 a run has succeeded; 1 none has.
"""

import json
import os
import re
import ssl
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TEMPLATE, CRONJOB = "segment-bucket", "nightly"
START_SECONDS = 600
WAIT_SECONDS = 72 * 3600  # then a run that hangs no longer keeps other nights from starting
NO_ANSWER = (OSError, HTTPException, ValueError)  # also half an answer, which is no JSON
HEAD_IS_LOST = "JobStatusCheckTimeoutExceeded"  # the reason of a failure after which KubeRay makes no second cluster
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
Manifest = dict[str, Any]
Answer = TypeVar("Answer")


class RunError(Exception):
    """The night has no run that succeeded; the message says why, and what to do."""


class LostError(RunError):
    """KubeRay has given the run up, since its head did not answer."""


class RayJobs:
    """The RayJobs of one namespace, by the Kubernetes API."""

    def __init__(self, server: str, namespace: str, account: Path) -> None:
        self._url = f"{server}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self._token = account / "token"
        self._trust = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def get(self, name: str) -> Manifest:
        """Read the RayJob called `name`; HTTPError 404 where there is none."""
        return self._ask(Request(f"{self._url}/{name}"))

    def create(self, run: Manifest) -> None:
        """Create a RayJob; HTTPError 409 where its name is taken."""
        headers = {"Content-Type": "application/json"}
        self._ask(Request(self._url, data=json.dumps(run).encode(), headers=headers, method="POST"))

    def _ask(self, request: Request) -> Manifest:
        request.add_header("Authorization", f"Bearer {self._token.read_text()}")  # read anew: it is replaced each hour
        with urlopen(request, context=self._trust, timeout=30) as answer:
            manifest: Manifest = json.load(answer)
        return manifest


def run_name(job: str, job_uid: str) -> str:
    """Name a run: the template's name, and the minute, in UTC, that the CronJob puts into its Jobs' names.

    A Job that a person has named may be called anything: its run has the beginning of the Job's uid instead.
    """
    minute = re.fullmatch(rf"{CRONJOB}-([0-9]{{8}})", job)
    when = f"{datetime.fromtimestamp(60 * int(minute[1]), UTC):%Y%m%d-%H%M}" if minute else job_uid[:8]
    return f"{TEMPLATE}-{when}"


def copied(template: Manifest, name: str, job: str, job_uid: str) -> Manifest:
    """Make a RayJob like the template, not suspended, that goes when its Job goes.

    Its labels and annotations come along, since queues and KubeRay go by them, but for what `kubectl apply` has noted.
    """
    marks = {kind: dict(template["metadata"].get(kind, {})) for kind in ("labels", "annotations")}
    marks["annotations"].pop(APPLIED, None)
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {
            "name": name,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job_uid}],
        }
        | {kind: values for kind, values in marks.items() if values},
        "spec": template["spec"] | {"suspend": False},
    }


def answered(ask: Callable[[], Answer], poll_seconds: float, deadline: float) -> Answer:
    """Ask the server until it answers; what it says at the deadline, or refuses before, is raised."""
    while True:
        try:
            return ask()
        except NO_ANSWER as error:
            refused = isinstance(error, HTTPError) and error.code < 500 and error.code != 429
            if refused or time.monotonic() > deadline:
                raise
        time.sleep(poll_seconds)


def start(runs: RayJobs, name: str, job: str, job_uid: str, poll_seconds: float, start_seconds: float) -> None:
    """Create the run, unless an earlier pod of this Job has, or a request whose answer was lost."""
    deadline = time.monotonic() + start_seconds
    try:
        template = answered(lambda: runs.get(TEMPLATE), poll_seconds, deadline)
        answered(lambda: runs.create(copied(template, name, job, job_uid)), poll_seconds, deadline)
        print(f"started {name}", flush=True)
    except HTTPError as error:
        if error.code == 404:
            raise RunError(f"no RayJob {TEMPLATE} to copy: apply infra/kubernetes/overlays/nightly again") from error
        if error.code != 409:
            raise RunError(f"cannot start {name}: {error}: {error.read().decode(errors='replace')}") from error
        print(f"{name} has been started already", flush=True)


def wait(runs: RayJobs, name: str, poll_seconds: float, wait_seconds: float) -> None:
    """Return when the run has succeeded."""
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        try:
            status = answered(lambda: runs.get(name), poll_seconds, deadline).get("status", {})
        except NO_ANSWER as error:
            raise RunError(f"{name} cannot be watched any more: {error}; was it deleted?") from error
        state = status.get("jobDeploymentStatus")
        if state == "Complete":  # also the state of a run that someone has stopped
            if status.get("jobStatus") == "SUCCEEDED":
                return
            raise RunError(f"{name} has ended without success: its job is {status.get('jobStatus')}")
        if state in ("Failed", "ValidationFailed"):
            kind = LostError if status.get("reason") == HEAD_IS_LOST else RunError
            raise kind(f"{name}: {state}: {status.get('message')}; `kubectl describe rayjob {name}` says more")
        time.sleep(poll_seconds)
    raise RunError(f"{name} has not ended in {wait_seconds / 3600:g} hours; `kubectl delete rayjob {name}` ends it")


def main(
    server: str = "https://kubernetes.default.svc",
    account: Path = ACCOUNT,
    poll_seconds: float = 30,
    start_seconds: float = START_SECONDS,
    wait_seconds: float = WAIT_SECONDS,
) -> int:
    """Start, wait, and once more where the run is lost with its head; returns the exit code."""
    job, job_uid = os.environ["JOB_NAME"], os.environ["JOB_UID"]
    name = run_name(job, job_uid)
    try:
        runs = RayJobs(server, os.environ["NAMESPACE"], account)
        start(runs, name, job, job_uid, poll_seconds, start_seconds)
        try:
            wait(runs, name, poll_seconds, wait_seconds)
        except LostError as error:
            print(f"{error}; another run continues it", flush=True)
            name += "-2"
            start(runs, name, job, job_uid, poll_seconds, start_seconds)
            wait(runs, name, poll_seconds, wait_seconds)
    except (RunError, *NO_ANSWER) as error:
        print(f"start_run: {error}", file=sys.stderr)
        return 1
    print(f"{name} has succeeded", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
