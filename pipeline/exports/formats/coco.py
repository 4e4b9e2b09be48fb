"""COCO's JSON of instances: a class of an image is an annotation, its mask run-length encoded by pycocotools."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage

_LABELS = 256
"""Ids of annotations that each image has for itself."""


@dataclass(frozen=True, kw_only=True)
class Coco(ExportFormat):
    """annotations/part-NNNNN.json, each a whole COCO file of its images.

    The category of class id c is c + 1: readers take 0 for the background. `file_name` of an image is its key.
    """

    name = "coco"

    def check(self) -> None:
        """Raise ConfigError where pycocotools is not installed."""
        coco_masks()

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:
        """See ExportFormat."""
        described, annotations = [], []
        for image in images:
            described.append(coco_image(image))
            for label, confidence in image.classes.items():
                annotations.append(
                    {
                        "id": image.number * _LABELS + label + 1,
                        "image_id": image.number + 1,
                        "category_id": label + 1,
                        "iscrowd": 0,
                        "score": None if np.isnan(confidence) else round(confidence, 6),
                        **run_lengths(image.mask == label),
                    }
                )
        content = {"images": described, "annotations": annotations, "categories": categories(self.info.classes)}
        self.put(f"annotations/part-{number:05d}.json", json.dumps(content).encode())


def coco_masks() -> Any:
    """Import pycocotools' masks. Raises ConfigError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError("this format needs pycocotools; install it: pip install pycocotools") from error
    return mask


def run_lengths(region: NDArray[np.bool_]) -> dict[str, Any]:
    """Describe a region (H, W) as COCO does: segmentation (compressed run lengths), area in pixels, bbox x, y, w, h."""
    coco = coco_masks()
    encoded = coco.encode(np.asfortranarray(region, np.uint8))
    return {
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
        "area": int(coco.area(encoded)),
        "bbox": [float(value) for value in coco.toBbox(encoded)],
    }


def coco_image(image: ExportedImage) -> dict[str, Any]:
    """Describe an image as COCO does."""
    height, width = image.mask.shape
    return {"id": image.number + 1, "file_name": image.key, "height": height, "width": width, "coco_url": image.source}


def categories(classes: Iterable[str]) -> list[dict[str, Any]]:
    """Describe classes as COCO does; all are stuff, since instances are not told apart."""
    return [{"id": i + 1, "name": name, "supercategory": "", "isthing": 0} for i, name in enumerate(classes)]
