"""A file of keys: the slice of an input that a run is to do, whether it is done already or not."""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import storage
from pipeline.data import tables
from pipeline.data.digests import DIGEST, Digests, among, identity
from pipeline.data.formats.columns import only
from pipeline.data.formats.key_values import KEYS, holds_keys, texts
from pipeline.data.formats.shard import damage_as_shard_error
from pipeline.data.ignored import Ignored
from pipeline.errors import ConfigError, ShardError

_COLUMN = "key"


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
    shown, name, data = storage.redact(uri), storage.base_name(uri), storage.read_bytes(uri)
    try:
        with damage_as_shard_error(uri, "file of keys"):
            schema = tables.table_schema(name, io.BytesIO(data))
            column = _column(schema, shown)
            batches = tables.table_batches(name, io.BytesIO(data), [column])
            keys = dict.fromkeys(key for batch in batches for key in texts(batch.column(column)) if key)
    except ShardError as error:
        raise ConfigError(f"only_keys: {error}") from error
    if not keys:
        raise ConfigError(f"only_keys: {shown} names no key")
    return OnlyKeys(pa.array(list(keys), pa.string()), hashlib.sha256(data).hexdigest()[:16])


def _column(schema: pa.Schema, file: str) -> str:
    if _COLUMN not in schema.names and len(schema) != 1:
        raise ConfigError(
            f"only_keys: {file} has no column {_COLUMN}; its columns are {', '.join(schema.names)}; rename that of keys"
        )
    field = only(schema, file, _COLUMN if _COLUMN in schema.names else schema.names[0])
    if not holds_keys(field.type):
        raise ConfigError(f"only_keys: column {field.name} of {file} holds {field.type}, and keys are {KEYS}")
    return str(field.name)
