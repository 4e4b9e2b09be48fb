"""What the input holds: files of the formats that are read, listed without fetching an image."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import pyarrow as pa

from pipeline import masks, storage
from pipeline.data.files import input_files
from pipeline.data.formats import (
    BY_RULE,
    FORMATS,
    ColumnNames,
    Format,
    InputFormat,
    by_suffix,
    format_of,
    formats_read,
    with_columns,
)
from pipeline.data.ignored import BELOW_SHARD, DESCRIBING, Ignored
from pipeline.data.rows import printable
from pipeline.errors import ConfigError, NoInputError, ShardError, StorageError
from pipeline.images import DEFAULT_MAX_PIXELS, max_encoded_bytes

_SAMPLED = 1000
_MANY_NAMES = 20_000
_SEARCH_SECONDS = storage.PROBE_SECONDS / 2
_TRIED = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input that was opened.

    Attributes:
        uri: of the input, as it was given.
        root: the URI that every entry's path lies below.
        formats: those that are read, by name.
        reading: lines on what a person should know of how they are read; mostly none.
        output: of the run; where it lies below the input, nothing in it is input.
        index: folder of the indexes of shards; empty to keep none.
        max_bytes: of an encoded image; a larger file is not fetched.
        carried: columns of the input that go into masks/, as they are there.
    """

    uri: str
    root: str
    formats: Mapping[str, Format]
    reading: Sequence[str] = ()
    output: str = ""
    index: str = ""
    max_bytes: int = max_encoded_bytes(DEFAULT_MAX_PIXELS)
    carried: pa.Schema = pa.schema([])  # noqa: RUF009  # it does not change

    def limited(self, max_bytes: int) -> "Source":
        """Give the same source, of which images of at most so many encoded bytes are fetched."""
        formats = {name: reader.limited(max_bytes) for name, reader in self.formats.items()}
        return replace(self, formats=formats, max_bytes=max_bytes)

    @property
    def keys_below(self) -> str:
        """Give the URI that keys are below; empty for a list, whose keys say nothing of its place."""
        return "" if any(reader.is_list for reader in self.formats.values()) else self.root

    def entries(self, ignored: Ignored | None = None) -> Iterator[storage.Entry]:
        """Stream the objects that hold images; what else is listed is counted in `ignored`.

        Tables that are none where a tar is there come last: by then it is known. A shard is listed before what lies
        below its name; where a storage has no order, the one that comes first is read.
        """
        ignored = ignored or Ignored()
        shards: set[str] = set()
        entered: set[str] = set()
        held: list[storage.Entry] = []
        suffixes = self._suffixes
        endings = tuple(f"{suffix}/" for r in self.formats.values() if r.is_shard for suffix in r.suffixes)
        for entry in _input(self.uri, self.output, ignored):
            own = format_of(entry.key, suffixes)
            if own is None or own.name not in self.formats:
                ignored.add_file(entry, own)
                continue
            above = _folders(entry.key, endings)
            if entry.key in entered or not shards.isdisjoint(above):
                ignored.add(BELOW_SHARD, entry.uri)
                continue
            entered.update(above)
            if own.is_shard:
                shards.add(entry.key)
            if own.describes and _described(entry, suffixes, self.formats):
                held.append(entry)
            else:
                yield entry
        for entry in held:
            if _described(entry, suffixes, self.formats) in shards:
                ignored.add(DESCRIBING, entry.uri)
            else:
                yield entry

    def reader(self, entry: storage.Entry) -> Format:
        """Give what reads one of the entries."""
        own = format_of(entry.key, self._suffixes)
        assert own is not None
        return self.formats[own.name]

    @cached_property
    def _suffixes(self) -> dict[str, Format]:
        return by_suffix(self.formats)


def open_source(uri: str, input_format: InputFormat, output: str = "", columns: ColumnNames = BY_RULE) -> Source:
    """Find out what `uri` holds, and open the first files of it.

    Args:
        uri: of the input.
        input_format: the one of FORMATS that is read, or auto: all of them.
        output: of the run.
        columns: of a table, that are chosen already.

    Raises:
        StorageError: the storage does not answer or may not be read, or there is nothing of this format.
        ConfigError: the first tables have no column of encoded images and are all there is, or several columns of one
            fit equally; there are several lists; a column that is to be carried is not there.
    """
    return storage.within(storage.PROBE_SECONDS, uri, "list", lambda: _opened(uri, input_format, output, columns))


def _opened(uri: str, input_format: InputFormat, output: str, columns: ColumnNames) -> Source:
    ignored = Ignored()
    first, count, fitting = _sample(uri, input_format, output, ignored)
    if first is None:
        passed = "; ".join(["", *ignored.lines()])
        raise StorageError(f"nothing is listed at {storage.redact(uri)}; check the bucket and the prefix{passed}")
    if not fitting:
        *others, last = [r.files for r in formats_read(input_format).values()]
        sought = f"{', '.join(others)} or {last}" if others else last
        raise StorageError(
            f"no {sought} among the first {count} names under "
            f"{storage.redact(uri)}; the first name there is {first.key!r}"
            f"{'; '.join(['', *ignored.lines(), *_advice(first, count)])}"
        )
    read = formats_read(input_format)
    with_columns([read[name] for name in fitting], columns)  # refuses some where no file is a table
    formats = {name: reader.with_columns(columns) for name, reader in read.items()}
    name, (shard, *further) = next(iter(fitting.items()))
    if formats[name].is_list and further:
        raise ConfigError(
            f"{storage.redact(uri)} holds {len(further) + 1} lists or more, and an input is one of them: keys may not "
            f"repeat in it; give one, as {storage.redact(shard.uri)}, or join them"
        )
    _check_readable(chain.from_iterable(entries[:_TRIED] for entries in fitting.values()))
    reading = _looked_into(formats, fitting)
    carried = formats[name].carried(shard)
    return Source(uri=uri, root=shard.root, formats=formats, reading=reading, output=output, carried=carried)


def _advice(first: storage.Entry, count: int) -> list[str]:
    """Say how a list is read, where the input is a file that may be one; or how to go past many other names."""
    lists = {name: reader for name, reader in FORMATS.items() if reader.is_list}
    if count >= _MANY_NAMES:
        return ["if there are some further on, give the folder or prefix that they are below"]
    if count > 1 or format_of(first.key, by_suffix(lists)) not in lists.values():
        return []
    return [f"if it is a list of images, add --input-format {next(iter(lists))}"]


def _check_readable(entries: Iterable[storage.Entry]) -> None:
    """Raise StorageError where no file can be read: with a key that may only list, it would show once actors run."""
    refused: list[StorageError] = []
    for entry in entries:
        try:
            storage.probe_object(entry.uri)
            return
        except StorageError as error:
            refused.append(error)
    raise refused[0]


_Found = dict[str, list[storage.Entry]]
"""The first files of each format that there is, by its name."""


def _sample(
    uri: str, input_format: InputFormat, output: str, ignored: Ignored
) -> tuple[storage.Entry | None, int, _Found]:
    """List the first names of the input: the first, how many there were, and those that are of the formats sought.

    Where none is among many, the search goes on for a while.
    """
    first: storage.Entry | None = None
    count = 0
    fitting: _Found = {}
    read = formats_read(input_format)
    suffixes = by_suffix(read)
    end = time.monotonic() + _SEARCH_SECONDS
    for count, entry in enumerate(_input(uri, output, ignored), start=1):
        first = first or entry
        reader = format_of(entry.key, suffixes)
        if reader is None or reader.name not in read:
            ignored.add_file(entry, reader)
        else:
            fitting.setdefault(reader.name, []).append(entry)
        many = count >= _MANY_NAMES and (fitting or time.monotonic() > end)
        if many or sum(map(len, fitting.values())) == _SAMPLED:
            break
    return first, count, fitting


def _looked_into(formats: Mapping[str, Format], fitting: _Found) -> list[str]:
    """Say how the first file of each format is read. Raises NoInputError where there are only files that are none."""
    lines: list[str] = []
    refused: list[NoInputError] = []
    for name, entries in fitting.items():
        reader = formats[name]
        for entry in entries[:_TRIED]:
            described = _described(entry, by_suffix(formats), formats)
            if described and storage.exists(storage.join(entry.root, described)):
                continue
            try:
                lines.append(reader.check(entry))
            except NoInputError as error:
                refused.append(error)
                continue
            except ShardError:  # one damaged file among many is a failed row, and no reason to refuse the rest
                lines.append("")
            if reader.is_shard and not reader.is_list:
                path = printable(entry.key)
                lines.append(f"keys of images in {reader.files} begin with the file's path, as in {path}/NAME")
            break
    if refused and not lines:
        raise refused[0]
    return [line for line in lines if line]


def _described(entry: storage.Entry, suffixes: Mapping[str, Format], formats: Mapping[str, Format]) -> str:
    """Give the key of the file that `entry` only describes if that is there and read; empty where there can be none."""
    own = format_of(entry.key, suffixes)
    if own is None or not own.describes:
        return ""
    key = f"{entry.key.rpartition('.')[0]}{own.describes}"
    other = format_of(key, suffixes)
    return key if other and other.name in formats else ""


def _folders(key: str, endings: tuple[str, ...]) -> list[str]:
    """Give the folders on the way to a key whose names end so: of `a/b.tar/c/d` and `.tar/` `a/b.tar`."""
    if not any(ending in key.lower() for ending in endings):  # nearly all, and this is quick
        return []
    return [key[:n] for n, letter in enumerate(key) if letter == "/" and key[: n + 1].lower().endswith(endings)]


def _input(uri: str, output: str, ignored: Ignored) -> Iterator[storage.Entry]:
    """List the input, without what this pipeline has written there itself."""
    own = tuple(f"{storage.join(output, folder)}/" for folder in masks.FOLDERS) if output else ()

    def count(why: storage.Skipped, skipped: str) -> None:
        if not f"{skipped}/".startswith(own):
            ignored.add(why, skipped)

    return (entry for entry in input_files(uri, count) if not entry.uri.startswith(own))
