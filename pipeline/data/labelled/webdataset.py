"""WebDataset tars of one split, SPLIT-*.tar or SPLIT/*.tar: the members of a sample share a name up to its first dot.

The mask is NAME.mask.png, NAME.seg.png, NAME.label.png, or NAME.png beside a picture that is no PNG.
"""

import tarfile
from collections.abc import Iterator

from pipeline import storage
from pipeline.data.labelled.pairs import Pair, Place
from pipeline.data.labelled.splits import in_split
from pipeline.data.shard import damage_as_shard_error
from pipeline.images import EXTENSIONS

_MASKS = (".mask.png", ".seg.png", ".label.png")
_READ_AHEAD_BYTES = 256 * 1024

Members = dict[str, Place]
"""By what follows the name of the sample."""


def pairs(root: str, split: str) -> Iterator[Pair]:
    """Every sample that has a picture or a mask."""
    for entry in storage.list_files(root):
        if entry.key.endswith(".tar") and in_split(entry.key, split):
            for name, members in _samples(entry.uri):
                image = next((s for s in members if s.lower() in EXTENSIONS and s != ".png"), ".png")
                mask = next((s for s in (*_MASKS, ".png") if s in members and s != image), None)
                place = members[mask] if mask else None
                if image in members:
                    yield Pair(f"{entry.key}/{name}", members[image], place)
                elif place:
                    told = f"there is no picture for this mask; the sample holds {', '.join(members)}"
                    yield Pair(f"{entry.key}/{name}", None, place, told)


def _samples(uri: str) -> Iterator[tuple[str, Members]]:
    """Name and members of each sample. A name whose members come a second time is a second sample.

    Raises:
        ShardError: the tar is damaged.
        StorageError: the storage does not answer.
    """
    samples: list[tuple[str, Members]] = []
    latest: dict[str, Members] = {}
    with (
        damage_as_shard_error(uri, "tar"),
        storage.opened(uri, _READ_AHEAD_BYTES) as stream,
        tarfile.open(fileobj=stream, mode="r:") as archive,
    ):
        for member in archive:
            folder, slash, name = member.name.rpartition("/")
            stem, dot, suffix = name.partition(".")
            if member.isfile() and stem:
                members = latest.get(f"{folder}{slash}{stem}")
                if members is None or f"{dot}{suffix}" in members:
                    latest[f"{folder}{slash}{stem}"] = members = {}
                    samples.append((f"{folder}{slash}{stem}", members))
                members[f"{dot}{suffix}"] = Place(uri, member.offset_data, member.size)
    yield from samples
