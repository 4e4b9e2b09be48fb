"""Objects that are images themselves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.data.formats.format import Fetched, Format
from pipeline.data.grouping import fetched_together
from pipeline.data.rows import Row, listed
from pipeline.images import EXTENSIONS


@dataclass(frozen=True)
class Images(Format):
    """An object an image; its key is its path below the input."""

    name = "images"
    suffixes = EXTENSIONS
    files = "images"
    is_shard = False

    def index(self, entry: storage.Entry) -> Iterator[list[Row]]:
        """See Format. Nothing is opened."""
        yield [listed(entry) | {"length": entry.size}]

    def fetch(self, root: str, rows: Sequence[Row]) -> Iterator[Fetched]:
        """See Format. A few dozen objects are asked for at once."""
        for some in fetched_together(rows):
            whole = [None] * len(some)
            yield list(zip(some, storage.read_ranges(root, [row["path"] for row in some], whole, whole), strict=True))
