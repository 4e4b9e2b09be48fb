"""What is done already: the committed output itself, read back.

A row of masks/ or errors/ is committed with its file or not at all, so there is nothing else to keep in step with it.
Of a key's rows the newest counts: an image that was changed and then changed back is done again.

The ledger is as large as the output, and never in memory as a whole: the files that may hold some of the ids that are
asked for, by the keys in their footers, are read past these ids.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline import masks, storage
from pipeline.batch.parts import Part, PartId
from pipeline.batch.staging import staged
from pipeline.data.digests import DIGEST, Digests, identity
from pipeline.errors import ConfigError
from pipeline.masks import CommittedFile
from pipeline.runtime.progress import say

_ROW = np.dtype([("key", DIGEST), ("row", DIGEST)])
_READERS = 4  # each holds a buffer
_KEPT_ROWS = 2**21
"""Rows that are kept for the next ids, as digests of 32 bytes: an output of so many is read once."""


class Ledger:
    """The rows of committed files, which are asked for a part of a listing at a time."""

    def __init__(
        self, newest_first: Sequence[CommittedFile] = (), newest: str = "", known: Collection[str] = ()
    ) -> None:
        """Read nothing yet.

        Args:
            newest_first: the files whose rows count.
            newest: when the generation's newest file was created, as its note says.
            known: the URIs of all files of the output, whatever their generation.
        """
        self._files, self._created, self._known = newest_first, newest, frozenset(known)
        self._kept: OrderedDict[str, Digests] = OrderedDict()

    def after(self, moment: str) -> str:
        """Give `moment`, or one right behind the newest row where a clock was ahead: what is done now must be newer."""
        if moment > self._created:
            return moment
        return (datetime.fromisoformat(self._created) + timedelta(microseconds=1)).isoformat()

    def is_pending(self, part: Part) -> NDArray[np.bool_]:
        """Tell of each id whether it has no row in the output yet. Raises StorageError."""
        newest, _ = self._newest(part)
        pending: NDArray[np.bool_] = newest != part.digests
        return pending

    def has_failed(self, part: Part) -> NDArray[np.bool_]:
        """Tell of each id whether its row in the output is an error, but not of what fails by its listing again.

        Raises StorageError.
        """
        newest, is_error = self._newest(part)
        is_good = [ids.table.column("error").is_null().to_numpy() for ids in part.ids]
        failed: NDArray[np.bool_] = is_error & (newest == part.digests) & np.concatenate(is_good)
        return failed

    def files(self, part: PartId) -> list[CommittedFile]:
        """List the files that may hold rows of the part, newest first."""
        return [file for file in self._files if file.may_hold(*part.keys)]

    def remove_late(self, output: str, info: masks.DatasetInfo, former: str, check: Callable[[], None]) -> None:
        """Remove the files of the run `former` that came once this was loaded: their images were to do again.

        That run had lost its lock, but a put that has begun goes on. What is of another generation stays.

        Args:
            output: whose ledger this is.
            info: of the run that has taken the lock over, as `load` has it.
            former: the run that has lost it.
            check: called before each; raises where this run may write no more.

        Raises:
            StorageError: the storage does not answer.
        """
        for file in [*masks.committed_files(output), *staged(output)]:
            is_late = file.info.run_id == former and file.uri not in self._known
            if is_late and file.info.generation == info.generation:
                check()
                storage.delete(file.uri)
                say(f"removed {storage.redact(file.uri)}, which run {former} has put late")

    def _newest(self, part: Part) -> tuple[Digests, NDArray[np.bool_]]:
        """Find the newest row of each key: its digest, empty where there is none, and whether it is in errors/."""
        files = self.files(part.id)
        if not files:
            return np.zeros(part.rows, DIGEST), np.zeros(part.rows, bool)
        listed = chain.from_iterable(ids.table.column("key").to_pylist() for ids in part.ids)
        keys, place = np.unique(np.array([identity(key) for key in listed], DIGEST), return_inverse=True)
        newest, is_error = np.zeros(len(keys), DIGEST), np.zeros(len(keys), bool)
        for file, rows in zip(files, self._read(files), strict=True):
            at = np.minimum(np.searchsorted(keys, rows["key"]), len(keys) - 1)
            met = (keys[at] == rows["key"]) & (newest[at] == b"")
            at, first = np.unique(at[met], return_index=True)
            newest[at], is_error[at] = rows["row"][met][first], file.failed
        return newest[place], is_error[place]

    def _read(self, files: Sequence[CommittedFile]) -> Iterator[Digests]:
        """Read the rows of files, some at once; those that were read last are kept."""
        with ThreadPoolExecutor(_READERS) as pool:
            for first in range(0, len(files), _READERS):
                some = files[first : first + _READERS]
                new = [file for file in some if file.uri not in self._kept]
                self._kept |= zip((file.uri for file in new), pool.map(_read, new), strict=True)
                yield from [self._kept[file.uri] for file in some]
                self._drop()

    def _drop(self) -> None:
        rows = sum(map(len, self._kept.values()))
        while rows > _KEPT_ROWS:
            rows -= len(self._kept.popitem(last=False)[1])


def load(output: str, info: masks.DatasetInfo) -> Ledger:
    """Find the files that the generation of `info` has committed below `output`.

    Of a run that does images again, those alone that were done again for the same file of keys.

    Raises:
        ConfigError: they are of another input or column, whose images of the same name these would replace.
        StorageError: a file cannot be read.
    """
    everywhere = [*masks.committed_files(output), *staged(output)]
    everywhere.sort(key=lambda file: (file.info.created, file.uri), reverse=True)
    files = [file for file in everywhere if file.info.generation == info.generation]
    for file in files:
        _check_same_input(storage.redact(output), file.info, info)
    newest = max((file.info.created for file in files), default="")
    if info.again:
        files = [file for file in files if file.info.again == info.again]
    return Ledger(files, newest, [file.uri for file in everywhere])


def _check_same_input(output: str, earlier: masks.DatasetInfo, now: masks.DatasetInfo) -> None:
    """Raise ConfigError where images of one key are not the same images."""
    if earlier.input != now.input:
        raise ConfigError(
            f"{output} holds the masks of {earlier.input or 'a list'}, and the input is {now.input or 'a list'}: of "
            "images with the same name one would replace the other; give each input an output, or a prefix they share "
            "as the input"
        )
    if earlier.image_column != now.image_column:
        before, after = (f"--image-column {i.image_column}" if i.image_column else "no flag" for i in (earlier, now))
        raise ConfigError(
            f"{output} holds masks made with {before}, and this run has {after}: the image of a key would be another; "
            "give each column an output, or the same flag again"
        )


def _read(file: CommittedFile) -> Digests:
    """Read the rows of one file, each as digests of its key and of key and version."""
    rows = masks.read_columns(file.uri, ["key", "source", "version"], lacking=("source",))
    keys = ((file.info.image_key(key, source), version) for key, source, version in rows)
    return np.fromiter(((identity(key), identity(key, version)) for key, version in keys), _ROW)
