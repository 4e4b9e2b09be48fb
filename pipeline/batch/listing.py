"""The input's listing: ids only, streamed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter, itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.batch.manifest import Ids
from pipeline.batch.only_keys import OnlyKeys
from pipeline.batch.shard_indexes import indexes
from pipeline.data.formats import Format
from pipeline.data.ignored import Ignored
from pipeline.data.index import index_objects
from pipeline.data.source import Source
from pipeline.errors import NoInputError
from pipeline.images import DEFAULT_MAX_PIXELS, max_encoded_bytes

_PAGE = 1000


@dataclass(kw_only=True)
class Listing:
    """What was listed.

    Attributes:
        listed: images.
        skipped: those that are done already.
        new: those without a row that a run leaves which does errors again.
        ignored: what is no input.
        max_bytes: of an image; a larger one is not fetched, and counts for no size.
        sized: images whose bytes were seen, listed or passed over.
        sized_bytes: of these, as they are encoded.
    """

    listed: int = 0
    skipped: int = 0
    new: int = 0
    ignored: Ignored = field(default_factory=Ignored)
    max_bytes: int = max_encoded_bytes(DEFAULT_MAX_PIXELS)
    sized: int = 0
    sized_bytes: int = 0

    @property
    def mean_bytes(self) -> int:
        """Give the mean of the images' encoded bytes; 0 where none is known, as in a list."""
        return self.sized_bytes // self.sized if self.sized else 0

    def add_sizes(self, tables: Sequence[pa.Table]) -> None:
        """Take in the lengths of the images of some tables of schema MANIFEST."""
        lengths = [table.column("length") for table in tables]
        lengths = [some.filter(pc.less_equal(some, self.max_bytes)) for some in lengths]
        self.sized_bytes += sum(pc.sum(some).as_py() or 0 for some in lengths)
        self.sized += sum(map(len, lengths))


def list_input(source: Source, limit: int | None, only: OnlyKeys | None = None) -> tuple[Listing, Iterator[Ids]]:
    """List the images of `source`, the first `limit` of them.

    With `only`, the images of these keys are all there are.

    Returns:
        a count, complete once the ids that come with it have been consumed; `skipped` is for the caller to count.
    """
    listing = Listing(max_bytes=source.max_bytes)

    def chosen() -> Iterator[Ids]:
        for ids in _listed(source, listing):
            asked = only.of(ids.table) if only else ids.table
            listed = asked if limit is None else asked.slice(0, limit - listing.listed)
            listing.listed += listed.num_rows
            yield Ids(listed, ids.whole)
            if limit is not None and listing.listed >= limit:
                return
        if only:
            only.count_unlisted(listing.ignored)

    return listing, chosen()


def _listed(source: Source, listing: Listing) -> Iterator[Ids]:
    """List objects that are images themselves as they come, and then what shards hold."""
    shards: list[storage.Entry] = []
    objects = _objects(source, listing, shards)
    while page := list(islice(objects, _PAGE)):
        for reader, some in groupby(page, key=itemgetter(1)):
            ids = index_objects((entry for entry, _ in some), reader)
            listing.add_sizes([ids])
            yield Ids(ids)
    shards.sort(key=attrgetter("key"))  # so that --limit takes the same ones again
    yield from _indexed(source, listing, shards)


def _objects(source: Source, listing: Listing, shards: list[storage.Entry]) -> Iterator[tuple[storage.Entry, Format]]:
    """List what are images themselves; shards are kept in `shards`."""
    for entry in source.entries(listing.ignored):
        reader = source.reader(entry)
        if reader.is_shard:
            shards.append(entry)
        else:
            yield entry, reader


def _indexed(source: Source, listing: Listing, shards: Sequence[storage.Entry]) -> Iterator[Ids]:
    """List what shards hold."""
    for _, reader, index in indexes(source, shards):
        if isinstance(index, NoInputError):
            listing.ignored.add_no_input(index)
            continue
        listing.add_sizes(index)
        yield from (Ids(table, reader.whole_lists) for table in index)
