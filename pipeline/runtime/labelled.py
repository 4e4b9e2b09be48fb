"""Labelled pictures in the cluster's memory: fetched once, checked, and decoded wherever they are needed."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from pipeline import storage
from pipeline.data.formats.format import Pair
from pipeline.data.labelled.pairs import Pixels, decode, fetch
from pipeline.data.labelled.sense import DrawnOn, check_classes, check_drawn_on
from pipeline.errors import ConfigError
from pipeline.labels import Labels
from pipeline.runtime.progress import say
from pipeline.runtime.tasks import tables, task_results

_PAIRS_A_TASK = 32
_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class LabelledDataset:
    """All pairs of a split, encoded, in the cluster's object store, which spills to disk what does not fit.

    Attributes:
        blocks: references to tables of PAIR_SCHEMA.
        positions: (block, row) of each pair, in the order of their keys.
        pixels: of each class, in all masks.
        labels: what the masks hold.
    """

    blocks: tuple[Any, ...]
    positions: tuple[tuple[int, int], ...]
    pixels: tuple[int, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.positions)

    def pair(self, index: int) -> tuple[Pixels, Pixels]:
        """Decode one pair: picture (H, W, 3) and mask (H, W), uint8."""
        block, row = self.positions[index]
        table = ray.get(self.blocks[block])
        return decode(table["image"][row].as_py(), table["mask"][row].as_py(), self.labels)


def load(pairs: Sequence[Pair], labels: Labels, split: str) -> LabelledDataset:
    """Fetch and check every pair of a split, and say what is odd about all of them together.

    Raises:
        ConfigError: pairs that cannot be used, by name, and what is wrong with each; or labels that make no sense.
        StorageError: the storage stopped answering.
    """
    chunks = [pairs[i : i + _PAIRS_A_TASK] for i in range(0, len(pairs), _PAIRS_A_TASK)]
    calls = [partial(_fetch, chunk, labels, storage.retry_seconds()) for chunk in chunks]
    cpus = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
    blocks = tuple(tables(calls, at_once=max(cpus, 2)))
    notes = sorted(itertools.chain.from_iterable(task_results(_notes.remote(*item) for item in enumerate(blocks))))
    problems = [f"{note.key}: {note.problem}" for note in notes if note.problem]
    if problems:
        shown = "\n  ".join(problems[:_PROBLEMS_SHOWN])
        raise ConfigError(f"{len(problems)} of {len(pairs)} labelled pictures cannot be used:\n  {shown}")
    pixels = tuple(map(sum, zip(*(note.pixels for note in notes), strict=True)))
    turned = [(note.key, note.drawn_on) for note in notes if note.drawn_on]
    pictures = f"the split {split!r}"
    for line in check_drawn_on(turned, pictures) + check_classes(pixels, labels, pictures):
        say(line)
    positions = tuple((note.block, note.row) for note in notes)
    return LabelledDataset(blocks=blocks, positions=positions, pixels=pixels, labels=labels)


def _fetch(pairs: Sequence[Pair], labels: Labels, retry_seconds: float) -> pa.Table:
    with storage.retrying(retry_seconds):
        return fetch(pairs, labels)


class _Note(NamedTuple):
    """All of a pair but its bytes."""

    key: str
    block: int
    row: int
    pixels: list[int]
    drawn_on: DrawnOn | None
    problem: str | None


@ray.remote(num_cpus=0)
def _notes(block: int, table: pa.Table) -> list[_Note]:
    columns = (table[name].to_pylist() for name in ("key", "pixels", "drawn_on", "problem"))
    return [
        _Note(key, block, row, pixels or [], drawn_on, problem)
        for row, (key, pixels, drawn_on, problem) in enumerate(zip(*columns, strict=True))
    ]
