"""The layout of PASCAL VOC: ImageSets/Segmentation/SPLIT.txt, JPEGImages/ID.jpg and SegmentationClass/ID.png.

The split `trainaug` (VOC with the annotations of Hariharan et al.) has its masks in SegmentationClassAug.
"""

from collections.abc import Iterator

from pipeline import storage
from pipeline.data.labelled.pairs import Pair, Place
from pipeline.labels import VOC_CLASSES, Labels

LABELS = Labels(classes=VOC_CLASSES)


def pairs(root: str, split: str) -> Iterator[Pair]:
    """The pictures that the split's list names. One that is not there is found when it is fetched."""
    listed = storage.read_bytes(storage.join(root, "ImageSets", "Segmentation", f"{split}.txt")).decode().split()
    masks = "SegmentationClassAug" if split.endswith("aug") else "SegmentationClass"
    for name in listed:
        yield Pair(
            name,
            Place(storage.join(root, "JPEGImages", f"{name}.jpg")),
            Place(storage.join(root, masks, f"{name}.png")),
        )
