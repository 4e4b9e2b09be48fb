"""Notes on finished parts, by which a rerun need not read the ledger: OUTPUT/_parts/NAME.json.

A note says: of these ids, with these files of rows, nothing was to do. It is found by a digest of the ids and holds one
of the files that may hold rows of theirs. So an image that is new or has changed, a file that was lost, set aside or
replaced, and rows of a later run make no note wrong; they make it one that is not used.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline import masks, storage
from pipeline.batch.parts import PartId
from pipeline.data.digests import identity
from pipeline.masks import CommittedFile
from pipeline.runtime.lock import put_checked


@dataclass(frozen=True, kw_only=True)
class Notes:
    """The notes in `output` on what the rows of one generation, or of one file of keys, answer for.

    Attributes:
        info: of the run.
        check: called right before a note is put; raises where this run may write no more.
    """

    output: str
    info: masks.DatasetInfo
    check: Callable[[], None]

    def has(self, part: PartId, files: Iterable[CommittedFile]) -> bool:
        """Tell whether there is a note on the part and `files`, all that may hold its rows. Raises StorageError."""
        return part.is_cut and storage.read_if_there(self._uri(part)) == _note(files)

    def put(self, part: PartId, files: Iterable[CommittedFile]) -> None:
        """Note that `files`, all that may hold rows of the part, have a row of each of its ids.

        There is none on a part that the end of the listing has cut, and that will hardly come again.

        Raises:
            RunError: this run may write no more.
            StorageError: the storage cannot be written, or does not answer.
        """
        if part.is_cut:
            put_checked(self._uri(part), _note(files), self.check)

    def _uri(self, part: PartId) -> str:
        name = identity(part.digest, f"{self.info.generation}\0{self.info.again}").hex()
        return storage.join(self.output, masks.PARTS_FOLDER, f"{name}.json")


def _note(files: Iterable[CommittedFile]) -> bytes:
    """Write down files by folder, name and size: rows are never written into one that is there."""
    known = sorted([file.failed, storage.base_name(file.uri), file.size] for file in files)
    return json.dumps({"files": identity(json.dumps(known)).hex(), "count": len(known)}).encode()
