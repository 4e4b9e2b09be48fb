"""The checkpoints of a run, each whole or not there: the newest, the one before it, and the best.

A checkpoint is its state, STEP.pt, and then its note, STEP.json, which holds the state's digest and so commits it. The
folder itself says what there is to go on from; nothing else has to be kept in step with it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import attrgetter

from pipeline import storage
from pipeline.errors import MissingError, WeightsError
from pipeline.runtime.lock import put_checked

_FOLDER = "checkpoints"
_STATE, _NOTE = ".pt", ".json"
_NEWEST_KEPT = 2

LAYOUT = f"{_FOLDER}/STEP{_STATE}"
"""Where a run has its checkpoints; one that was begun in another layout cannot be gone on with."""

Tell = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Note:
    """Describe a checkpoint.

    Attributes:
        step: how many steps it has behind it.
        loss: the mean of those since the checkpoint before.
        mean_iou: 0 to 1, on the validation pictures; None without these.
        digest: SHA-256 of the state, in hexadecimal.
    """

    step: int
    loss: float
    mean_iou: float | None
    digest: str

    @property
    def rank(self) -> tuple[float, int]:
        """Return what the best checkpoint has most of: mean IoU, and then steps, as the rate falls to the end.

        Losses choose none: some are means over few steps.
        """
        return -1.0 if self.mean_iou is None else self.mean_iou, self.step


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Hold a checkpoint that was read: its note, and the state as `loop.restore` takes it."""

    note: Note
    state: bytes


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The checkpoints below the run's `folder`, a URI. `check` raises where this run may write no more."""

    folder: str
    check: Callable[[], None]

    def put(self, state: bytes, *, step: int, loss: float, mean_iou: float | None) -> None:
        """Put a checkpoint, then remove those that are not kept: earlier ones, and later ones, which were damaged.

        Raises:
            RunError: another run writes here now.
            StorageError: the checkpoint could not be written, and is not there; those before it are.
        """
        note = Note(step=step, loss=loss, mean_iou=mean_iou, digest=hashlib.sha256(state).hexdigest())
        put_checked(self._uri(step, _STATE), state, self.check)
        put_checked(self._uri(step, _NOTE), json.dumps(asdict(note)).encode(), self.check)
        self._remove_others(step)

    def newest(self, tell: Tell) -> Checkpoint | None:
        """Read the newest checkpoint that is whole; None without any. `tell` gets a line for each that is damaged.

        Raises:
            StorageError: the storage does not answer.
        """
        return self._first_whole(reversed(self.steps()), tell)

    def best(self, tell: Tell) -> Checkpoint | None:
        """Read the checkpoint with the highest mean IoU, and of several, or where none has one, the newest of them.

        Damaged ones are told of as `newest` does.
        """
        return self._first_whole((note.step for note in reversed(self._by_rank())), tell)

    def read(self, step: int) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            WeightsError: it is damaged.
            StorageError: the storage does not answer.
        """
        note = self._note(step)
        state = storage.read_if_there(self._uri(step, _STATE))
        if state is None or hashlib.sha256(state).hexdigest() != note.digest:
            how = "missing" if state is None else "not as it was written"
            raise WeightsError(f"{storage.redact(self._uri(step, _STATE))} is {how}")
        return Checkpoint(note=note, state=state)

    def steps(self) -> list[int]:
        """List the steps that have a note, in order. Raises StorageError."""
        return sorted(int(name) for name in map(_step_of_note, self._files()) if name)

    def _first_whole(self, steps: Iterable[int], tell: Tell) -> Checkpoint | None:
        for step in steps:
            try:
                return self.read(step)
            except WeightsError as error:
                tell(f"the checkpoint of step {step} is damaged, and an older one is looked for: {error}")
        return None

    def _note(self, step: int) -> Note:
        uri = self._uri(step, _NOTE)
        try:
            return Note(**json.loads(storage.read_bytes(uri)))
        except (MissingError, ValueError, TypeError) as error:
            raise WeightsError(f"{storage.redact(uri)} is missing or no note of a checkpoint") from error

    def _by_rank(self) -> list[Note]:
        """List the notes that can be read, the best last."""
        notes = []
        for step in self.steps():
            with suppress(WeightsError):
                notes.append(self._note(step))
        return sorted(notes, key=attrgetter("rank"))

    def _remove_others(self, newest: int) -> None:
        steps = [step for step in self.steps() if step <= newest]
        best = [note.step for note in self._by_rank() if note.step <= newest][-1:]
        kept = {f"{step:08d}" for step in (*steps[-_NEWEST_KEPT:], *best)}
        for name in self._files():  # in order, so that a note goes before its state
            if name.partition(".")[0] not in kept:
                storage.delete(storage.join(self.folder, _FOLDER, name))

    def _files(self) -> list[str]:
        """List the names in the folder, in order; also hidden ones, which a process that was killed leaves behind."""
        folder = storage.join(self.folder, _FOLDER)
        if not storage.exists(folder):
            return []
        hidden: list[str] = []
        names = [entry.key for entry in storage.list_folder(folder, lambda _, uri: hidden.append(uri))]
        return sorted([*names, *(uri.rpartition("/")[2] for uri in hidden)])

    def _uri(self, step: int, suffix: str) -> str:
        return storage.join(self.folder, _FOLDER, f"{step:08d}{suffix}")


def _step_of_note(name: str) -> str:
    """Return the digits that a note's name begins with; empty for another file."""
    step = name.removesuffix(_NOTE)
    return step if step.isdecimal() else ""
