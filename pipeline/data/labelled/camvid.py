"""The layout of the SegNet tutorial's CamVid: SPLIT/NAME.png beside SPLITannot/NAME.png."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline import storage
from pipeline.data.files import input_files
from pipeline.data.formats.format import Location, Pair
from pipeline.data.formats.images import Images
from pipeline.data.ignored import Ignored
from pipeline.data.rows import name_problem, printable
from pipeline.errors import StorageError
from pipeline.images import EXTENSIONS
from pipeline.labels import Labels

_CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip
_PALETTE = (
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
)  # fmt: skip
LABELS = Labels(classes=_CLASSES, palette=_PALETTE, void=11)


def pairs(root: str, split: str, ignored: Ignored) -> Iterator[Pair]:
    """List the pictures of ROOT/SPLIT with the masks of ROOT/SPLITannot; a mask is named as its picture, in .png.

    A file of another kind is a pair too where a mask has its name and no picture has: it is an error when it is
    decoded, not left out. So is a mask whose name no file has.
    """
    annotated = input_files(storage.join(root, f"{split}annot"), ignored.add)
    masks = {_stem(entry.key): _location(entry) for entry in annotated if entry.key.lower().endswith(".png")}
    if not masks:
        raise StorageError(f"no masks at {storage.redact(storage.join(root, f'{split}annot'))}")
    entries = list(input_files(storage.join(root, split), ignored.add))
    pictures = Counter(_stem(entry.key) for entry in entries if _is_picture(entry.key))
    for name in sorted(masks.keys() - {_stem(entry.key) for entry in entries}):
        yield Pair(printable(f"{split}annot/{masks[name].key}"), None, None, "there is no picture for this mask")
    for entry in entries:
        name = _stem(entry.key)
        if unreadable := name_problem(entry):
            yield Pair(printable(f"{split}/{entry.key}"), None, None, str(unreadable))
        elif _is_picture(entry.key) or (name in masks and not pictures[name]):
            problem = f"{pictures[name]} pictures are called {name!r}, for one mask" if pictures[name] > 1 else None
            yield Pair(f"{split}/{entry.key}", _location(entry), masks.get(name), problem)


def _location(entry: storage.Entry) -> Location:
    return Location.of(Images(), entry, {"key": entry.key})


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


def _is_picture(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in EXTENSIONS
