"""From the input's listing to the manifest: ids only, streamed, what is done already left out."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import ray

from pipeline import storage
from pipeline.batch.ledger import Ledger
from pipeline.batch.manifest import Manifest
from pipeline.batch.remote import get
from pipeline.batch.source import Format, Source, index_shard, list_objects

_PAGE = 1000
_SHARDS_AT_ONCE = 32


@dataclass(kw_only=True)
class Listing:
    """What was listed: images, how many of them are done already, and the bytes of the listed objects."""

    listed: int = 0
    skipped: int = 0
    bytes: int = 0


def list_input(source: Source, ledger: Ledger, manifest: Manifest, limit: int | None) -> Listing:
    """Write the images of `source`, the first `limit` of them, that `ledger` does not hold into `manifest`."""
    listing = Listing()

    def pending() -> Iterator[pa.Table]:
        for table in _tables(source, listing):
            wanted = table if limit is None else table.slice(0, limit - listing.listed)
            new = ledger.pending(wanted)
            listing.listed += wanted.num_rows
            listing.skipped += wanted.num_rows - new.num_rows
            yield new
            if limit is not None and listing.listed >= limit:
                return

    manifest.write(pending(), whole=source.format == "parquet")
    return listing


def _tables(source: Source, listing: Listing) -> Iterator[pa.Table]:
    entries = source.entries()
    while page := list(islice(entries, _PAGE if source.format == "images" else _SHARDS_AT_ONCE)):
        listing.bytes += sum(entry.size for entry in page)
        if source.format == "images":
            yield list_objects(page)
        else:  # shards are opened on the cluster
            for tables in [_index_shard.remote(entry, source.format) for entry in page]:
                yield from get(tables)


@ray.remote(num_cpus=0, scheduling_strategy="SPREAD")
def _index_shard(entry: storage.Entry, kind: Format) -> list[pa.Table]:
    return list(index_shard(entry, kind))
