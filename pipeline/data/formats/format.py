"""The seam for input formats: what the job and training ask of one, and where the bytes of a picture lie."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import pyarrow as pa

from pipeline import storage
from pipeline.data.rows import Row
from pipeline.errors import PipelineError

Encoded = bytes | PipelineError
"""The encoded bytes of a picture, or why there are none."""

Fetched = list[tuple[Row, Encoded]]
"""Rows of MANIFEST, each with its bytes."""


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """The columns that a person has chosen for pictures, keys and masks; None leaves one to the rule.

    Those in `carry` go with the pictures into the output.
    """

    image: str | None = None
    key: str | None = None
    mask: str | None = None
    carry: tuple[str, ...] = ()


BY_RULE = ColumnNames()
"""Nothing is chosen: the rule decides."""


OUTPUT_FILES = "output files"
"""Kind of the files that this project wrote, as they are counted where they lie in an input."""


class Format(Protocol):
    """Read one kind of file. An instance is sent to workers, so it holds nothing but how to read."""

    name: ClassVar[str]
    """As `--input-format` and `--data-format` know it."""

    suffixes: ClassVar[frozenset[str]]
    """Of its files, lower-case, with the dot."""

    files: ClassVar[str]
    """How its files are called in messages, in the plural."""

    is_shard: ClassVar[bool] = True
    """Whether a file holds many pictures. It is then opened on the cluster to be indexed."""

    whole_lists: ClassVar[bool] = False
    """Whether a list that `index` gives is fetched by one task: where a part of it costs as much as all of it."""

    describes: ClassVar[str] = ""
    """Suffix of shards that a file of the same name only describes, where both are there; mostly none."""

    is_list: ClassVar[bool] = False
    """Whether its pictures lie anywhere, outside the file. It is read where it is asked for by name, and then alone."""

    @property
    def index_id(self) -> str:
        """Name what decides an index besides the file's version; an index of another id is not used."""
        return ""

    def with_columns(self, names: ColumnNames) -> Self:  # noqa: ARG002  # for those who need it
        """Read from these columns, where files of the format have some."""
        return self

    def limited(self, max_bytes: int) -> Self:  # noqa: ARG002  # for those who need it
        """Read pictures of at most so many encoded bytes, where the index does not tell how many one has."""
        return self

    def carried(self, entry: storage.Entry) -> pa.Schema:  # noqa: ARG002  # for those who need it
        """Give the columns of a file that go with its pictures into the output; mostly none. Raises as `check` does."""
        return pa.schema([])

    def check(self, entry: storage.Entry, *, labelled: bool = False) -> str:  # noqa: ARG002  # for those who need it
        """Look into the first file before any work.

        Args:
            entry: the file.
            labelled: whether its masks are read too.

        Returns:
            what a person should know of how it is read; mostly nothing.

        Raises:
            NoInputError: this file is no input.
            ConfigError: no file like it can be read.
            ShardError: this one is damaged.
            StorageError: the storage does not answer, or refuses to.
        """
        return ""

    def index(self, entry: storage.Entry) -> Iterator[list[Row]]:
        """Find the pictures of one file, in lists that are best fetched together.

        Yields:
            Rows of MANIFEST: the key, and where in the file the bytes are. They are made with `rows.listed(entry)` for
            a file that is an image; with `rows.within(entry, name)` and `rows.numbered(entry, place)` for one in a
            shard, with a name and without.

        Raises:
            ShardError: the rest of the file cannot be read, or it is not the one that was listed.
            NoInputError: the file is none that is read.
            ConfigError: it cannot be told what in the file to read.
            StorageError: the storage does not answer, or refuses to.
        """
        ...

    def fetch(self, root: str, rows: Sequence[Row]) -> Iterator[Fetched]:
        """Fetch the bytes of rows, as many at a time as fit in memory: MAX_FETCHED_BYTES in all.

        Args:
            root: URI below which the paths of the rows are.
            rows: in the order of their index.

        Yields:
            Each row once, with its bytes or, where it alone cannot be had, the error that says why.

        Raises:
            StorageError: the storage itself does not answer.
        """
        ...


OnUnpaired = Callable[[str], None]
"""Is told the URI of an image that is in no pair."""


@runtime_checkable
class LabelledFormat(Protocol):
    """Read labelled pictures too: a format with this method is a layout of labelled data, under its name."""

    def pairs(self, entry: storage.Entry, on_unpaired: "OnUnpaired") -> Iterator["Pair"]:
        """Find the pictures of one file with their masks. Raises as `Format.index` does.

        Args:
            entry: the file.
            on_unpaired: is told of images that are in no pair, where members are paired by their names.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where the encoded bytes of one picture or mask lie.

    Attributes:
        format: what reads them.
        root: URI below which `path` is.
        path: of the file.
        key: what the main job calls a picture there, when `root` is its input.
        version: of the file as it was listed; empty where it was not.
        offset: of the bytes in the file, with `length`.
        length: in bytes.
        row: of a table.
    """

    format: Format
    root: str
    path: str
    key: str
    version: str = ""
    offset: int | None = None
    length: int | None = None
    row: int | None = None

    @classmethod
    def of(cls, reader: Format, entry: storage.Entry, row: Row) -> Self:
        """Say where a row of the index of `entry` lies."""
        return cls(
            format=reader,
            root=entry.root,
            path=entry.key,
            key=row["key"],
            version=entry.version,
            offset=row.get("offset"),
            length=row.get("length"),
            row=row.get("row"),
        )

    @property
    def uri(self) -> str:
        """Give the URI of the file."""
        return storage.join(self.root, self.path)


@dataclass(frozen=True, slots=True)
class Pair:
    """One labelled picture, by the name that a person knows it by.

    Attributes:
        key: its name.
        image: None where there is no picture; `problem` then says so.
        mask: None where there is no mask.
        problem: what was wrong with it already as it was listed.
    """

    key: str
    image: Location | None
    mask: Location | None
    problem: str | None = None


def fetch_locations(locations: Iterable[Location]) -> dict[Location, Encoded]:
    """Fetch the bytes at each location, all in memory at once. Raises StorageError as `Format.fetch` does."""
    groups: dict[tuple[Format, str], list[Row]] = {}
    for location in dict.fromkeys(locations):
        row = {name: getattr(location, name) for name in ("path", "version", "offset", "length", "row")}
        groups.setdefault((location.format, location.root), []).append(row | {"location": location})
    encoded: dict[Location, Encoded] = {}
    for (reader, root), rows in groups.items():
        rows.sort(key=lambda row: (row["path"], row["offset"] or 0, row["row"] or 0))
        for part in reader.fetch(root, rows):
            encoded |= {row["location"]: data for row, data in part}
    return encoded
