"""The formats of exports, a file for each. To add one: a class in a file of its own, like those below, and a line."""

from typing import TYPE_CHECKING, Literal

from pipeline.exports.formats.coco import Coco
from pipeline.exports.formats.coco_panoptic import CocoPanoptic
from pipeline.exports.formats.fiftyone import FiftyOne
from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.formats.geojson import GeoJson
from pipeline.exports.formats.huggingface import HuggingFace
from pipeline.exports.formats.label_studio import LabelStudio
from pipeline.exports.formats.png import Png

FORMATS: dict[str, type[ExportFormat]] = {
    Png.name: Png,
    Coco.name: Coco,
    CocoPanoptic.name: CocoPanoptic,
    LabelStudio.name: LabelStudio,
    HuggingFace.name: HuggingFace,
    FiftyOne.name: FiftyOne,
    GeoJson.name: GeoJson,
}
"""By name."""

if TYPE_CHECKING:
    ExportName = str
else:
    ExportName = Literal[tuple(FORMATS)]

__all__ = ["FORMATS", "ExportFormat", "ExportName"]
