"""GeoJSON: the connected regions of each image as polygons with holes, in pixels."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage
from pipeline.exports.regions import Ring, regions


@dataclass(frozen=True, kw_only=True)
class GeoJson(ExportFormat):
    """NAME.geojson, a FeatureCollection an image: x to the right and y down, in pixels from the upper left corner.

    Polygons follow the borders of pixels, so that a mask can be drawn from them again, pixel for pixel.
    """

    name = "geojson"

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:  # noqa: ARG002
        """See ExportFormat."""
        for image in images:
            features = [
                {
                    "type": "Feature",
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [_closed(ring) for ring in (region.exterior, *region.holes)],
                    },
                    "properties": {
                        "id": region.label,
                        "class": self.info.classes[region.label],
                        "pixels": region.area,
                        "confidence": _number(image.classes[region.label]),
                    },
                }
                for region in regions(image.mask, image.classes)
            ]
            height, width = image.mask.shape
            content = {"type": "FeatureCollection", "key": image.key, "height": height, "width": width}
            self.put(f"{self.name_of(image.key)}.geojson", json.dumps(content | {"features": features}).encode())


def _closed(ring: Ring) -> list[list[int]]:
    return [list(point) for point in (*ring, ring[0])]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
