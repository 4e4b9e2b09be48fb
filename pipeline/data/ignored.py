"""What lies in an input and is not read: counted by kind, and named where a person may want to mend it."""

from collections import Counter
from pathlib import PurePosixPath

from pipeline import storage
from pipeline.data.formats import Format, is_output_file
from pipeline.data.formats.format import OUTPUT_FILES
from pipeline.data.rows import printable
from pipeline.errors import NoInputError

DESCRIBING = "metadata files"
"""Kind of files that only describe another, which is read."""

BELOW_SHARD = "files below shards"
"""Kind of what only an object store can hold: files in a folder that has the name of a shard."""

UNPAIRED = "unpaired images"
"""Kind of the images of a sample that are neither its picture nor its mask."""

_OTHERS = "other files"
_MOST_KINDS = 50
_MOST_SUFFIX = 6
_MOST_NAMED = 10
_REMEDIES = {
    storage.Skipped.BROKEN_LINK: "a link that leads nowhere, or to itself",
    storage.Skipped.LOOPING_LINK: "a link to a folder that it lies in",
    storage.Skipped.FORBIDDEN: "access denied; check its permissions",
    storage.Skipped.SPECIAL: "a pipe, a socket or a device",
    BELOW_SHARD: "a shard is called as its folder, and their images would share keys; rename one of them",
    UNPAIRED: "its sample, a name up to its first dot, has another picture or mask; rename it to make it its own",
    ".tar.gz": "a compressed tar cannot be read in parts; unpack it to .tar",
    ".tgz": "a compressed tar cannot be read in parts; unpack it to .tar",
}


class Ignored:
    """Counts what is not read. Kinds are plural, and end in s, or are suffixes."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.counts: Counter[str] = Counter()
        self._named: list[str] = []
        self._named_of: Counter[str] = Counter()

    def add(self, kind: str, uri: str) -> None:
        """Count one file or folder of `kind`."""
        remedy = f"{printable(storage.redact(uri))}: {_REMEDIES[kind]}" if kind in _REMEDIES else ""
        self._add(kind, remedy)

    def add_file(self, entry: storage.Entry, reader: Format | None) -> None:
        """Count a file that is not of a format that is read, but of `reader` or of none."""
        self.add(reader.files if reader else _kind(entry.key), entry.uri)

    def add_no_input(self, error: NoInputError) -> None:
        """Count a file that was opened and is no input."""
        self._add(error.kind, printable(str(error)))

    def add_unlisted(self, key: str) -> None:
        """Count a key that a person asked for and that the input does not have."""
        self._add("unlisted keys", f"no image of the input has the key {printable(key)!r}")

    def _add(self, kind: str, named: str) -> None:
        if kind not in self.counts and len(self.counts) >= _MOST_KINDS:
            kind = _OTHERS
        self.counts[kind] += 1
        if named and self._named_of[kind] < _MOST_NAMED:
            self._named_of[kind] += 1
            self._named.append(f"ignored: {named}")

    def lines(self) -> list[str]:
        """Say what was ignored: a line on each of a few that can be mended, and how many there are of each kind."""
        if not self.counts:
            return []
        counts = ", ".join(f"{count} {_singular(kind, count)}" for kind, count in self.counts.most_common())
        return [*self._named, f"ignored: {counts}"]


def _kind(key: str) -> str:
    """Name the kind of a file of no format."""
    if is_output_file(key):
        return OUTPUT_FILES
    suffixes = [suffix.lower() for suffix in PurePosixPath(key).suffixes]
    kind = "".join(suffixes[-2:] if suffixes[-2:-1] == [".tar"] else suffixes[-1:])
    return kind if suffixes and len(suffixes[-1]) <= _MOST_SUFFIX and printable(kind) == kind else _OTHERS


def _singular(kind: str, count: int) -> str:
    return kind.removesuffix("s") if count == 1 and not kind.startswith(".") else kind
