"""The input's listing: ids only, streamed."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray

from pipeline import storage
from pipeline.batch.manifest import Ids
from pipeline.batch.only_keys import OnlyKeys
from pipeline.data.formats import Format
from pipeline.data.ignored import Ignored
from pipeline.data.index import index_objects, kept_index, make_index
from pipeline.data.source import Source
from pipeline.errors import NoInputError
from pipeline.runtime.background import in_order
from pipeline.runtime.cluster import connect
from pipeline.runtime.errors import get

_PAGE = 1000
_SHARDS_AT_ONCE = 32

_SHARDS_HERE = 64
"""Shards, the first ones, that this process opens itself: a process of the cluster takes seconds of a core to start."""

_LIST_BYTES = 4 * 1024**2
"""Most of a list that this process reads itself: its rows are small, so a large one fills memory."""


@dataclass(kw_only=True)
class Listing:
    """What was listed.

    Attributes:
        listed: images.
        skipped: those that are done already.
        ignored: what is no input.
        sized: images whose bytes were seen, listed or passed over.
        sized_bytes: of these, as they are encoded.
    """

    listed: int = 0
    skipped: int = 0
    ignored: Ignored = field(default_factory=Ignored)
    sized: int = 0
    sized_bytes: int = 0

    @property
    def mean_bytes(self) -> int:
        """Give the mean of the images' encoded bytes; 0 where none is known, as in a list."""
        return self.sized_bytes // self.sized if self.sized else 0

    def add_sizes(self, tables: Sequence[pa.Table], table_bytes: int = 0) -> None:
        """Take in the images of some tables of schema MANIFEST: each by its length, or all as `table_bytes`."""
        lengths = [table.column("length").drop_null() for table in tables]
        measured = sum(map(len, lengths))
        if measured:
            self.sized_bytes += sum(pc.sum(some).as_py() or 0 for some in lengths)
            self.sized += measured
        elif table_bytes:
            self.sized_bytes += table_bytes
            self.sized += sum(table.num_rows for table in tables)


def list_input(source: Source, limit: int | None, only: OnlyKeys | None = None) -> tuple[Listing, Iterator[Ids]]:
    """List the images of `source`, the first `limit` of them.

    With `only`, the images of these keys are all there are.

    Returns:
        a count, complete once the ids that come with it have been consumed; `skipped` is for the caller to count.
    """
    listing = Listing()

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
    """List what shards hold. Many are looked into at a time, so that a slow one stops few; their order stays."""
    looks = (partial(_look, source, number, entry) for number, entry in enumerate(shards))
    waiting: deque[tuple[storage.Entry, Format, Any]] = deque()
    for entry, index in zip(shards, in_order(looks, _SHARDS_AT_ONCE), strict=True):
        waiting.append((entry, source.reader(entry), _begun(source, entry) if index is None else index))
        while waiting and (len(waiting) >= _SHARDS_AT_ONCE or not isinstance(waiting[0][-1], ray.ObjectRef)):
            yield from _taken(listing, *waiting.popleft())
    while waiting:
        yield from _taken(listing, *waiting.popleft())


def _look(source: Source, number: int, entry: storage.Entry) -> list[pa.Table] | NoInputError | None:
    """Give the index of a shard: the one that is kept, or else one made here; None where it is for the cluster."""
    reader = source.reader(entry)
    kept = kept_index(entry, reader, source.index)
    return _made(entry, reader, source.index) if kept is None and _is_for_here(reader, number, entry.size) else kept


def _is_for_here(reader: Format, number: int, size: int) -> bool:
    return number < _SHARDS_HERE and not (reader.is_list and size > _LIST_BYTES)


def _begun(source: Source, entry: storage.Entry) -> Any:
    """Have a shard opened somewhere on the cluster; gives a reference to its index."""
    connect()
    return _make_index.remote(entry, source.reader(entry), source.index, storage.retry_seconds())


def _taken(listing: Listing, entry: storage.Entry, reader: Format, index: Any) -> Iterator[Ids]:
    """Give the ids of an index, or of the one referred to, when it is there."""
    tables = get(index) if isinstance(index, ray.ObjectRef) else index
    if isinstance(tables, NoInputError):
        listing.ignored.add_no_input(tables)
        return
    listing.add_sizes(tables, 0 if reader.is_list else entry.size)  # a list's own size says nothing of the images
    yield from (Ids(table, reader.whole_lists) for table in tables)


@ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
def _make_index(
    entry: storage.Entry, reader: Format, kept_at: str, retry_seconds: float
) -> list[pa.Table] | NoInputError:
    with storage.retrying(retry_seconds):
        return _made(entry, reader, kept_at)


def _made(entry: storage.Entry, reader: Format, kept_at: str) -> list[pa.Table] | NoInputError:
    try:
        return list(make_index(entry, reader, kept_at))
    except NoInputError as error:
        return error
