"""Labelled pictures in the cluster's memory: rows for the SegmentStage, and the truth by key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from pipeline.batch.parcels import as_parcel
from pipeline.data import labelled, rows
from pipeline.data.formats.format import Pair
from pipeline.errors import ConfigError
from pipeline.labels import Labels
from pipeline.runtime.labelled import LabelledDataset, load

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Pictures and their index masks by key. It is small, and can be sent to workers: the bytes are in `dataset`."""

    dataset: LabelledDataset
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def index(self) -> dict[str, int]:
        """Map each key to its index in `dataset`."""
        return {key: index for index, key in enumerate(self.keys)}


class LabelledDatasource(Datasource):
    """The pictures as parcels of schema FETCHED, as if the main job had fetched them."""

    def __init__(self, labelled: Labelled, parcel: int) -> None:
        """Read `labelled` in parcels of so many pictures."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._labelled, self._parcel = labelled, parcel

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: it is unknown before anything is read."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Make one task a parcel, whatever parallelism is asked for."""
        starts = range(0, len(self._labelled), self._parcel)
        parts = [range(len(self._labelled))[start : start + self._parcel] for start in starts]
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_fetched, self._labelled, part), unknown) for part in parts]


def _fetched(labelled: Labelled, part: range) -> Iterator[pa.Table]:
    pictures = []
    for index in part:
        block, row = labelled.dataset.positions[index]
        image = ray.get(labelled.dataset.blocks[block])["image"][row].as_py()
        key = labelled.keys[index]
        pictures.append({"key": key, "source": key, "version": "", "digest": "", "image": image})
    yield as_parcel(rows.table(pictures, rows.FETCHED))


def fetch_labelled(pairs: Sequence[Pair], labels: Labels, split: str) -> Labelled:
    """Fetch and check pairs, on the cluster this process is connected to.

    Args:
        pairs: in the order of their keys.
        labels: what the masks hold.
        split: the name of what the pairs are, for messages.

    Raises:
        ConfigError: pairs that cannot be used, by name, or labels that make no sense.
        StorageError: the storage does not answer.
    """
    return Labelled(dataset=load(pairs, labels, split), keys=tuple(pair.key for pair in pairs))


def labels_for(layout: labelled.Layout, given: Sequence[str] | None, predicted: Sequence[str]) -> Labels:
    """Say what the masks of the data hold, where `predicted` are the classes of what is to be scored.

    Args:
        layout: of the data.
        given: the classes a person has named, or None for the layout's own, and for `predicted` where it has none.
        predicted: class names by class id.

    Raises:
        ConfigError: the data's classes are not those of what is to be scored.
    """
    named = tuple(given) if given is not None else None
    labels = labelled.labels(layout, named if named or labelled.has_classes(layout) else tuple(predicted))
    if labels.classes != tuple(predicted):
        raise ConfigError(
            f"the data's classes are {', '.join(labels.classes)}; those of what is to be scored are "
            f"{', '.join(predicted)}: they must agree. Where only the names differ, give these as --classes"
        )
    return labels
