"""What is done already: the committed output itself, read back.

A row of masks/ or errors/ is committed with its file or not at all, so there is nothing else to keep in step with it.
Of a key's rows the newest counts: an image that was changed and then changed back is done again.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import masks

_DIGEST_BYTES = 16
_DIGEST = np.dtype(f"S{_DIGEST_BYTES}")
_ROW = np.dtype([("key", _DIGEST), ("row", _DIGEST)])
_READERS = 16

Digests = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The rows of one file, each as digests of its key and of key and version; `failed` in errors/, else in masks/."""

    digests: Digests
    failed: bool


class Ledger:
    """The newest row of each key, as a digest of its key and version: 16 bytes each in memory."""

    def __init__(self, newest_first: Iterable[Committed] = ()) -> None:
        """Keep of each key the first row met."""
        files = list(newest_first)
        digests = np.concatenate([np.empty(0, _ROW), *(file.digests for file in files)])
        failed = np.repeat([file.failed for file in files], [len(file.digests) for file in files]).astype(bool)
        first = np.unique(digests["key"], return_index=True)[1]
        newest = digests["row"][first]
        self._done = np.sort(newest)
        self._failed = np.sort(newest[failed[first]])

    def __len__(self) -> int:
        return len(self._done)

    def pending(self, table: pa.Table) -> pa.Table:
        """The rows of `table` (with columns key and version) that have no row in the output yet."""
        return table.filter(pa.array(~_among(self._done, _identities(table))))

    def failed(self, table: pa.Table) -> pa.Table:
        """The rows of `table` whose row in the output is an error; not those that fail by their listing, again."""
        known = _among(self._failed, _identities(table))
        return table.filter(pa.array(known & table.column("error").is_null().to_numpy()))


def load(output: str, generation: str) -> Ledger:
    """Read the keys and versions that `generation` has committed below `output`."""
    with ThreadPoolExecutor(_READERS) as pool:
        files = [file for file in masks.committed_files(output) if file.info.generation == generation]
        return Ledger(pool.map(_read, files))


def identity(key: str, version: str) -> bytes:
    """A digest of one input as it was listed. 128 bits: at 10^9 images two collide with a chance of about 10^-21."""
    return hashlib.blake2b(f"{version}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest()


def _read(committed: masks.CommittedFile) -> Committed:
    rows = masks.read_columns(committed.uri, ["key", "version"])
    digests = np.fromiter(((identity(key, ""), identity(key, version)) for key, version in rows), _ROW)
    return Committed(digests=digests, failed=committed.failed)


def _identities(rows: pa.Table) -> Digests:
    keys, versions = rows.column("key").to_pylist(), rows.column("version").to_pylist()
    return np.array([identity(key, version) for key, version in zip(keys, versions, strict=True)], _DIGEST)


def _among(known: Digests, asked: Digests) -> NDArray[np.bool_]:
    """Which of `asked` are in `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(asked), bool)
    found: NDArray[np.bool_] = known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked
    return found
