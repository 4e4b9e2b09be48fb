"""Shards of one split, SPLIT-*.EXT in any folder or SPLIT/*.EXT, in any input format that reads labelled pictures."""

from collections.abc import Callable, Iterator

from pipeline.data.files import input_files
from pipeline.data.formats import format_of
from pipeline.data.formats.format import Format, LabelledFormat, Pair
from pipeline.data.ignored import UNPAIRED, Ignored
from pipeline.data.labelled.splits import in_split
from pipeline.data.rows import name_problem, printable
from pipeline.errors import NoInputError


def pairs(reader: Format, root: str, split: str, ignored: Ignored, tell: Callable[[str], None]) -> Iterator[Pair]:
    """List every picture of the split, with its mask. Masks are not opened here.

    Args:
        reader: of the shards.
        root: folder or prefix of the data.
        split: whose shards are taken.
        ignored: counts the files of the split that are no such shards, or hold no pictures, and images without a pair.
        tell: is given a line on how the first shard is read, where there is something to know.

    Raises:
        ShardError: a shard is damaged.
        ConfigError: a shard holds no masks, or its columns cannot be told.
        StorageError: the storage does not answer.
    """
    assert isinstance(reader, LabelledFormat)
    first = True
    for entry in input_files(root, ignored.add):
        if not in_split(entry.key, split):
            continue
        own = format_of(entry.key)
        if own is None or own.name != reader.name:
            ignored.add_file(entry, own)
            continue
        if problem := name_problem(entry):
            yield Pair(printable(entry.key), None, None, str(problem))
            continue
        try:
            if first and (reading := reader.check(entry, labelled=True)):
                tell(reading)
            first = False
            yield from reader.pairs(entry, lambda uri: ignored.add(UNPAIRED, uri))
        except NoInputError as error:
            ignored.add_no_input(error)
