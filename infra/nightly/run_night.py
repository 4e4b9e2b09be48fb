"""Submit the night's run to a Ray cluster, follow it to its end, and return its exit code.

    RAY_API_SERVER_ADDRESS=http://HEAD:8265 python infra/nightly/run_night.py --working-dir . -- \
        python jobs/segment_bucket.py --input URI --output URI --model NAME_OR_URI

The submission's id follows from the night, so that two starts in one night are one run. A run that fails is submitted
once more, and continues from what it has committed. SIGTERM and Ctrl-C stop the run too. Exit codes: the run's own; 1
where it has none, as without a cluster; 2 for arguments that cannot be used; 143 after SIGTERM. WEBHOOK_URL, if set, is
sent the outcome. A second SIGTERM ends the script at once.
"""

import argparse
import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

_NAME = "segment-bucket"
_FINAL = {  # exit codes of the job after which another run would end in the same way
    0: "done",
    2: "it was given something that cannot be used; its log says what",
    3: "more images failed than its error budget allows",
    4: "its masks have drifted from the night before's by more than is allowed",
}
_UNKNOWN = "UNKNOWN"
_STOPPED = 128 + signal.SIGTERM  # the unit takes it for a success
_ANSWER_SECONDS = 60.0
_STOP_SECONDS = 30.0  # below the 90 that systemd gives a unit to stop

Answer = TypeVar("Answer")


class NightError(Exception):
    """The night's run cannot be started or watched; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the night ended; `status` is Ray's, or UNKNOWN; `summary` is the last line of its log that is one."""

    submission_id: str
    status: str
    exit_code: int
    summary: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """Say it in one sentence, for a person."""
        return f"{self.submission_id}: {self._end}" + (f"; {_counts(self.summary)}" if self.summary else "")

    @property
    def _end(self) -> str:
        if self.status == JobStatus.STOPPED:
            return "stopped; the next start continues it"
        if self.status == _UNKNOWN:
            return f"not seen to its end; `ray job status {self.submission_id}` says whether it goes on"
        otherwise = f"failed with exit code {self.exit_code}; `ray job logs {self.submission_id}` says why"
        return _FINAL.get(self.exit_code, otherwise)


class Dashboard(JobSubmissionClient):
    """Ray's client, whose requests end: by itself it waits for ever for a head that does not answer."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, timeout=_ANSWER_SECONDS, **options)


@dataclass
class Retries:
    """Calls again, every `pause` seconds, what gets no answer, until `seconds` have passed."""

    seconds: float
    pause: float

    def run(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns in the end.

        Raises:
            NightError: there was no answer in time, or the token is refused.
        """
        deadline, announced = time.monotonic() + self.seconds, False
        while True:
            try:
                return call()
            except AuthenticationError as error:
                reason = str(error).splitlines()[0]
                raise NightError(f"{reason}; set RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN") from error
            except (OSError, RuntimeError) as error:  # no connection; or an answer that is no success
                if time.monotonic() > deadline:
                    where = os.environ["RAY_API_SERVER_ADDRESS"]
                    raise NightError(f"no answer from {where} for {self.seconds:.0f} s: {error}") from error
                if not announced:
                    print(f"run_night: asking again for {self.seconds:.0f} s: {error}", file=sys.stderr, flush=True)
                announced = True
            time.sleep(self.pause)


class Night:
    """The submissions of one night: `name`, then `name`-try2 and so on."""

    def __init__(
        self, name: str, entrypoint: str, working_dir: str | None, retries: Retries, again_seconds: float
    ) -> None:
        self._name, self._entrypoint, self._retries, self._again_seconds = name, entrypoint, retries, again_seconds
        self._runtime_env = {"working_dir": working_dir} if working_dir else {}
        self.submission_id, self._shown = name, ""

    @cached_property
    def _client(self) -> Dashboard:
        return self._retries.run(Dashboard)

    def run(self) -> Outcome:
        """Run to the end, twice if the first run fails. Raises NightError."""
        attempt = self._next_attempt()
        outcome = self._run(attempt)
        if outcome.status != JobStatus.STOPPED and outcome.exit_code not in _FINAL:
            print(f"{outcome.text}; trying once more in {self._again_seconds:.0f} s", flush=True)
            time.sleep(self._again_seconds)  # a storage that has just failed may be away for minutes
            outcome = self._run(attempt + 1)
        return outcome

    def stop(self) -> Outcome:
        """Stop the submission under way, and wait until it has ended. Raises NightError."""
        self._retries.seconds = min(self._retries.seconds, _STOP_SECONDS)
        if self._retries.run(self._details) is not None:
            self._retries.run(lambda: self._client.stop_job(self.submission_id))
            ended = self._follow()
            if ended.status != JobStatus.STOPPED:  # it came to its own end first
                return ended
        return Outcome(submission_id=self.submission_id, status=JobStatus.STOPPED.value, exit_code=_STOPPED)

    def _next_attempt(self) -> int:
        """Return the first that has not ended badly: after a bad end, a start by a person is to run again."""
        attempt = 1
        while True:
            self.submission_id = self._id(attempt)
            details = self._retries.run(self._details)
            if details is None or details.status not in (JobStatus.FAILED, JobStatus.STOPPED):
                return attempt
            attempt += 1

    def _run(self, attempt: int) -> Outcome:
        self.submission_id, self._shown = self._id(attempt), ""
        self._retries.run(self._submit)
        return self._follow()

    def _id(self, attempt: int) -> str:
        return self._name if attempt == 1 else f"{self._name}-try{attempt}"

    def _details(self) -> JobDetails | None:
        try:
            return self._client.get_job_info(self.submission_id)
        except RuntimeError as error:
            if "status code 404" in str(error):
                return None
            raise

    def _submit(self) -> None:
        try:
            self._client.submit_job(
                entrypoint=self._entrypoint, submission_id=self.submission_id, runtime_env=self._runtime_env
            )
            print(f"submitted {self.submission_id}", flush=True)
        except RuntimeError:
            taken = self._details()
            if taken is None:
                raise
            if taken.entrypoint != self._entrypoint:
                raise NightError(
                    f"{self.submission_id} is another command, `{taken.entrypoint}`; give another bucket a --name of "
                    "its own, and a second run of this one in a day a --night"
                ) from None
            print(f"{self.submission_id} has been submitted already; following it", flush=True)
        except ValueError as error:
            raise NightError(f"the cluster cannot be given --working-dir: {error}") from error

    def _follow(self) -> Outcome:
        """Print the log as it grows; return when the run has ended, or the cluster knows it no more."""
        while True:
            details = self._retries.run(self._details)
            if details is None:
                print(f"run_night: {self.submission_id} is gone; was the head restarted?", file=sys.stderr, flush=True)
                return Outcome(submission_id=self.submission_id, status=_UNKNOWN, exit_code=1)
            log = self._log() or self._shown
            more, self._shown = log[len(self._shown) :], log  # first, so that a SIGTERM does not show it again
            print(more, end="", flush=True)
            if details.status.is_terminal():
                return Outcome(
                    submission_id=self.submission_id,
                    status=details.status.value,
                    exit_code=_exit_code(details),
                    summary=_summary(log),
                )
            time.sleep(self._retries.pause)

    def _log(self) -> str:
        try:
            return self._retries.run(lambda: self._client.get_job_logs(self.submission_id))
        except NightError as error:  # a lost log does not hide how the run ends
            print(f"run_night: {error}", file=sys.stderr, flush=True)
            return ""


def _exit_code(details: JobDetails) -> int:
    """Return the driver's exit code; 1 where a signal ended it, or it was never started."""
    code = details.driver_exit_code
    return code if code is not None and code >= 0 else 1


def _summary(log: str) -> dict[str, Any] | None:
    """Find the last line of stdout, which Ray keeps in one log with stderr."""
    for line in reversed(log.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and {"listed", "skipped", "segmented", "failed"} <= value.keys():
            return value
    return None


def _counts(summary: dict[str, Any]) -> str:
    return "{listed} listed, {skipped} done before, {segmented} segmented, {failed} failed".format_map(summary)


def _report(url: str, outcome: Outcome) -> None:
    """POST the outcome as JSON; a webhook that fails costs a line on stderr."""
    body = json.dumps({"text": outcome.text} | asdict(outcome)).encode()
    try:
        request = Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")
        with urlopen(request, timeout=10):
            pass
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", "")  # not the message: the URL may be in it, and is a secret
        print(f"run_night: WEBHOOK_URL was not notified: {type(error).__name__} {reason}", file=sys.stderr)


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Submit the night's run to a Ray cluster and follow it to its end.")
    parser.add_argument("--night", default=f"{datetime.now(UTC):%Y-%m-%d}", help="what names the run; today, in UTC")
    parser.add_argument("--name", default=_NAME, help="what goes before the night in the submission's id")
    parser.add_argument("--working-dir", help="a folder that the run is given; without it, the cluster has the code")
    parser.add_argument("entrypoint", nargs="+", help="after --: the command that the cluster runs")
    options = parser.parse_args(argv)
    for flag, value in (("--night", options.night), ("--name", options.name)):
        if not re.fullmatch(r"[\w.-]+", value):
            parser.error(f"{flag} is {value!r}: use letters, digits, '.', '_' and '-'")
    if options.working_dir is not None and not Path(options.working_dir).is_dir():
        parser.error(f"--working-dir is {options.working_dir!r}: there is no such folder")
    address = os.environ.get("RAY_API_SERVER_ADDRESS", "")
    if not address.startswith(("http://", "https://")):
        parser.error(f"RAY_API_SERVER_ADDRESS is {address!r}: set it to the dashboard's URL, such as http://HEAD:8265")
    return options


def _outcome(night: Night) -> Outcome:
    try:
        try:
            return night.run()
        except KeyboardInterrupt:
            return night.stop()
    except NightError as error:
        print(f"run_night: {error}", file=sys.stderr, flush=True)
        return Outcome(submission_id=night.submission_id, status=_UNKNOWN, exit_code=1)


def main(
    argv: list[str] | None = None, retry_seconds: float = 600, poll_seconds: float = 2, again_seconds: float = 300
) -> int:
    """Submit, follow, report; returns the exit code."""
    options = _parsed(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `systemctl stop` ends a night as Ctrl-C does
    retries = Retries(retry_seconds, poll_seconds)
    name, entrypoint = f"{options.name}-{options.night}", shlex.join(options.entrypoint)
    night = Night(name, entrypoint, options.working_dir, retries, again_seconds)
    try:
        outcome = _outcome(night)
        print(outcome.text, flush=True)
        if url := os.environ.get("WEBHOOK_URL"):
            _report(url, outcome)
    except KeyboardInterrupt:  # while the run was being stopped, or its end reported
        print(f"run_night: ended at once; `ray job status {night.submission_id}` says how the run is", file=sys.stderr)
        return _STOPPED
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
