"""COCO's panoptic format: a PNG of segment ids for each image, and JSON that says what they are."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.exports.formats.coco import categories, coco_image, coco_masks, run_lengths
from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage


@dataclass(frozen=True, kw_only=True)
class CocoPanoptic(ExportFormat):
    """annotations/panoptic_part-NNNNN.json and, in a folder called as it is, NAME.png.

    R + 256 G + 65536 B of a pixel is the id of its segment. A class of an image is a segment, with the class id + 1 as
    its id and category; 0 is what was not asked for.
    """

    name = "coco-panoptic"

    def check(self) -> None:
        """Raise ConfigError where pycocotools is not installed."""
        coco_masks()

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:
        """See ExportFormat."""
        described, annotations = [], []
        path = f"annotations/panoptic_part-{number:05d}"
        for image in images:
            name = f"{self.name_of(image.key)}.png"
            colours = np.zeros((256, 3), np.uint8)
            segments = []
            for label in image.classes:
                colours[label, :2] = (label + 1) % 256, (label + 1) // 256
                found = run_lengths(image.mask == label)
                box = {"area": found["area"], "bbox": [int(value) for value in found["bbox"]]}
                segments.append({"id": label + 1, "category_id": label + 1, "iscrowd": 0, **box})
            buffer = io.BytesIO()
            Image.fromarray(colours[image.mask]).save(buffer, "PNG")  # (H, W, 3)
            self.put(f"{path}/{name}", buffer.getvalue())
            described.append(coco_image(image))
            annotations.append({"image_id": image.number + 1, "file_name": name, "segments_info": segments})
        classes = zip(categories(self.info.classes), self.info.palette, strict=True)
        coloured = [category | {"color": list(rgb)} for category, rgb in classes]
        content = {"images": described, "annotations": annotations, "categories": coloured}
        self.put(f"{path}.json", json.dumps(content).encode())
