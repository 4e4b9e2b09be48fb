"""What is done already: the committed output itself, read back.

A row of masks/ or errors/ is committed with its file or not at all, so there is nothing else to keep in step with it.
Of a key's rows the newest counts: an image that was changed and then changed back is done again.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline import masks, storage
from pipeline.data.digests import DIGEST, Digests, among, identities, identity
from pipeline.errors import ConfigError

_ROW = np.dtype([("key", DIGEST), ("row", DIGEST)])
_READERS = 4  # each holds a buffer


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
        failed = np.repeat([file.failed for file in files], [len(file.digests) for file in files]).astype(bool)
        digests = np.concatenate([np.empty(0, _ROW), *(file.digests for file in files)])
        del files  # as large as what follows
        first = np.unique(digests["key"], return_index=True)[1]
        self._done, self._failed = digests["row"][first], digests["row"][first[failed[first]]]
        del digests
        self._done.sort()
        self._failed.sort()

    def __len__(self) -> int:
        return len(self._done)

    def pending(self, table: pa.Table) -> pa.Table:
        """Choose the rows of `table` (with columns key and version) that have no row in the output yet."""
        return table.filter(pa.array(~among(self._done, identities(table))))

    def failed(self, table: pa.Table) -> pa.Table:
        """Choose the rows of `table` whose row in the output is an error, but not what fails by its listing again."""
        failed = among(self._failed, identities(table))
        return table.filter(pa.array(failed & table.column("error").is_null().to_numpy()))


def load(output: str, info: masks.DatasetInfo) -> Ledger:
    """Read the keys and versions that the generation of `info` has committed below `output`.

    Of a run that does images again, those alone that were done again for the same file of keys.

    Raises:
        ConfigError: they are of another input or column, whose images of the same name these would replace.
        StorageError: a file cannot be read.
    """
    files = [file for file in masks.committed_files(output) if file.info.generation == info.generation]
    for file in files:
        _check_same_input(storage.redact(output), file.info, info)
    if info.again:
        files = [file for file in files if file.info.again == info.again]
    with ThreadPoolExecutor(_READERS) as pool:
        return Ledger(pool.map(_read, files))


def _check_same_input(output: str, earlier: masks.DatasetInfo, now: masks.DatasetInfo) -> None:
    """Raise ConfigError where images of one key are not the same images."""
    if earlier.input != now.input:
        raise ConfigError(
            f"{output} holds the masks of {earlier.input or 'a list'}, and the input is {now.input or 'a list'}: of "
            "images with the same name one would replace the other; give each input an output, or a prefix they share "
            "as the input"
        )
    if earlier.image_column != now.image_column:
        before, after = (f"--image-column {i.image_column}" if i.image_column else "no flag" for i in (earlier, now))
        raise ConfigError(
            f"{output} holds masks made with {before}, and this run has {after}: the image of a key would be another; "
            "give each column an output, or the same flag again"
        )


def _read(committed: masks.CommittedFile) -> Committed:
    rows = masks.read_columns(committed.uri, ["key", "source", "version"], lacking=("source",))
    keys = ((committed.info.image_key(key, source), version) for key, source, version in rows)
    digests = np.fromiter(((identity(key), identity(key, version)) for key, version in keys), _ROW)
    return Committed(digests=digests, failed=committed.failed)
