"""The layout of PASCAL VOC: ImageSets/Segmentation/SPLIT.txt, JPEGImages/ID.jpg and SegmentationClass/ID.png.

A list has an ID a line.

The split `trainaug` (VOC with the annotations of Hariharan et al.) has its masks in SegmentationClassAug.
"""

from collections.abc import Iterator

from pipeline import storage, text
from pipeline.data.formats.format import Location, Pair
from pipeline.data.formats.images import Images
from pipeline.data.ignored import Ignored
from pipeline.labels import VOC_CLASSES, Labels

LABELS = Labels(classes=VOC_CLASSES)


def pairs(root: str, split: str, ignored: Ignored) -> Iterator[Pair]:  # noqa: ARG001  # lists no folder
    """List the pictures that the split's list names. One that is not there is missed when it is fetched.

    Raises:
        ConfigError: the list is no text.
    """
    listed = storage.join(root, "ImageSets", "Segmentation", f"{split}.txt")
    lines = text.decode(storage.read_bytes(listed), storage.redact(listed)).splitlines()
    names = [name for line in lines if (name := line.strip())]
    masks = "SegmentationClassAug" if split.endswith("aug") else "SegmentationClass"
    for name in names:
        yield Pair(
            name,
            _location(root, f"JPEGImages/{name}.jpg"),
            _location(root, f"{masks}/{name}.png"),
        )


def _location(root: str, path: str) -> Location:
    return Location(format=Images(), root=root.rstrip("/"), path=path, key=path)
