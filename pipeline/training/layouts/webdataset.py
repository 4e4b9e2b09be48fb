"""WebDataset tars of one split, SPLIT*.tar or SPLIT/*.tar: the members of a sample share a name up to its first dot.

The mask is NAME.mask.png, NAME.seg.png, NAME.label.png, or NAME.png beside a picture that is no PNG.
"""

import tarfile
from collections.abc import Iterator

from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.images import EXTENSIONS
from pipeline.training.pairs import Pair, Place

_MASKS = (".mask.png", ".seg.png", ".label.png")
_READ_AHEAD_BYTES = 256 * 1024


def pairs(root: str, split: str) -> Iterator[Pair]:
    """Every sample that has a picture."""
    for entry in storage.list_files(root):
        if entry.key.startswith(split) and entry.key.endswith(".tar"):
            for key, members in _samples(entry.uri):
                image = next((s for s in members if s.lower() in EXTENSIONS and s != ".png"), ".png")
                mask = next((s for s in (*_MASKS, ".png") if s in members and s != image), None)
                if image in members:
                    yield Pair(f"{entry.key}/{key}", members[image], members[mask] if mask else None)


def _samples(uri: str) -> Iterator[tuple[str, dict[str, Place]]]:
    """Name and members of each sample, by what follows the name; neighbours in the tar belong together."""
    samples: dict[str, dict[str, Place]] = {}
    try:
        with (
            storage.opened(uri, _READ_AHEAD_BYTES) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for member in archive:
                folder, slash, name = member.name.rpartition("/")
                stem, dot, suffix = name.partition(".")
                if member.isfile() and stem:
                    place = Place(uri, member.offset_data, member.size)
                    samples.setdefault(f"{folder}{slash}{stem}", {})[f"{dot}{suffix}"] = place
    except tarfile.TarError as error:
        raise ConfigError(f"{storage.redact(uri)} is not a readable tar: {error}") from error
    yield from samples.items()
