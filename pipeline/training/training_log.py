"""How far training is: a bar or a line now and then on stderr, and TensorBoard files in storage."""

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import StorageError

_LINE_SECONDS = 10.0
_UPLOAD_SECONDS = 60.0

StepReport = dict[str, float]
"""Numbers after one step: `step`, and `loss`, `learning_rate` and `time` (seconds since the epoch), or `mean_iou`."""


class ReportQueue:
    """Notes from the workers to the driver; an actor."""

    def __init__(self) -> None:
        self._notes: list[StepReport] = []

    def put(self, note: StepReport) -> None:
        """Leave a note."""
        self._notes.append(note)

    def take(self) -> list[StepReport]:
        """The notes since the last time."""
        notes, self._notes = self._notes, []
        return notes


class TrainingLog:
    """Shows and records a run's notes. Use as a context manager."""

    def __init__(self, iterations: int, uri: str) -> None:
        """Expect `iterations` steps; the TensorBoard files go below `uri`."""
        self._iterations, self._uri = iterations, uri
        self._bar = tqdm(total=iterations, unit=" steps", disable=not sys.stderr.isatty(), dynamic_ncols=True)
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

    def show(self, notes: Iterable[StepReport]) -> None:
        """Show and record notes, the oldest first."""
        for note in notes:
            for name in note.keys() - {"step", "time"}:
                self._writer.add_scalar(name, note[name], int(note["step"]))
            if "mean_iou" in note:
                self._say(f"step {note['step']:.0f}: mean IoU {note['mean_iou']:.4f} on the validation pictures")
            if "loss" in note:
                self._first, self._last = self._first or note, note
                self._show_step(note)
        if time.monotonic() - self._last_upload >= _UPLOAD_SECONDS:
            self._writer.flush()
            self._upload(once=True)
            self._last_upload = time.monotonic()

    @property
    def steps_per_second(self) -> float:
        """From the end of the first step that was shown to the end of the last; 0 before there are two."""
        if self._first is None or self._last is None or self._first is self._last:
            return 0.0
        return (self._last["step"] - self._first["step"]) / (self._last["time"] - self._first["time"])

    def _show_step(self, note: StepReport) -> None:
        if not self._bar.disable:
            self._bar.set_postfix(loss=f"{note['loss']:.3f}", refresh=False)
            self._bar.update(int(note["step"]) - self._bar.n)
        elif time.monotonic() - self._last_line >= _LINE_SECONDS or note["step"] == self._iterations:
            self._last_line = time.monotonic()
            self._say(f"step {note['step']:.0f} of {self._iterations}: loss {note['loss']:.3f}")

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def _upload(self, once: bool) -> None:
        """Put all files anew. A storage that does not take them is told of: training does not depend on them."""
        try:
            for path in Path(self._folder.name).iterdir():
                storage.put_whole(storage.join(self._uri, path.name), path.read_bytes(), once=once)
        except StorageError as error:
            self._say(f"the TensorBoard files were not written: {error}")
