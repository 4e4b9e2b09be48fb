"""What the input holds: images, WebDataset tars or Parquet files, listed without fetching an image."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa

from pipeline import masks, storage
from pipeline.data import parquet_shard, rows
from pipeline.errors import ShardError, StorageError
from pipeline.images import DEFAULT_MAX_PIXELS, EXTENSIONS, max_encoded_bytes

Format = Literal["images", "webdataset", "parquet"]
Wanted = Literal["auto", "images", "webdataset", "parquet"]

_SAMPLED = 1000
_LOOKED_AT = 20_000


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input that was opened.

    Attributes:
        uri: of the input, as it was given.
        root: the URI that every entry's path lies below.
        format: what its files are.
        output: of the run; where it lies below the input, nothing in it is input.
        index: folder of what shards were found to hold; empty to keep nothing.
        storage_timeout: seconds for which a storage that does not answer is asked again.
        max_bytes: of an encoded image; a larger file is not fetched.
    """

    uri: str
    root: str
    format: Format
    output: str = ""
    index: str = ""
    storage_timeout: float = 0.0
    max_bytes: int = max_encoded_bytes(DEFAULT_MAX_PIXELS)

    def entries(self) -> Iterator[storage.Entry]:
        """Stream the objects that hold images."""
        return (entry for entry in _input(self.uri, self.output) if _format_of(entry.key) == self.format)


def open_source(uri: str, input_format: Wanted, output: str = "") -> Source:
    """Find out what `uri` holds, and open the first of it.

    Raises:
        StorageError: the storage does not answer or may not be read, or there is nothing of the wanted format.
        ConfigError: the first Parquet file has no column of encoded images.
    """
    return storage.within(storage.PROBE_SECONDS, uri, "list", lambda: _opened(uri, input_format, output))


def _opened(uri: str, wanted: Wanted, output: str) -> Source:
    named, fitting = _sample(uri, wanted, output)
    if not named:
        raise StorageError(f"nothing is listed at {storage.redact(uri)}; check the bucket and the prefix")
    if not fitting:
        kinds = "images, tar or Parquet files" if wanted == "auto" else _PLURAL[wanted]
        raise StorageError(
            f"no {kinds} among the first {len(named)} names under {storage.redact(uri)}; "
            f"the first name there is {named[0].key!r}"
        )
    counts = Counter(kind for kind, _ in fitting)
    chosen = max(_PLURAL, key=lambda kind: counts[kind])
    first = next(entry for kind, entry in fitting if kind == chosen)
    root = first.uri[: len(first.uri) - len(first.key)].rstrip("/")
    storage.probe_object(first.uri)  # a key that may list but not read would otherwise show only once actors run
    if chosen == "parquet":
        with suppress(ShardError):  # one damaged file among many is a failed row, and no reason to refuse the rest
            parquet_shard.check_columns(first.uri, first.version)
    return Source(uri=uri, root=root, format=chosen, output=output)


def _sample(uri: str, wanted: Wanted, output: str) -> tuple[list[storage.Entry], list[tuple[Format, storage.Entry]]]:
    """The first names of the input, and those among them that are of a wanted format."""
    named: list[storage.Entry] = []
    fitting: list[tuple[Format, storage.Entry]] = []
    for entry in islice(_input(uri, output), _LOOKED_AT):
        named.append(entry)
        kind = _format_of(entry.key)
        if kind is not None and wanted in ("auto", kind):
            fitting.append((kind, entry))
            if len(fitting) == _SAMPLED:
                break
    return named, fitting


def _input(uri: str, output: str) -> Iterator[storage.Entry]:
    """What is listed, without what this pipeline has written there itself."""
    own = tuple(f"{storage.join(output, folder)}/" for folder in masks.FOLDERS) if output else ()
    return (entry for entry in storage.list_files(uri) if not entry.uri.startswith(own))


def list_objects(entries: Sequence[storage.Entry]) -> pa.Table:
    """Manifest rows of objects that are images themselves; a name that is not UTF-8 makes a failed row."""
    found = [rows.listed(entry) | {"length": entry.size} | _unusable(entry) for entry in entries]
    return rows.table(found, rows.MANIFEST)


def _unusable(entry: storage.Entry) -> dict[str, str]:
    if rows.printable(entry.key) == entry.key:
        return {}
    return rows.failure("list", StorageError(f"the name {rows.printable(entry.key)} is not UTF-8; rename the file"))


_PLURAL: dict[Format, str] = {"images": "images", "webdataset": "tar files", "parquet": "Parquet files"}


def _format_of(name: str) -> Format | None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in EXTENSIONS:
        return "images"
    return {".tar": "webdataset", ".parquet": "parquet"}.get(suffix)  # type: ignore[return-value]
