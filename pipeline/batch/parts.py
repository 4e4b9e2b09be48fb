"""A listing in parts: consecutive ids that are compared with the ledger together, and that one note answers for.

A part ends behind an id whose digest says so, and not after so many ids: where an image has come or gone, the parts
before and behind it are the same as they were.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.batch.manifest import Ids
from pipeline.data.digests import Digests, identities

_LEAST_IDS, _MOST_IDS = 2**10, 2**17
"""Ids of a part in the mean: few at first, so that work begins soon. At 10^9 images there are ten thousand parts."""

_LONGEST = 4
"""A part that has so many times the ids of a mean one ends with the page."""


@dataclass(frozen=True, kw_only=True)
class PartId:
    """What a part is known by once its ids are gone.

    Attributes:
        digest: of all keys and versions in their order, in hex.
        keys: the least and the greatest, as text is sorted.
        is_cut: whether the part ends by its last id, and not with the listing or for its length.
    """

    digest: str
    keys: tuple[str, str]
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """Consecutive ids in the order of the listing, and the digests (rows,) of their keys and versions."""

    ids: Sequence[Ids]
    digests: Digests
    is_cut: bool

    @property
    def rows(self) -> int:
        """Count the ids."""
        return len(self.digests)

    @cached_property
    def id(self) -> PartId:
        """Say what the part is known by."""
        found = [pc.min_max(ids.table.column("key")).as_py() for ids in self.ids]
        return PartId(
            digest=hashlib.blake2b(self.digests.tobytes(), digest_size=16).hexdigest(),
            keys=(min(one["min"] for one in found), max(one["max"] for one in found)),
            is_cut=self.is_cut,
        )

    def where(self, chosen: NDArray[np.bool_]) -> list[Ids]:
        """Give the ids that are `chosen` (rows,)."""
        ends = np.cumsum([ids.table.num_rows for ids in self.ids])[:-1]
        tables = zip(self.ids, np.split(chosen, ends), strict=True)
        return [Ids(ids.table.filter(pa.array(some)), ids.whole) for ids, some in tables if some.any()]


@dataclass
class _Growing:
    ids: list[Ids] = field(default_factory=list)
    digests: list[Digests] = field(default_factory=list)
    rows: int = 0

    def add(self, ids: Ids, digests: Digests) -> None:
        self.ids.append(ids)
        self.digests.append(digests)
        self.rows += len(digests)

    def part(self, is_cut: bool) -> Part:
        return Part(ids=tuple(self.ids), digests=np.concatenate(self.digests), is_cut=is_cut)


def cut(listed: Iterable[Ids]) -> Iterator[Part]:
    """Cut a listing into parts; none is empty, and ids that are whole stay in one."""
    growing, before = _Growing(), 0
    for ids in listed:
        size = _mean_size(before + growing.rows)
        for some, digests, ends in _pieces(ids, size):
            growing.add(some, digests)
            if ends or growing.rows >= _LONGEST * size:
                before += growing.rows
                yield growing.part(is_cut=ends)
                growing = _Growing()
    if growing.rows:
        yield growing.part(is_cut=False)


def _mean_size(listed: int) -> int:
    """Give the mean size, a power of two, of parts that come after so many ids: an eighth to a quarter of these."""
    return min(max(1 << (listed // 8).bit_length(), _LEAST_IDS), _MOST_IDS)


def _pieces(ids: Ids, size: int) -> Iterator[tuple[Ids, Digests, bool]]:
    """Split ids behind those that end a part, one of `size` in the mean; yields them, and whether they end one."""
    if not ids.table.num_rows:
        return
    digests = identities(ids.table)
    is_last = np.frombuffer(digests.tobytes(), "<u8")[::2] % size == 0  # of the two halves of each digest
    if ids.whole:
        yield ids, digests, bool(is_last.any())
        return
    start = 0
    for end in [*(np.flatnonzero(is_last) + 1).tolist(), len(digests)]:
        if end > start:
            yield Ids(ids.table.slice(start, end - start)), digests[start:end], bool(is_last[end - 1])
        start = end
