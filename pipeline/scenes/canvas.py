"""The picture and its truth while a scene is painted, back to front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.scenes.textures import Array

SUPERSAMPLE = 3
Point = tuple[float, float]


class Stencil:
    """A shape drawn at `SUPERSAMPLE` times the resolution; points are (x, y) in pixels of the picture."""

    def __init__(self, height: int, width: int) -> None:
        self._image = Image.new("L", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point], inside: bool = True) -> None:
        """Fill a polygon, or cut it out."""
        self._draw.polygon([(x * SUPERSAMPLE, y * SUPERSAMPLE) for x, y in points], fill=255 * inside)

    def line(self, start: Point, end: Point, width: float, end_width: float | None = None) -> None:
        """Draw a straight stroke that tapers from `width` to `end_width` (the same where not given)."""
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        nx, ny = (y0 - y1) / length / 2, (x1 - x0) / length / 2
        w0, w1 = width, width if end_width is None else end_width
        self.polygon([(x0 + nx * w0, y0 + ny * w0), (x1 + nx * w1, y1 + ny * w1),
                      (x1 - nx * w1, y1 - ny * w1), (x0 - nx * w0, y0 - ny * w0)])  # fmt: skip

    def ellipse(self, x: float, y: float, rx: float, ry: float, inside: bool = True) -> None:
        """Fill an ellipse about (x, y), or cut it out."""
        box = [(x - rx) * SUPERSAMPLE, (y - ry) * SUPERSAMPLE, (x + rx) * SUPERSAMPLE, (y + ry) * SUPERSAMPLE]
        self._draw.ellipse(box, fill=255 * inside)

    def coverage(self) -> Array:
        """Return the share of each pixel (H, W) that the shape covers, 0..1."""
        return np.asarray(self._image.reduce(SUPERSAMPLE), np.float32) / 255


@dataclass
class Sprite:
    """One object ready to be painted: its coverage (H, W) in 0..1, its colours (3, H, W), and where it stands.

    The foot line of the object is y = foot + slope * x, in pixels; its shadow starts there.
    """

    label: int
    coverage: Array
    colours: Array
    foot: float
    slope: float = 0.0


@dataclass(frozen=True)
class Sun:
    """Light from the side: a thing h pixels high throws its shadow `lean`*h to the right and `reach`*h downwards."""

    lean: float
    reach: float
    strength: float

    @property
    def side(self) -> float:
        """Return -1 where the light comes from the left, 1 where it comes from the right."""
        return -math.copysign(1.0, self.lean)


class Canvas:
    """A picture (3, H, W) float32 in 0..1 and its truth (H, W) uint8; each thing painted hides what is behind."""

    def __init__(self, image: Array, label: int) -> None:
        self.image = image.astype(np.float32)
        self.truth: NDArray[np.uint8] = np.full(image.shape[1:], label, np.uint8)

    def paint(self, label: int, coverage: Array, colours: Array) -> None:
        """Blend colours in by their coverage; the truth changes where they cover more than half of a pixel."""
        rows, columns = _extent(coverage)
        behind, share = self.image[:, rows, columns], coverage[rows, columns]
        behind += (np.broadcast_to(colours, self.image.shape)[:, rows, columns] - behind) * share
        self.truth[coverage > 0.5] = label

    def place(self, sprite: Sprite, sun: Sun, ground_labels: Sequence[int]) -> None:
        """Throw the soft shadow of an object on the ground, then paint the object."""
        shadow = _cast(sprite, sun)
        rows, columns = _extent(shadow)
        on_ground = shadow[rows, columns] * np.isin(self.truth[rows, columns], ground_labels)
        self.image[:, rows, columns] *= 1.0 - sun.strength * on_ground
        self.paint(sprite.label, sprite.coverage, sprite.colours)


def _extent(coverage: Array) -> tuple[slice, slice]:
    """Return the rows and columns that hold all of a shape; empty where there is nothing of it."""
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _cast(sprite: Sprite, sun: Sun) -> Array:
    """Compute the shadow (H, W) of an upright thing: its own outline laid down from its foot line, and blurred."""
    # A point h above its foot (x, foot + slope*x) darkens (x + lean*h, foot + slope*x + reach*h): solved for the point.
    fall = sun.reach - sun.lean * sprite.slope
    hx, hy, h0 = -sprite.slope / fall, 1 / fall, -sprite.foot / fall
    x_row = (1 - sun.lean * hx, -sun.lean * hy, -sun.lean * h0)
    y_row = (sprite.slope * x_row[0] - hx, sprite.slope * x_row[1] - hy, sprite.foot + sprite.slope * x_row[2] - h0)
    outline = Image.fromarray((sprite.coverage * 255).astype(np.uint8))
    laid = outline.transform(outline.size, Image.Transform.AFFINE, (*x_row, *y_row), Image.Resampling.BILINEAR)
    return np.asarray(laid.filter(ImageFilter.BoxBlur(outline.height / 100)), np.float32) / 255
