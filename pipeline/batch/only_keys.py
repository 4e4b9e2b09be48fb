"""A file of keys: the slice of an input that a run is to do, whether it is done already or not."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import storage
from pipeline.data.digests import DIGEST, Digests, among, identity
from pipeline.data.ignored import Ignored
from pipeline.data.key_files import keys_in


@dataclass(frozen=True)
class OnlyKeys:
    """The keys of a file, each once, and the file's digest in hex.

    Rows that a run has written for the same file count as done, so that a run which was stopped is continued; another
    file, be it by an empty line, begins anew.
    """

    keys: pa.Array
    digest: str

    @cached_property
    def _sorted(self) -> Digests:
        return np.sort(np.array([identity(key) for key in self.keys.to_pylist()], DIGEST))

    @cached_property
    def _seen(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.keys), bool)

    def of(self, ids: pa.Table) -> pa.Table:
        """Choose the rows whose keys are in the file."""
        digests = np.array([identity(key) for key in ids.column("key").to_pylist()], DIGEST)
        chosen = among(self._sorted, digests)
        self._seen[np.searchsorted(self._sorted, digests[chosen])] = True
        return ids.filter(pa.array(chosen))

    def count_unlisted(self, ignored: Ignored) -> None:
        """Count the keys of the file that no row had."""
        if self._seen.all():
            return
        unlisted = self._sorted[~self._seen]
        for key in self.keys.to_pylist():
            if among(unlisted, np.array([identity(key)], DIGEST))[0]:
                ignored.add_unlisted(key)


def read_keys(uri: str) -> OnlyKeys:
    """Read the column `key` of a table, or its only one; of a text file each line.

    Raises:
        ConfigError: the file is none, or has no such column or no key.
        StorageError: it is not there or cannot be read.
    """
    data = storage.read_bytes(uri)
    keys = keys_in(data, uri, "only_keys")
    return OnlyKeys(pa.array(keys, pa.string()), hashlib.sha256(data).hexdigest()[:16])
