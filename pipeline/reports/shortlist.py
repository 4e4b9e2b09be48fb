"""The images that are most worth a look, chosen in one pass over the rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest

import numpy as np

from pipeline.masks import MaskRows, Place
from pipeline.masks.choosing import Highest, chances

PICTURES = 200
LOWEST, EXTREMES, DISAGREEING = 60, 80, 30
"""Of these, images of the lowest confidence, extremes of classes, largest disagreement; the others are random."""

REASONS = {
    "lowest": "lowest confidence",
    "least": "a class at its least certain",
    "most": "a class at its most certain",
    "disagreement": "network and refined mask differ most",
    "random": "random",
}
"""Why an image is shown."""


@dataclass(kw_only=True)
class Chosen:
    """An image that is shown.

    Attributes:
        key, source, digest, confidence: as in MaskRows.
        size: height and width.
        place: of its mask.
        classes: (share of its pixels, confidence) by class id.
        reasons: keys of REASONS.
        disagreement: share of pixels that differ between network and refined mask; None where it is not known.
    """

    key: str
    source: str
    digest: str
    size: tuple[int, int]
    place: Place
    confidence: float
    classes: dict[int, tuple[float, float]]
    reasons: list[str] = field(default_factory=list)
    disagreement: float | None = None

    @classmethod
    def of(cls, rows: MaskRows, index: int) -> "Chosen":
        """Take the image at `index`."""
        total = max(int(rows.pixels[index].sum()), 1)
        return cls(
            key=rows.keys[index],
            source=rows.sources[index],
            digest=rows.digests[index],
            size=(int(rows.sizes[index, 0]), int(rows.sizes[index, 1])),
            place=rows.place(index),
            confidence=float(rows.confidence[index]),
            classes={
                label: (int(rows.pixels[index, label]) / total, float(rows.class_confidence[index, label]))
                for label in np.flatnonzero(rows.pixels[index]).tolist()
            },
        )


class Shortlist:
    """Collects images by reason, and gives about PICTURES of them."""

    def __init__(self, classes: int) -> None:
        """Begin with none, for masks of so many classes."""
        each = max(EXTREMES // (2 * classes), 1)
        self._lowest: Highest[Chosen] = Highest(LOWEST)
        self._least: list[Highest[Chosen]] = [Highest(each) for _ in range(classes)]
        self._most: list[Highest[Chosen]] = [Highest(each) for _ in range(classes)]
        self._random: Highest[Chosen] = Highest(PICTURES)

    def add(self, rows: MaskRows) -> None:
        """Look at masks."""
        item = partial(Chosen.of, rows)
        self._lowest.offer(-rows.confidence, item)
        self._random.offer(chances(rows.keys), item)
        for label in np.flatnonzero(rows.pixels.any(axis=0)).tolist():
            self._least[label].offer(-rows.class_confidence[:, label], item)
            self._most[label].offer(rows.class_confidence[:, label], item)

    def chosen(self, disagreeing: list[Chosen]) -> list[Chosen]:
        """Give the images, each once with all its reasons; random ones fill up what the other reasons leave."""
        by_key: dict[str, Chosen] = {}

        def take(reason: str, images: Iterator[Chosen], most: int) -> None:
            for image in images:
                if len(by_key) >= most and image.key not in by_key:
                    return
                kept = by_key.setdefault(image.key, image)
                kept.disagreement = image.disagreement if kept.disagreement is None else kept.disagreement
                if reason not in kept.reasons:
                    kept.reasons.append(reason)

        take("lowest", iter(self._lowest), LOWEST)
        take("disagreement", iter(disagreeing), LOWEST + DISAGREEING)
        least = (image for row in zip_longest(*self._least) for image in row if image is not None)
        most = (image for row in zip_longest(*self._most) for image in row if image is not None)
        both = LOWEST + DISAGREEING + EXTREMES
        take("least", least, both - EXTREMES // 2)
        take("most", most, both)
        take("random", iter(self._random), PICTURES)
        return list(by_key.values())
