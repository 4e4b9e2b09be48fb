"""A directory that FiftyOne reads as `ImageSegmentationDirectory`."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage

_SUFFIXES = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp", b"II": "tif", b"MM": "tif"}
"""Of pictures, by their first two bytes."""


@dataclass(frozen=True, kw_only=True)
class FiftyOne(ExportFormat):
    """data/NAME.SUFFIX and labels/NAME.png, grey, whose values are class ids; mask_targets.json names these.

    FiftyOne shows pictures: an image whose picture is gone is left out.
    """

    name = "fiftyone"
    needs_pictures = True
    part_images = 200

    def begin(self) -> None:
        """Write the classes by id, for `dataset.default_mask_targets`."""
        self.put("mask_targets.json", json.dumps(dict(enumerate(self.info.classes)), indent=1).encode())

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:  # noqa: ARG002
        """See ExportFormat."""
        for image in images:
            if not isinstance(image.picture, bytes):
                continue
            name = self.name_of(image.key)
            buffer = io.BytesIO()
            Image.fromarray(image.mask).save(buffer, "PNG")
            self.put(f"data/{name}.{_SUFFIXES.get(image.picture[:2], 'jpg')}", image.picture)
            self.put(f"labels/{name}.png", buffer.getvalue())
