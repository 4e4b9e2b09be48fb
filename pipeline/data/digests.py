"""Keys as digests of 16 bytes: what is done, by the hundred million in memory."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_DIGEST_BYTES = 16
DIGEST = np.dtype(f"S{_DIGEST_BYTES}")

Digests = NDArray[Any]
"""Of dtype DIGEST."""


def identity(key: str, version: str = "") -> bytes:
    """Digest one input as it was listed. 128 bits: at 10^9 images two collide with a chance of about 10^-21."""
    return hashlib.blake2b(f"{version}\0{key}".encode(), digest_size=_DIGEST_BYTES).digest()


def identities(table: pa.Table) -> Digests:
    """Digest each row of a table with the columns key and version."""
    keys, versions = table.column("key").to_pylist(), table.column("version").to_pylist()
    return np.array([identity(key, version) for key, version in zip(keys, versions, strict=True)], DIGEST)


def among(members: Digests, digests: Digests) -> NDArray[np.bool_]:
    """Tell which of `digests` are among `members`, which is sorted."""
    if not len(members):
        return np.zeros(len(digests), bool)
    is_member: NDArray[np.bool_] = members[np.minimum(np.searchsorted(members, digests), len(members) - 1)] == digests
    return is_member
