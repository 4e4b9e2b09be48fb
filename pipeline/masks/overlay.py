"""A mask with its image, as a notebook shows it."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ConfigError

_SIDE = 640
"""Longest side of each of the pictures, in pixels."""

_OPACITY = 0.6
_UNNAMED = (200, 200, 200)


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Show a mask: a notebook draws what it is given at the end of a cell.

    Attributes:
        mask: (H, W) uint8 class ids; ids without a name, such as 255, are grey.
        classes: names by class id.
        palette: (R, G, B) of each class.
        image: (H, W, 3) uint8 RGB, that it was made from; without, the mask is shown alone.
        title: above it, such as the image's key.
    """

    mask: NDArray[np.uint8]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    image: NDArray[np.uint8] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigError for an image of another size."""
        if self.image is not None and self.image.shape != (*self.mask.shape, 3):
            raise ConfigError(f"the image is {self.image.shape}, which does not fit a mask of {self.mask.shape}")

    def to_png(self) -> bytes:
        """Draw it: the image and, beside it, the image under the mask; or the mask's colours alone."""
        palette = np.full((256, 3), _UNNAMED, np.uint8)
        palette[: len(self.palette)] = self.palette
        step = -(-max(self.mask.shape) // _SIDE)
        colours = palette[self.mask[::step, ::step]]  # (h, w, 3)
        if self.image is not None:
            size = colours.shape[1::-1]
            image = np.array(Image.fromarray(self.image).resize(size, Image.Resampling.BOX))
            mixed = (_OPACITY * colours + (1 - _OPACITY) * image).astype(np.uint8)
            colours = np.concatenate([image, mixed], axis=1)
        png = io.BytesIO()
        Image.fromarray(colours).save(png, "PNG")
        return png.getvalue()

    def shares(self) -> dict[str, float]:
        """Give the share of the pixels of each class that occurs, the largest first."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes))[: len(self.classes)]
        shares = {self.classes[i]: float(counts[i] / self.mask.size) for i in np.argsort(-counts, kind="stable")}
        return {name: share for name, share in shares.items() if share}

    def _repr_png_(self) -> bytes:
        return self.to_png()

    def _repr_html_(self) -> str:
        colours = {
            name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in zip(self.classes, self.palette, strict=True)
        }
        legend = " ".join(
            f'<span style="white-space:nowrap"><span style="background:{colours[name]};display:inline-block;'
            f'width:0.8em;height:0.8em"></span> {html.escape(name)} {share:.1%}</span>'
            for name, share in self.shares().items()
        )
        data = base64.b64encode(self.to_png()).decode()
        title = html.escape(self.title)
        picture = f'<img src="data:image/png;base64,{data}" alt="{title or "mask"}" style="max-width:100%">'
        return f"<figure><div>{title}</div>{picture}<figcaption>{legend}</figcaption></figure>"
