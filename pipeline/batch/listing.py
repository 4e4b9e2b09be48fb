"""From the input's listing to the manifest: ids only, streamed, what is done already left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline import storage
from pipeline.data import rows
from pipeline.data.digests import DigestSet
from pipeline.data.ignored import Ignored
from pipeline.data.index import index_objects, index_shard
from pipeline.data.source import Source
from pipeline.errors import ShardError
from pipeline.runtime.errors import get

Tables = Iterator[pa.Table]

_PAGE = 1000
_SHARDS_AT_ONCE = 32


@dataclass(kw_only=True)
class Listing:
    """What was listed: images, how many of them are done already, the bytes of the listed objects, what is no input."""

    listed: int = 0
    skipped: int = 0
    bytes: int = 0
    ignored: Ignored = field(default_factory=Ignored)


class Repeats:
    """Lets the first image of each key pass; a later one becomes a failed row, named after its place in its shard."""

    def __init__(self) -> None:
        """Start with no key."""
        self._seen = DigestSet()

    def marked(self, table: pa.Table) -> pa.Table:
        """Give `table` of schema MANIFEST keys that no other table given here has; a repeat becomes a failed row."""
        repeated = np.flatnonzero(~self._seen.add(table.column("key").to_pylist()))
        if not len(repeated):
            return table
        changed = table.to_pylist()
        for n in repeated:
            changed[n] |= self._renamed(changed[n])
        return rows.table(changed, rows.MANIFEST)

    def _renamed(self, row: dict[str, Any]) -> dict[str, str]:
        name = f"{row['path']}#{row['row'] if row['offset'] is None else row['offset']}"
        while not self._seen.add([name])[0]:
            name += "'"
        message = f"the key {row['key']!r} is that of an earlier image of this input, which has it; rename one of them"
        return {"key": name} | rows.failure("list", ShardError(message))


def list_input(source: Source, to_do: Callable[[pa.Table], pa.Table], limit: int | None) -> tuple[Listing, Tables]:
    """List the images of `source`, the first `limit` of them, of which `to_do` chooses those to do.

    Returns:
        a count, complete once the tables of schema MANIFEST that come with it have been consumed.
    """
    listing = Listing()

    def chosen() -> Iterator[pa.Table]:
        for table in _tables(source, listing):
            listed = table if limit is None else table.slice(0, limit - listing.listed)
            new = to_do(listed)
            listing.listed += listed.num_rows
            listing.skipped += listed.num_rows - new.num_rows
            yield new
            if limit is not None and listing.listed >= limit:
                return

    return listing, chosen()


def _tables(source: Source, listing: Listing) -> Iterator[pa.Table]:
    entries = source.entries(listing.ignored)
    if not source.format.is_shard:
        while page := list(islice(entries, _PAGE)):
            listing.bytes += sum(entry.size for entry in page)
            yield index_objects(page, source.format)
        return
    repeats = Repeats()
    entries = iter(sorted(entries, key=attrgetter("key")))  # which image of a key is the first must not change
    while page := list(islice(entries, _SHARDS_AT_ONCE)):
        listing.bytes += sum(entry.size for entry in page)
        # shards are opened on the cluster
        for tables in [_index_shard.remote(entry, source, storage.retry_seconds()) for entry in page]:
            yield from map(repeats.marked, get(tables))


@ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
def _index_shard(entry: storage.Entry, source: Source, retry_seconds: float) -> list[pa.Table]:
    with storage.retrying(retry_seconds):
        return list(index_shard(entry, source.format, source.index))
