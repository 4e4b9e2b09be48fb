"""How labelled data sets lie in storage, a file for each layout."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from pipeline import storage
from pipeline.data.labelled import camvid, parquet, voc, webdataset
from pipeline.data.labelled.pairs import Pair
from pipeline.errors import ConfigError, StorageError
from pipeline.labels import IGNORE, Labels

Layout = Literal["voc", "camvid", "parquet", "webdataset"]

_LISTERS: dict[str, Callable[[str, str], Iterator[Pair]]] = {
    "voc": voc.pairs,
    "camvid": camvid.pairs,
    "parquet": parquet.pairs,
    "webdataset": webdataset.pairs,
}
_LABELS = {"voc": voc.LABELS, "camvid": camvid.LABELS}


def list_pairs(root: str, layout: Layout, split: str) -> list[Pair]:
    """The pairs of one split, in the order of their keys; pairs of one key have a problem each.

    Raises:
        StorageError: the data cannot be read, or there is no picture in that split.
        ShardError: a tar or Parquet file is damaged.
        ConfigError: a Parquet file has no pictures or no masks.
    """
    found = sorted(_LISTERS[layout](root, split), key=lambda pair: pair.key)
    if not found:
        raise StorageError(f"no pictures of the split {split!r} at {storage.redact(root)} in the layout {layout}")
    named = Counter(pair.key for pair in found)
    return [
        pair if named[pair.key] == 1 else replace(pair, problem=f"{named[pair.key]} samples have this name")
        for pair in found
    ]


def has_classes(layout: Layout) -> bool:
    """Whether the layout is named after a data set, and so says what the classes are."""
    return layout in _LABELS


def labels(layout: Layout, classes: tuple[str, ...] | None) -> Labels:
    """What the masks hold: the given classes, or those of the data set that the layout is named after.

    Given classes keep that data set's void, unless it is one of their ids, and its palette, if it has as many colours.

    Raises:
        ConfigError: the layout is no data set's own, and no classes are given.
    """
    own = _LABELS.get(layout)
    if classes is None:
        if own is None:
            raise ConfigError(f"the layout {layout} says nothing of classes; give --classes, their names by class id")
        return own
    if own is None:
        return Labels(classes=classes)
    return Labels(
        classes=classes,
        palette=own.palette if len(classes) == len(own.classes) else None,
        void=own.void if own.void >= len(classes) else IGNORE,
    )
