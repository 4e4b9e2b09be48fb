"""What the input holds: files of one format, listed without fetching an image."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from pipeline import masks, storage
from pipeline.data.formats import BY_RULE, FORMATS, ColumnNames, Format, InputFormat, format_of
from pipeline.data.ignored import Ignored
from pipeline.errors import ShardError, StorageError
from pipeline.images import DEFAULT_MAX_PIXELS, max_encoded_bytes

_SAMPLED = 1000
_MOST_NAMES = 20_000


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input that was opened.

    Attributes:
        uri: of the input, as it was given.
        root: the URI that every entry's path lies below.
        format: what its files are.
        reading: what a person should know of how they are read; mostly empty.
        output: of the run; where it lies below the input, nothing in it is input.
        index: folder of the indexes of shards; empty to keep none.
        max_bytes: of an encoded image; a larger file is not fetched.
    """

    uri: str
    root: str
    format: Format
    reading: str = ""
    output: str = ""
    index: str = ""
    max_bytes: int = max_encoded_bytes(DEFAULT_MAX_PIXELS)

    def entries(self, ignored: Ignored | None = None) -> Iterator[storage.Entry]:
        """Stream the objects that hold images; what else is listed is counted in `ignored`."""
        ignored = ignored or Ignored()
        for entry in _input(self.uri, self.output, ignored):
            reader = format_of(entry.key)
            if reader is not None and reader.name == self.format.name:
                yield entry
            else:
                ignored.add_file(entry, reader)


def open_source(uri: str, input_format: InputFormat, output: str = "", columns: ColumnNames = BY_RULE) -> Source:
    """Find out what `uri` holds, and open the first of it.

    Args:
        uri: of the input.
        input_format: a name of FORMATS, or auto: that of which there are most among the first files.
        output: of the run.
        columns: of a table, that are chosen already.

    Raises:
        StorageError: the storage does not answer or may not be read, or there is nothing of this format.
        ConfigError: the first table has no column of encoded images, or several that fit equally.
    """
    return storage.within(storage.PROBE_SECONDS, uri, "list", lambda: _opened(uri, input_format, output, columns))


def _opened(uri: str, input_format: InputFormat, output: str, columns: ColumnNames) -> Source:
    ignored = Ignored()
    entries, fitting = _sample(uri, input_format, output, ignored)
    if not entries:
        passed = "; ".join(["", *ignored.lines()])
        raise StorageError(f"nothing is listed at {storage.redact(uri)}; check the bucket and the prefix{passed}")
    if not fitting:
        *others, last = [r.files for r in FORMATS.values() if input_format in ("auto", r.name)]
        sought = f"{', '.join(others)} or {last}" if others else last
        raise StorageError(
            f"no {sought} among the first {len(entries)} names under "
            f"{storage.redact(uri)}; the first name there is {entries[0].key!r}{'; '.join(['', *ignored.lines()])}"
        )
    name, first = _most(fitting)
    reader = FORMATS[name].with_columns(columns)
    storage.probe_object(first.uri)  # a key that may list but not read would otherwise show only once actors run
    reading = ""
    with suppress(ShardError):  # one damaged file among many is a failed row, and no reason to refuse the rest
        reading = reader.check(first)
    return Source(uri=uri, root=first.root, format=reader, reading=reading, output=output)


def _sample(
    uri: str, input_format: InputFormat, output: str, ignored: Ignored
) -> tuple[list[storage.Entry], list[tuple[str, storage.Entry]]]:
    """List the first names of the input, and those among them that are of the format sought, with its name."""
    entries: list[storage.Entry] = []
    fitting: list[tuple[str, storage.Entry]] = []
    for entry in islice(_input(uri, output, ignored), _MOST_NAMES):
        entries.append(entry)
        reader = format_of(entry.key)
        if reader is not None and input_format in ("auto", reader.name):
            fitting.append((reader.name, entry))
            if len(fitting) == _SAMPLED:
                break
        else:
            ignored.add_file(entry, reader)
    return entries, fitting


def _most(fitting: list[tuple[str, storage.Entry]]) -> tuple[str, storage.Entry]:
    """Choose the format of which there are most, and the first file of it.

    Files that only describe others beside them give way to those: how many of each are among the first names is chance.
    """
    counts = Counter(name for name, _ in fitting)
    name = max(FORMATS, key=lambda name: counts[name])
    first = dict(reversed(fitting))
    suffix = FORMATS[name].describes
    described = format_of(suffix and f"file{suffix}")
    if described is not None and described.name in first:
        stem = first[name].uri.rpartition(".")[0]
        if storage.exists(f"{stem}{suffix}"):
            name = described.name
    return name, first[name]


def _input(uri: str, output: str, ignored: Ignored) -> Iterator[storage.Entry]:
    """List the input, without what this pipeline has written there itself."""
    own = tuple(f"{storage.join(output, folder)}/" for folder in masks.FOLDERS) if output else ()

    def count(why: storage.Skipped, skipped: str) -> None:
        if not f"{skipped}/".startswith(own):
            ignored.add(why, skipped)

    return (entry for entry in storage.list_files(uri, count) if not entry.uri.startswith(own))
