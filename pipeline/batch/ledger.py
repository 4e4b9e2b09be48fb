"""What is done already: the committed output itself, read back.

A row of masks/ or errors/ is committed with its file or not at all, so there is nothing else to keep in step with it.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import masks, storage

_DIGEST_BYTES = 16
_DIGEST = np.dtype(f"S{_DIGEST_BYTES}")
_ROWS_AT_ONCE = 1024

Identities = NDArray[np.bytes_]


class Ledger:
    """The (key, version) pairs that already have a row; 16 bytes each in memory."""

    def __init__(self, parts: Iterable[Identities] = ()) -> None:
        """Keep the digests in `parts`, as `identity` makes them."""
        self._sorted = np.unique(np.concatenate([np.empty(0, _DIGEST), *parts]))

    def __len__(self) -> int:
        return len(self._sorted)

    def pending(self, table: pa.Table) -> pa.Table:
        """The rows of `table` (with columns key and version) that have no row in the output yet."""
        if not len(self):
            return table
        asked = _identities(table)
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
        return Ledger(pool.map(lambda uri: _read(uri, generation), files))


def identity(key: str, version: str) -> bytes:
    """A digest of one input as it was listed. 128 bits: at 10^9 images two collide with a chance of about 10^-21."""
    return hashlib.blake2b(f"{version}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest()


def _read(uri: str, generation: str) -> Identities:
    filesystem, path = storage.arrow_filesystem(uri)
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        if masks.DatasetInfo.from_metadata(file.schema_arrow.metadata).generation != generation:
            return np.empty(0, _DIGEST)
        batches = file.iter_batches(_ROWS_AT_ONCE, columns=["key", "version"])
        return np.concatenate([np.empty(0, _DIGEST), *map(_identities, batches)])


def _identities(rows: pa.Table | pa.RecordBatch) -> Identities:
    keys, versions = rows.column("key").to_pylist(), rows.column("version").to_pylist()
    return np.array([identity(key, version) for key, version in zip(keys, versions, strict=True)], _DIGEST)
