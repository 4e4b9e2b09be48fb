"""What is done already: the committed output itself, read back.

A row of masks/ or errors/ is committed with its file or not at all, so there is nothing else to keep in step with it.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import masks, storage

_DIGEST_BYTES = 16


class Ledger:
    """The (key, version) pairs that already have a row; 16 bytes each in memory."""

    def __init__(self, pairs: Iterable[bytes] = ()) -> None:
        """Keep the digests in `pairs`, as `identity` makes them."""
        self._sorted = np.unique(np.array(list(pairs), dtype=f"S{_DIGEST_BYTES}"))

    def __len__(self) -> int:
        return len(self._sorted)

    def pending(self, table: pa.Table) -> pa.Table:
        """The rows of `table` (with columns key and version) that have no row in the output yet."""
        if not len(self):
            return table
        asked = np.array(_identities(table), dtype=self._sorted.dtype)
        place = np.minimum(np.searchsorted(self._sorted, asked), len(self) - 1)
        return table.filter(pa.array(self._sorted[place] != asked))


def load(output: str, generation: str) -> Ledger:
    """Read the keys and versions that `generation` has committed below `output`."""
    files = [
        entry.uri
        for folder in (masks.MASKS_FOLDER, masks.ERRORS_FOLDER)
        if storage.exists(storage.join(output, folder))
        for entry in storage.list_files(storage.join(output, folder, "*.parquet"))
    ]
    with ThreadPoolExecutor(16) as pool:
        return Ledger(pair for pairs in pool.map(lambda uri: _read(uri, generation), files) for pair in pairs)


def identity(key: str, version: str) -> bytes:
    """A digest of one input as it was listed. 128 bits: at 10^9 images two collide with a chance of about 10^-21."""
    return hashlib.blake2b(f"{version}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest()


def _read(uri: str, generation: str) -> list[bytes]:
    filesystem, path = storage.arrow_filesystem(uri)
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        if masks.DatasetInfo.from_metadata(file.schema_arrow.metadata).generation != generation:
            return []
        return _identities(file.read(columns=["key", "version"]))


def _identities(table: pa.Table) -> list[bytes]:
    keys, versions = table.column("key").to_pylist(), table.column("version").to_pylist()
    return [identity(key, version) for key, version in zip(keys, versions, strict=True)]
