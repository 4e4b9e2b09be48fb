"""Label Studio's tasks, with masks as predictions of its brush."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pictures import is_own_file
from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage

_WORD_BITS = 8
_SIZE_BITS = (3, 4, 8, 16)
"""Widths in which the length of a run may be written."""


@dataclass(frozen=True, kw_only=True)
class LabelStudio(ExportFormat):
    """tasks/part-NNNNN.json to import, and labels.xml for the labelling interface.

    A task's image is the URI of its source, which Label Studio has to be able to read; an image in a shard has none of
    its own, and is named by its key.
    """

    name = "label-studio"

    def begin(self) -> None:
        """Write the labelling interface."""
        colours = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in self.info.palette]
        labels = "".join(
            f"    <Label value={quoteattr(name)} background={quoteattr(colour)}/>\n"
            for name, colour in zip(self.info.classes, colours, strict=True)
        )
        brush = f'  <BrushLabels name="tag" toName="image">\n{labels}  </BrushLabels>\n'
        interface = f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n{brush}</View>\n'
        self.put("labels.xml", interface.encode())

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:
        """See ExportFormat."""
        tasks = []
        for image in images:
            height, width = image.mask.shape
            result = [
                {
                    "id": f"{image.number}-{label}",
                    "type": "brushlabels",
                    "from_name": "tag",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {
                        "format": "rle",
                        "rle": brush_run_lengths(image.mask == label),
                        "brushlabels": [self.info.classes[label]],
                    },
                }
                for label in image.classes
            ]
            version = f"{self.info.model} {self.info.generation}"
            prediction: dict[str, Any] = {"model_version": version, "result": result}
            if not np.isnan(image.confidence):
                prediction["score"] = image.confidence
            data = {"image": image.source if is_own_file(image.source) else image.key, "key": image.key}
            tasks.append({"data": data, "predictions": [prediction]})
        self.put(f"tasks/part-{number:05d}.json", json.dumps(tasks).encode())


def brush_run_lengths(region: NDArray[np.bool_]) -> list[int]:
    """Encode a region (H, W) as Label Studio's brush does, as bytes.

    The picture is RGBA, 0 or 255 in all four, row by row. Its values are written as @thi.ng/rle-pack does: 32 bits for
    their count, 5 for the bits of a value less one, 4 for each width of lengths less one; then for each run the bit 1,
    2 bits that choose a width, the length less one in that width, and the value.
    """
    values = region.ravel()
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    lengths = 4 * np.diff(np.append(starts, len(values)))
    bits = [f"{4 * len(values):032b}", f"{_WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _SIZE_BITS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = "1" * _WORD_BITS if values[start] else "0" * _WORD_BITS
        while length:
            some = min(length, 1 << _SIZE_BITS[-1])
            width = next(index for index, size in enumerate(_SIZE_BITS) if some <= 1 << size)
            bits.append(f"1{width:02b}{some - 1:0{_SIZE_BITS[width]}b}{value}")
            length -= some
    packed = np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) - ord("0"))
    return list(packed.tolist())
