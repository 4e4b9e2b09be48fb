"""`ray job submit`, and infra/nightly/run_night.py, against a running Ray cluster, whose dashboard comes and goes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ray.job_submission import JobSubmissionClient

from pipeline import masks, storage
from tests.helpers.outputs import note, put_rows, row
from tests.helpers.pictures import jpeg, photo
from tests.helpers.s3_proxy import s3_proxy

ROOT = Path(__file__).parents[2]
NIGHTLY = ROOT / "infra/nightly"
pytestmark = pytest.mark.slow

SUMMARY = {"run_id": "r", "listed": 9, "skipped": 1, "segmented": 6, "failed": 2}


def submissions(head: str, night: str) -> list[str]:
    """The submissions of a night, in their order: what follows the night's name, and the status."""
    name = f"segment-bucket-{night}"
    jobs = [(job.start_time or 0, job.submission_id or "", job.status) for job in JobSubmissionClient(head).list_jobs()]
    return [f"{job.removeprefix(name)} {status}" for _, job, status in sorted(jobs) if job.startswith(name)]


def python(program: str) -> list[str]:
    return ["python", "-c", program]


def test_the_main_job_runs_tonight_and_the_webhook_gets_its_summary(
    head: str,
    webhook: Any,
    run_night: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for i in range(3):
        storage.put_whole(f"{tmp_path}/in put/{i}.jpg", jpeg(photo(i, 40, 56)))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head)
    job = ["python", "jobs/segment_bucket.py", "--input", f"{tmp_path}/in put", "--output", f"{tmp_path}/out"]
    job.append("--model=scenes")
    evening = datetime.now(UTC)
    assert run_night.main(["--working-dir", str(ROOT), "--", *job, "--refine.backend", "none"]) == 0
    assert "3 images listed" in capfd.readouterr().out
    assert sorted(key for key, _ in masks.read(f"{tmp_path}/out")) == ["0.jpg", "1.jpg", "2.jpg"]
    (notice,) = webhook.posted
    assert notice["submission_id"] in {f"segment-bucket-{when:%Y-%m-%d}" for when in (evening, datetime.now(UTC))}
    assert (notice["status"], notice["exit_code"]) == ("SUCCEEDED", 0)
    assert notice["text"] == f"{notice['submission_id']}: done; 3 listed, 0 done before, 3 segmented, 0 failed"
    assert notice["summary"]["output"] == f"{tmp_path}/out"


@pytest.mark.parametrize("code", [2, 3, 4])
def test_a_code_that_another_run_would_end_with_too_is_returned_at_once(
    code: int, head: str, night: str, start: Any, webhook: Any
) -> None:
    program = f"import sys; print({json.dumps(SUMMARY)!r}); sys.exit({code})"
    assert start(head, *python(program)) == code
    assert submissions(head, night) == [" FAILED"]
    assert [(notice["exit_code"], notice["summary"]) for notice in webhook.posted] == [(code, SUMMARY)]


def test_a_failed_run_is_tried_once_more_and_a_later_start_goes_on(
    head: str, night: str, start: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entrypoint = ["sh", "-c", f"echo >> {tmp_path}/runs; test $(wc -l < {tmp_path}/runs) -gt 3"]
    assert start(head, *entrypoint) == 1
    assert submissions(head, night) == [" FAILED", "-try2 FAILED"]
    assert start(head, *entrypoint) == 0
    done = [" FAILED", "-try2 FAILED", "-try3 FAILED", "-try4 SUCCEEDED"]
    assert submissions(head, night) == done
    capfd.readouterr()
    assert start(head, *entrypoint) == 0
    assert f"segment-bucket-{night}-try4 has been submitted already" in capfd.readouterr().out
    assert start(head, "another", "command") == 1
    assert "give another bucket a --name of its own" in capfd.readouterr().err
    assert submissions(head, night) == done


@pytest.mark.long
def test_a_job_submitted_by_hand_gives_the_same_result(head: str, bucket: str) -> None:
    for i in range(6):
        storage.put_whole(f"{bucket}/in/{i}.jpg", jpeg(photo(i)))
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    submit = [
        *(str(Path(sys.executable).parent / "ray"), "job", "submit", "--address", head, "--working-dir", "."),
        *("--runtime-env-json", json.dumps({"env_vars": variables}), "--"),
        *("python", "jobs/segment_bucket.py", "--input", f"{bucket}/in", "--output", f"{bucket}/out", "--model=scenes"),
    ]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    done = subprocess.run(submit, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    summaries = [line for line in done.stdout.splitlines() if line.startswith('{"run_id"')]
    summary = json.loads(summaries[-1])
    assert (summary["listed"], summary["segmented"], summary["failed"]) == (6, 6, 0)
    assert sorted(key for key, _ in masks.read(f"{bucket}/out")) == [f"{i}.jpg" for i in range(6)]


def script(head: str, night: str, *entrypoint: str) -> "subprocess.Popen[str]":
    """The script in a process of its own, as systemd starts it."""
    return subprocess.Popen(
        [sys.executable, str(NIGHTLY / "run_night.py"), "--night", night, "--", *entrypoint],
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_API_SERVER_ADDRESS": head},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_starts_at_once_are_one_run(head: str, night: str) -> None:
    scripts = [script(head, night, *python("import time; time.sleep(3); print('once')")) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in scripts]
    assert [process.returncode for process in scripts] == [0, 0]
    assert ["once\n" in out for out in outputs] == [True, True]
    assert sorted(f"submitted segment-bucket-{night}\n" in out for out in outputs) == [False, True]
    assert submissions(head, night) == [" SUCCEEDED"]


def test_sigterm_stops_the_run_too(head: str, night: str, webhook: Any) -> None:
    process = script(head, night, *python("import time; print('under way', flush=True); time.sleep(600)"))
    assert process.stdout
    while process.stdout.readline() != "under way\n":
        assert process.poll() is None
    process.terminate()
    rest, _ = process.communicate(timeout=120)
    assert rest == f"segment-bucket-{night}: stopped; the next start continues it\n"
    assert process.returncode == 143
    assert submissions(head, night) == [" STOPPED"]
    assert [(notice["status"], notice["exit_code"]) for notice in webhook.posted] == [("STOPPED", 143)]


def test_a_dashboard_that_is_away_for_a_while_is_waited_for(
    head: str, night: str, start: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting = f"while not pathlib.Path('{tmp_path}/back').exists(): time.sleep(0.1)"
    program = f"import pathlib, time\nprint('before', flush=True)\n{waiting}\nprint('after')"

    def away() -> None:
        asked_again(lambda: "/logs" in proxy.requests[-1][1])
        for fault in ("refuse", "drop"):
            proxy.fault = fault
            asked_again()
            asked_again()
        proxy.fault = "none"
        (tmp_path / "back").touch()

    def asked_again(enough: Callable[[], bool] = lambda: True) -> None:
        seen = len(proxy.requests)
        while len(proxy.requests) == seen or not enough():
            time.sleep(0.05)

    with s3_proxy(head) as proxy:
        threading.Thread(target=away, daemon=True).start()
        assert start(proxy.endpoint, *python(program)) == 0
    printed = capfd.readouterr()
    assert "before\nafter\n" in printed.out
    assert printed.out.count("before\n") == 1
    assert "asking again" in printed.err


def test_a_second_night_that_has_drifted_raises_the_metric_of_the_alert(
    head: str, webhook: Any, run_night: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, metrics = f"{tmp_path}/out", tmp_path / "drift.prom"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head)
    compared = ["python", "jobs/compare.py", output, output, "--max-drift", "0.1", "--metrics", str(metrics)]
    codes = []
    for run, label in enumerate((1, 1, 2)):
        info = note(night=1 + run)
        put_rows(output, info, [row(f"{run}", np.full((6, 8), label, np.uint8), info)])
        if run:
            night = ["--name", "drift", "--night", f"n{run}", "--working-dir", str(ROOT), "--"]
            codes.append(run_night.main([*night, *compared], poll_seconds=0.5))
            values = dict(line.split(" ") for line in metrics.read_text().splitlines() if line[0] != "#")
            named = {name.partition("{")[0]: float(value) for name, value in values.items()}
            assert (named["deeplab_drift"] > named["deeplab_drift_allowed"]) == (run == 2)
    assert codes == [0, 4]
    (group,) = yaml.safe_load((ROOT / "infra/monitoring/alerts.yaml").read_text())["groups"]
    asked = "last_over_time(deeplab_drift[20h]) > last_over_time(deeplab_drift_allowed[20h])"
    assert any(asked in rule["expr"] for rule in group["rules"])
    assert [notice["submission_id"] for notice in webhook.posted] == ["drift-n1", "drift-n2"]
