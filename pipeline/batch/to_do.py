"""What a run has to do of what is listed: by the notes on finished parts where they hold, else by the ledger."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.batch.ledger import Ledger
from pipeline.batch.listing import Listing
from pipeline.batch.manifest import Ids
from pipeline.batch.notes import Notes
from pipeline.batch.parts import Part, PartId
from pipeline.batch.sink import Committer

_NOTES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class ToDo:
    """Chooses what is to do, and counts in `listing` what is skipped.

    Attributes:
        notes: None where no note is read or put, as in a dry run.
        errors: whether that is what has its row in errors/, and nothing that is new.
    """

    ledger: Ledger
    listing: Listing
    notes: Notes | None
    errors: bool

    def of(self, part: Part) -> list[Ids]:
        """Choose the ids of a part that are to do. Raises StorageError, and RunError as Notes.put does."""
        chosen = self._chosen(part)
        new = int(self.ledger.is_pending(part).sum()) if self.errors else 0
        self.listing.new += new
        self.listing.skipped += part.rows - sum(ids.table.num_rows for ids in chosen) - new
        return chosen

    def _chosen(self, part: Part) -> list[Ids]:
        if self.errors:
            return part.where(self.ledger.has_failed(part))
        files = self.ledger.files(part.id)
        if self.notes and files and self.notes.has(part.id, files):
            return []
        chosen = part.where(self.ledger.is_pending(part))
        if self.notes and not chosen:
            self.notes.put(part.id, files)
        return chosen

    def note(self, parts: Iterable[PartId], committer: Committer) -> None:
        """Put notes on parts that are done now by what `committer` has committed. Raises as Notes.put does."""
        notes = self.notes
        if notes is None or self.errors:
            return

        def put(part: PartId) -> None:
            notes.put(part, [*self.ledger.files(part), *committer.files(part)])

        with ThreadPoolExecutor(_NOTES_AT_ONCE) as pool:
            list(pool.map(put, parts))
