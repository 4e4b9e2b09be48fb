"""The pictures that masks were made from, found again by their keys in the input's storage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

import yaml

from pipeline import storage
from pipeline.data.formats import BY_RULE, FORMATS, ColumnNames, Format
from pipeline.data.formats.format import Encoded
from pipeline.data.index import index_name, index_shard
from pipeline.data.rows import Row
from pipeline.errors import ConfigError, NoInputError, PipelineError, ShardError, StorageError
from pipeline.images import DEFAULT_MAX_PIXELS, max_encoded_bytes
from pipeline.masks import INDEX_FOLDER, RUNS_FOLDER, DatasetInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Name a picture as a row of masks/ does: its key, and the URI of the image or shard that it came from."""

    key: str
    source: str


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
            Each picture once, with its bytes or, where these cannot be had, why; never a StorageError for all of them.
        """
        ordered = sorted(wanted, key=attrgetter("source"))
        for source, group in groupby(ordered, key=attrgetter("source")):
            pictures = list(group)
            try:
                entry = self._entry(source)
                yield from self._in_file(entry, self._format(entry.key), pictures)
            except PipelineError as error:
                yield from ((picture, error) for picture in pictures)

    def _entry(self, source: str) -> storage.Entry:
        """Look up the file that `source` names. Raises StorageError where it is gone."""
        path = source.removeprefix(f"{self.noted}/") if self.noted else ""
        if not source or (self.noted and path == source):
            raise StorageError(f"the source {source!r} is not below the input {self.noted!r}")
        uri = storage.join(self.input or self.noted, path) if path else source
        for entry in storage.list_folder(uri) if storage.exists(uri) else ():
            return replace(entry, uri=uri, key=path or entry.key)
        raise StorageError(f"{storage.redact(uri)} is gone")

    def _format(self, path: str) -> Format:
        suffix = path[path.rfind(".") :].lower()
        found = next((format for format in FORMATS.values() if suffix in format.suffixes), None)
        if found is None:
            raise ConfigError(f"{path} is of no format that is read")
        return found.with_columns(self.columns)

    def _in_file(
        self, entry: storage.Entry, format: Format, pictures: Sequence[Picture]
    ) -> Iterator[tuple[Picture, Encoded]]:
        """Give the pictures of one file: the rows of its index that have their keys, fetched."""
        by_key = {picture.key: picture for picture in pictures}
        rows = [row for row in self._index(entry, format) if row["key"] in by_key and row.get("error") is None]
        small = [row for row in rows if (row.get("length") or 0) <= max_encoded_bytes(DEFAULT_MAX_PIXELS)]
        for part in format.fetch(entry.root, [row | {"version": entry.version} for row in small]):
            for row, encoded in part:
                yield by_key.pop(row["key"]), encoded
        for picture in by_key.values():
            yield picture, ShardError(f"{storage.redact(entry.uri)} holds no image {picture.key!r}")

    def _index(self, entry: storage.Entry, format: Format) -> Iterator[Row]:
        if not format.is_shard:
            yield from (row for rows in format.index(entry) for row in rows)
            return
        kept = storage.join(self.index, index_name(entry, format)) if self.index else ""
        try:
            for table in index_shard(entry, format, self.index if kept and storage.exists(kept) else ""):
                yield from table.to_pylist()
        except NoInputError as error:
            raise ShardError(f"{storage.redact(entry.uri)} is no input any more: {error}") from error
