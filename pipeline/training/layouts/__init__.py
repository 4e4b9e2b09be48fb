"""How labelled data sets lie in storage, a file for each layout."""

from collections.abc import Callable, Iterator
from typing import Literal

from pipeline import storage
from pipeline.errors import ConfigError, StorageError
from pipeline.training.layouts import camvid, parquet, voc, webdataset
from pipeline.training.pairs import Labels, Pair

Layout = Literal["voc", "camvid", "parquet", "webdataset"]

_LISTERS: dict[str, Callable[[str, str], Iterator[Pair]]] = {
    "voc": voc.pairs,
    "camvid": camvid.pairs,
    "parquet": parquet.pairs,
    "webdataset": webdataset.pairs,
}
_LABELS = {"voc": voc.LABELS, "camvid": camvid.LABELS}


def list_pairs(root: str, layout: Layout, split: str) -> list[Pair]:
    """The pairs of one split, in the order of their keys.

    Raises:
        StorageError: the data cannot be read, or there is no picture in that split.
    """
    found = sorted(_LISTERS[layout](root, split), key=lambda pair: pair.key)
    if not found:
        raise StorageError(f"no pictures of the split {split!r} at {storage.redact(root)} in the layout {layout}")
    return found


def has_classes(layout: Layout) -> bool:
    """Whether the layout is named after a data set, and so says what the classes are."""
    return layout in _LABELS


def labels(layout: Layout, classes: tuple[str, ...] | None) -> Labels:
    """What the masks hold: the given classes, or those of the data set that the layout is named after.

    Raises:
        ConfigError: the layout is no data set's own, and no classes are given.
    """
    if classes is not None:
        return Labels(classes=classes)
    if layout not in _LABELS:
        raise ConfigError(f"the layout {layout} says nothing of classes; give --classes, their names by class id")
    return _LABELS[layout]
