"""Parcels: tables of images that travel through Ray Data whole, each as one row of it and as a block of its own.

Ray Data cuts what a task gives into blocks by bytes. When a machine is lost it repeats the task, and takes its new
blocks for the old ones by their number. But bytes may differ: an image fails this time, or a GPU refines what it left
to the CPUs before. Other rows would then stand in a block, some lost and some there twice. Which images are in a parcel
follows from their order alone.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

BLOCK_BYTES = 1
"""What Ray Data is to make a block of: any row is larger, and no row is cut."""

_PARCEL = pa.schema([pa.field("parcel", pa.large_binary())])

_SLACK = 3
"""A parcel may exceed its size by this part of it, a third: a small rest would cost as many calls as a whole one."""


def ends(count: int, size: int) -> list[int]:
    """Give where each part ends of `count` rows that are cut as evenly as can be into parts of about `size`."""
    parts = max(-(-(_SLACK * count - size) // (_SLACK * size)), min(count, 1))
    return [count * part // parts for part in range(1, parts + 1)]


def packed(tables: Iterable[pa.Table], cuts: Sequence[int]) -> Iterator[pa.Table]:
    """Make parcels of what some tables hold together, each as soon as its rows are there, which end at `cuts`."""
    held, start = pa.table({}), 0
    left = deque(cuts)
    for table in tables:
        held = pa.concat_tables([held, table]) if held.num_rows else table
        while left and held.num_rows >= left[0] - start:
            end = left.popleft()
            yield as_parcel(held.slice(0, end - start))
            held, start = held.slice(end - start), end


def as_parcel(table: pa.Table) -> pa.Table:
    """Make one parcel of a table."""
    counted = pa.MockOutputStream()
    _write(table, counted)
    buffer = pa.allocate_buffer(counted.size())  # at once: one that grows is copied, and takes twice the memory
    _write(table, pa.FixedSizeBufferWriter(buffer))
    offsets = pa.array([0, buffer.size], pa.int64()).buffers()[1]
    return pa.table([pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])], schema=_PARCEL)


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def unpacked(parcels: pa.Table) -> pa.Table:
    """Put what is in some parcels into one table, in their order, without a copy."""
    return pa.concat_tables([pa.ipc.open_stream(parcel.as_buffer()).read_all() for parcel in parcels.column("parcel")])


def parcelled(stage: type, size: int) -> type:
    """Make a class of the same name that is made as the stage is, takes parcels and gives some of about `size` rows.

    The stage gives a row for each that it takes, in their order, in any number of tables.
    """

    class Parcelled:
        def __init__(self, *arguments: Any) -> None:
            self._stage: Callable[[pa.Table], Iterable[pa.Table]] = stage(*arguments)

        def __call__(self, parcels: pa.Table) -> Iterator[pa.Table]:
            table = unpacked(parcels)
            yield from packed(self._stage(table), ends(table.num_rows, size))

    Parcelled.__name__ = Parcelled.__qualname__ = stage.__name__
    return Parcelled
