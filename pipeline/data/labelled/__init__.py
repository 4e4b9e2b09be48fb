"""How labelled data sets lie in storage: a file for each layout, and one for all shards of an input format."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

from pipeline import storage
from pipeline.data.formats import BY_RULE, FORMATS, ColumnNames, with_columns
from pipeline.data.formats.format import Format, LabelledFormat, Pair
from pipeline.data.ignored import Ignored
from pipeline.data.labelled import camvid, shards, voc
from pipeline.errors import ConfigError, StorageError
from pipeline.labels import IGNORE, Labels

_FOLDERS: dict[str, Callable[[str, str, Ignored], Iterator[Pair]]] = {"voc": voc.pairs, "camvid": camvid.pairs}
_LABELS = {"voc": voc.LABELS, "camvid": camvid.LABELS}

if TYPE_CHECKING:
    Layout = str
else:
    Layout = Literal[(*_FOLDERS, *(name for name, reader in FORMATS.items() if isinstance(reader, LabelledFormat)))]


def list_pairs(
    root: str,
    layout: Layout,
    split: str,
    columns: ColumnNames = BY_RULE,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Pair]:
    """List the pairs of a split, in the order of their keys; pairs of one key have a problem each.

    Args:
        root: folder or prefix of the data.
        layout: how it lies there: a data set's own, or the name of an input format.
        split: which pictures; those of two or more are named as in train+val.
        columns: of tables, that are chosen already.
        tell: is given a line on how the first shard is read, and lines on what is left out.

    Raises:
        StorageError: the data cannot be read, or there is no picture in a split.
        ShardError: a shard is damaged.
        ConfigError: a shard has no masks, or several columns that could be either.
    """
    [reader] = with_columns([FORMATS["images" if layout in _FOLDERS else layout]], columns)
    listed = (_pairs_of_one(root, layout, one, reader, tell) for one in split.split("+"))
    pairs = sorted(chain.from_iterable(listed), key=lambda pair: pair.key)
    counts = Counter(pair.key for pair in pairs)
    return [
        pair if counts[pair.key] == 1 else replace(pair, problem=f"{counts[pair.key]} samples have this name")
        for pair in pairs
    ]


def _pairs_of_one(root: str, layout: Layout, split: str, reader: Format, tell: Callable[[str], None]) -> list[Pair]:
    ignored = Ignored()
    if layout in _FOLDERS:
        pairs = list(_FOLDERS[layout](root, split, ignored))
    else:
        pairs = list(shards.pairs(reader, root, split, ignored, tell))
    for line in ignored.lines():
        tell(line)
    if not pairs:
        passed = "; ".join(["", *ignored.lines()])
        raise StorageError(
            f"no pictures of the split {split!r} at {storage.redact(root)} in the layout {layout}{passed}"
        )
    return pairs


def has_classes(layout: Layout) -> bool:
    """Tell whether the layout is named after a data set, and so says what the classes are."""
    return layout in _LABELS


def labels(layout: Layout, classes: tuple[str, ...] | None) -> Labels:
    """Say what the masks hold: the given classes, or those of the data set that the layout is named after.

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
