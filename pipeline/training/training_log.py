"""How far training is: a bar or a line now and then on stderr, and TensorBoard files in storage."""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import StorageError
from pipeline.runtime.console import is_terminal
from pipeline.runtime.progress import say

_LINE_SECONDS = 10.0
_UPLOAD_SECONDS = 60.0

StepReport = dict[str, float]
"""Numbers after one step: `step`, and `loss`, `learning_rate` and `time` (seconds since the epoch), or `mean_iou`.

Or, of workers that begin, only `begun_at`: the steps that the checkpoint they begin with has behind it.
"""

Report = StepReport | str
"""Or a line to say."""


class ReportQueue:
    """Keeps the workers' reports until the driver takes them; an actor."""

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def put(self, report: Report) -> None:
        """Add a report."""
        self._reports.append(report)

    def take(self) -> list[Report]:
        """Give the reports since the last time."""
        reports, self._reports = self._reports, []
        return reports


class TrainingLog:
    """Shows and records a run's reports. Use as a context manager."""

    def __init__(self, name: str, iterations: int, uri: str) -> None:
        """Expect `iterations` steps of the run `name`; the TensorBoard files go below `uri`."""
        self._name, self._iterations, self._uri = name, iterations, uri
        self._bar = tqdm(total=iterations, unit=" steps", disable=not is_terminal(), dynamic_ncols=True)
        self._folder = tempfile.TemporaryDirectory()
        self._writer = SummaryWriter(self._folder.name)
        self._last_line = self._last_upload = time.monotonic()
        self._first: StepReport | None = None
        self._last: StepReport | None = None

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        self._writer.close()
        self._upload(once=raised is not None)
        self._folder.cleanup()

    def show(self, reports: Iterable[Report]) -> None:
        """Show and record reports, the oldest first."""
        for report in reports:
            if isinstance(report, str):
                say(report)
                continue
            if "begun_at" in report:
                self._show_start(int(report["begun_at"]))
                continue
            for name in report.keys() - {"step", "time"}:
                self._writer.add_scalar(name, report[name], int(report["step"]))
            if "mean_iou" in report:
                say(f"step {report['step']:.0f}: mean IoU {report['mean_iou']:.4f} on the validation pictures")
            if "loss" in report:
                self._first, self._last = self._first or report, report
                self._show_step(report)
        if time.monotonic() - self._last_upload >= _UPLOAD_SECONDS:
            self._writer.flush()
            self._upload(once=True)
            self._last_upload = time.monotonic()

    @property
    def steps_per_second(self) -> float:
        """Count from the end of the first step that was shown to the end of the last; 0 before there are two."""
        if self._first is None or self._last is None or self._first is self._last:
            return 0.0
        return (self._last["step"] - self._first["step"]) / (self._last["time"] - self._first["time"])

    def _show_start(self, step: int) -> None:
        """Say from where a run goes on that was stopped before, or that has just lost a worker."""
        if step or self._last:
            say(f"continuing {self._name} at step {step}")

    def _show_step(self, report: StepReport) -> None:
        if not self._bar.disable:
            self._bar.set_postfix(loss=f"{report['loss']:.3f}", refresh=False)
            self._bar.update(int(report["step"]) - self._bar.n)
        elif time.monotonic() - self._last_line >= _LINE_SECONDS or report["step"] == self._iterations:
            self._last_line = time.monotonic()
            say(f"step {report['step']:.0f} of {self._iterations}: loss {report['loss']:.3f}")

    def _upload(self, once: bool) -> None:
        """Put all files anew. A storage that does not take them costs a line: training does not depend on them."""
        try:
            for path in Path(self._folder.name).iterdir():
                storage.put_whole(storage.join(self._uri, path.name), path.read_bytes(), once=once)
        except StorageError as error:
            say(f"the TensorBoard files were not written: {error}")
