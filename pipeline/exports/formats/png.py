"""Palette PNGs in the folders of PASCAL VOC, which CVAT imports as `Segmentation mask 1.1`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline import masks
from pipeline.exports.formats.format import ExportFormat
from pipeline.exports.image import ExportedImage


@dataclass(frozen=True, kw_only=True)
class Png(ExportFormat):
    """SegmentationClass/NAME.png, its index the class id; lists of names by part; labelmap.txt names the colours.

    Readers of VOC find the class of a pixel by its colour. So where two classes share one, masks get VOC's own.
    """

    name = "png"

    def begin(self) -> None:
        """Write labelmap.txt, a line `name:r,g,b:parts:actions` for each class."""
        lines = ["# label:color_rgb:parts:actions"]
        for name, rgb in zip(label_names(self.info.classes), self._palette, strict=True):
            lines.append(f"{name}:{','.join(map(str, rgb))}::")
        self.put("labelmap.txt", ("\n".join(lines) + "\n").encode())

    def part(self, number: int, images: Iterable[ExportedImage]) -> None:
        """See ExportFormat."""
        names = []
        for image in images:
            name = self.name_of(image.key)
            own = self._palette == self.info.palette
            png = image.png if own else masks.encode(image.mask, self._palette)
            self.put(f"SegmentationClass/{name}.png", png)
            names.append(name)
        self.put(f"ImageSets/Segmentation/part-{number:05d}.txt", ("\n".join(names) + "\n").encode())

    @property
    def _palette(self) -> tuple[tuple[int, ...], ...]:
        if len(set(self.info.palette)) == len(self.info.classes):
            return self.info.palette
        return tuple(map(tuple, masks.pascal_palette(len(self.info.classes)).tolist()))


def label_names(classes: Sequence[str]) -> list[str]:
    """Write class names as labelmap.txt can have them, each one different.

    A colon becomes a blank, and a name that would be a comment begins with `_`. What another class is called by then
    ends with `_`.
    """
    names = [name.replace(":", " ").strip() for name in classes]
    names = [f"{'_' * name.startswith('#')}{name}" for name in names]
    taken = set(classes).intersection(names)
    for label, given in enumerate(classes):
        if names[label] == given:
            continue
        while not names[label] or names[label] in taken:
            names[label] += "_"
        taken.add(names[label])
    return names
