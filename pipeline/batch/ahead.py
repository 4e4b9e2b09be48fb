"""Listing ahead of the work: a thread lists and writes manifests, and each round does what is there by then."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile

from pipeline import storage
from pipeline.batch.manifest import Ids, Manifest
from pipeline.batch.parts import Part, PartId, cut

MOST_ROWS = 2**22
"""Images of a round: the driver holds some 4000 read tasks for so many, and rows of the manifest by chunks alone."""

_FIRST_SECONDS, _LATER_SECONDS = 10.0, 60.0
_ENDING_SECONDS = 10.0


@dataclass(kw_only=True)
class Round:
    """What one graph does: the images in `manifest`, all those of `parts` that are to do."""

    manifest: Manifest
    parts: list[PartId] = field(default_factory=list)


class Ahead:
    """Rounds that one thread fills while another works on those that it has taken; `rows` images in all so far."""

    def __init__(self, folder: str) -> None:
        """Write manifests below `folder`."""
        self._folder = folder
        self._changed = threading.Condition()
        self._rounds = 0
        self._next = self._new_round()
        self.rows = 0
        self._is_ended = self._is_closed = False
        self._failure: BaseException | None = None

    @property
    def is_ended(self) -> bool:
        """Tell whether all is listed."""
        return self._is_ended

    def take(self, done: int) -> Round | None:
        """Wait for the next round; None where nothing is left to do.

        It begins when the listing has ended, when as many images are there as were `done` before, or, since workers
        that wait cost as much, after a minute; the first one after ten seconds.

        Raises:
            BaseException: as the listing did.
        """
        patience = _LATER_SECONDS if done else _FIRST_SECONDS
        enough = min(done or MOST_ROWS, MOST_ROWS)
        with self._changed:
            self._changed.wait_for(lambda: self._is_ended or self._next.manifest.rows >= enough, timeout=patience)
            self._changed.wait_for(lambda: self._is_ended or self._next.manifest.rows > 0)
            self.raise_failure()
            taken = self._next
            taken.manifest.close()
            self._next = self._new_round()
            self._changed.notify_all()
        return taken if taken.manifest.rows else None

    def raise_failure(self) -> None:
        """Raise what the listing has raised, if it has."""
        if self._failure is not None:
            raise self._failure

    def fill(self, listed: Iterable[Ids], to_do: Callable[[Part], list[Ids]]) -> None:
        """Write down what is `to_do` of each part, and wait where the work is behind."""
        try:
            for part in cut(self._while_open(listed)):
                self._put(part, to_do(part))
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._is_ended = True
                self._changed.notify_all()

    def _while_open(self, listed: Iterable[Ids]) -> Iterator[Ids]:
        return takewhile(lambda _: not self._is_closed, listed)

    def close(self) -> None:
        """Let the thread that fills end at its next part."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _put(self, part: Part, ids: list[Ids]) -> None:
        """Add to the next round what is to do of a part."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._next.manifest.rows < MOST_ROWS)
            if ids and not self._is_closed:
                self._next.manifest.write(ids)
                self._next.parts.append(part.id)
                self.rows += sum(some.table.num_rows for some in ids)
                self._changed.notify_all()

    def _new_round(self) -> Round:
        self._rounds += 1
        return Round(manifest=Manifest(storage.join(self._folder, f"round-{self._rounds:05d}")))


@contextmanager
def listing_ahead(folder: str, listed: Iterable[Ids], to_do: Callable[[Part], list[Ids]]) -> Iterator[Ahead]:
    """Fill rounds below `folder` on a thread, for the block, by what is `to_do` of the parts of what is listed."""
    ahead = Ahead(folder)
    thread = threading.Thread(target=ahead.fill, args=(listed, to_do), daemon=True)
    thread.start()
    try:
        yield ahead
    finally:
        ahead.close()
        thread.join(_ENDING_SECONDS)  # it may wait for a storage that does not answer
