"""The pictures that masks were made from, found again by their keys in the input's storage."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import PurePosixPath

import yaml

from pipeline import storage
from pipeline.data.formats import BY_RULE, FORMATS, ColumnNames, Format
from pipeline.data.formats.format import Encoded
from pipeline.data.index import index_name, index_shard
from pipeline.data.rows import Row
from pipeline.errors import ImageError, MissingError, NoInputError, PipelineError, ShardError, StorageError
from pipeline.images import DEFAULT_MAX_PIXELS, max_encoded_bytes
from pipeline.masks import INDEX_FOLDER, RUNS_FOLDER, DatasetInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Name a picture as a row of masks/ does.

    Attributes:
        key: of the image.
        source: the URI of the image or shard that it came from.
        digest: hex sha256 of its bytes; empty where that is not known.
    """

    key: str
    source: str
    digest: str


def is_own_file(source: str) -> bool:
    """Tell whether what an image came from, as a row of masks/ names it, is the image itself and no shard."""
    return bool(source) and not _format_of(source).is_shard


def _format_of(uri: str) -> Format:
    """Tell what a file is by its name: one of no shard's is an image."""
    suffix = PurePosixPath(storage.base_name(uri)).suffix.lower()
    shards = (format for format in FORMATS.values() if format.is_shard and not format.is_list)
    return next((format for format in shards if suffix in format.suffixes), FORMATS["images"])


def _as_it_was(picture: Picture, encoded: Encoded) -> Encoded:
    if isinstance(encoded, PipelineError) or not picture.digest:
        return encoded
    is_same = hashlib.sha256(encoded).hexdigest() == picture.digest
    return encoded if is_same else ImageError(f"the picture {picture.key!r} has changed since it was segmented")


def pictures_of(output: str, info: DatasetInfo, input: str = "") -> "Pictures":
    """Find out where the pictures of an output are, and how its run has read them.

    Args:
        output: of the run.
        info: the note of its masks.
        input: where the pictures are now; by default where the run found them.
    """
    try:
        config = yaml.safe_load(storage.read_bytes(storage.join(output, RUNS_FOLDER, info.run_id, "config.yaml")))
    except (StorageError, yaml.YAMLError, ValueError, RecursionError):
        config = None  # without it, the rule for columns decides, as it mostly did in the run
    key = config.get("key_column") if isinstance(config, dict) else None
    columns = ColumnNames(image=info.image_column or None, key=key if isinstance(key, str) else None)
    return Pictures(noted=info.input, input=input, index=storage.join(output, INDEX_FOLDER), columns=columns)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of an output.

    Attributes:
        noted: the input as the output's files note it, without credentials: what sources begin with.
        input: where it is now; by default where it was.
        index: folder of the indexes of shards that the run has left, `OUTPUT/_index`; one that is there is used.
        columns: of tables, as the run has chosen them.
    """

    noted: str
    input: str = ""
    index: str = ""
    columns: ColumnNames = BY_RULE

    def fetch(self, wanted: Sequence[Picture]) -> Iterator[tuple[Picture, Encoded]]:
        """Fetch the encoded bytes of pictures, those of one shard together.

        Yields:
            Each picture once, with its bytes or why these cannot be had, such as an ImageError where they are others
            by now; never a StorageError for all of them.
        """
        ordered = sorted(wanted, key=attrgetter("source"))
        for source, group in groupby(ordered, key=attrgetter("source")):
            left = {picture.key: picture for picture in group}
            missing: PipelineError | None = None
            try:
                for key, encoded in self._in_file(source, left.keys()):
                    picture = left.pop(key)
                    yield picture, _as_it_was(picture, encoded)
            except PipelineError as error:
                missing = error
            for picture in left.values():
                yield picture, missing or ShardError(f"{source} holds no image {picture.key!r}")

    def _in_file(self, source: str, keys: Collection[str]) -> Iterator[tuple[str, Encoded]]:
        """Give the pictures of a file, with their keys: the file itself, or of a shard what its index has of `keys`."""
        path = source.removeprefix(f"{self.noted}/") if self.noted and source.startswith(f"{self.noted}/") else ""
        uri = storage.join(self.input or self.noted, path) if path else source
        format = _format_of(uri).with_columns(self.columns)
        if not source or not storage.exists(uri):
            raise MissingError(f"{source or 'the source, which is not noted,'} is gone")
        if not format.is_shard:
            for key in tuple(keys):
                yield key, storage.read_bytes(uri)
            return
        found = next(storage.list_folder(uri), None)
        if found is None:
            raise MissingError(f"{source} is an empty folder now")
        entry = replace(found, uri=uri, key=path or storage.base_name(uri))
        rows = [row for row in self._index(entry, format) if row["key"] in keys and row.get("error") is None]
        small = [row for row in rows if (row.get("length") or 0) <= max_encoded_bytes(DEFAULT_MAX_PIXELS)]
        for part in format.fetch(entry.root, [row | {"version": entry.version} for row in small]):
            yield from ((row["key"], encoded) for row, encoded in part)

    def _index(self, entry: storage.Entry, format: Format) -> Iterator[Row]:
        kept = storage.join(self.index, index_name(entry, format)) if self.index else ""
        try:
            for table in index_shard(entry, format, self.index if kept and storage.exists(kept) else ""):
                yield from table.to_pylist()
        except NoInputError as error:
            raise ShardError(f"{storage.redact(entry.uri)} is no input any more: {error}") from error
