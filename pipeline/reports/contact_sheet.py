"""A contact sheet: for each picture a row with the picture, its truth, the network's mask and the refined mask."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import ConfigError

Pixels = NDArray[np.uint8]

CAPTIONS = ("image", "truth", "network", "refined")
MARGIN, GAP = 24, 10
CAPTION_SIZE, KEY_SIZE = 17, 12
INK, FAINT, PAPER = (32, 34, 38), (112, 116, 124), (252, 252, 250)
VOID = (200, 200, 200)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One picture of the sheet.

    Attributes:
        key: shown below the picture.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) uint8 labels, or None; labels without a colour, such as 255, are grey.
        network: (H, W) uint8, the network's labels.
        refined: (H, W) uint8, the labels after the CRF.
        note: shown at the right below the picture's masks, such as its scores.
    """

    key: str
    image: Pixels
    truth: Pixels | None
    network: Pixels
    refined: Pixels
    note: str = ""


def contact_sheet(rows: Iterable[Row], palette: Pixels, classes: Sequence[str], width: int = 280) -> bytes:
    """Draw the sheet.

    Args:
        rows: the pictures, each shown `width` pixels wide.
        palette: (C, 3) uint8 RGB.
        classes: their C names, for the legend.
        width: of a column, in pixels.

    Returns:
        An encoded PNG. The truth's column is left out where no row has a truth.

    Raises:
        ConfigError: there is no row, the palette does not fit the classes, or a mask does not fit its picture.
    """
    rows = list(rows)
    if not rows or len(palette) != len(classes):
        raise ConfigError(f"a contact sheet needs rows ({len(rows)} given), and {len(classes)} classes as many colours")
    captions = [name for name in CAPTIONS if name != "truth" or any(row.truth is not None for row in rows)]
    strips = [_strip(row, captions, palette, width) for row in rows]
    legend = _legend(palette, classes, strips[0].width)
    top = MARGIN + CAPTION_SIZE + GAP
    height = top + sum(strip.height + GAP for strip in strips) + legend.height + MARGIN
    sheet = Image.new("RGB", (strips[0].width + 2 * MARGIN, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(captions):
        draw.text((MARGIN + column * (width + GAP), MARGIN - 6), name, INK, _font(CAPTION_SIZE))
    for strip in strips:
        sheet.paste(strip, (MARGIN, top))
        top += strip.height + GAP
    sheet.paste(legend, (MARGIN, top))
    png = io.BytesIO()
    sheet.save(png, "PNG")
    return png.getvalue()


def _strip(row: Row, captions: Sequence[str], palette: Pixels, width: int) -> Image.Image:
    """Draw one row: the pictures side by side, and below them the key and the note."""
    size = width, max(round(width * row.image.shape[0] / row.image.shape[1]), 1)
    strip = Image.new("RGB", (len(captions) * (width + GAP) - GAP, size[1] + KEY_SIZE + 8), PAPER)
    draw = ImageDraw.Draw(strip)
    for column, name in enumerate(captions):
        left = column * (width + GAP)
        labels = {"truth": row.truth, "network": row.network, "refined": row.refined}.get(name)
        if name == "image":
            strip.paste(Image.fromarray(row.image).resize(size, Image.Resampling.LANCZOS), (left, 0))
        elif labels is None:
            draw.text((left, 0), f"no {name}", FAINT, _font(KEY_SIZE))
        elif labels.shape != row.image.shape[:2]:
            raise ConfigError(f"{row.key}: the {name} mask is {labels.shape}, the picture {row.image.shape[:2]}")
        else:
            strip.paste(colourize(labels, palette).resize(size, Image.Resampling.NEAREST), (left, 0))
    draw.text((0, size[1] + 3), row.key, FAINT, _font(KEY_SIZE))
    draw.text((strip.width, size[1] + 3), row.note, FAINT, _font(KEY_SIZE), anchor="ra")
    return strip


def colourize(labels: Pixels, palette: Pixels) -> Image.Image:
    """Paint a mask (H, W) in the colours (C, 3) of its classes; labels from C on are grey."""
    colours = np.full((256, 3), VOID, np.uint8)
    colours[: len(palette)] = palette
    return Image.fromarray(colours[labels])


def _legend(palette: Pixels, classes: Sequence[str], width: int) -> Image.Image:
    """Draw swatches with class names, wrapped to the sheet's width."""
    font, line = _font(KEY_SIZE), KEY_SIZE + 12
    places, x, y = [], 0, 0
    for name in classes:
        step = int(font.getlength(name)) + 42
        if x and x + step > width:
            x, y = 0, y + line
        places.append((x, y))
        x += step
    legend = Image.new("RGB", (width, y + line), PAPER)
    draw = ImageDraw.Draw(legend)
    for (x, y), name, colour in zip(places, classes, palette.tolist(), strict=True):
        draw.rounded_rectangle((x, y + 3, x + 17, y + 16), 3, tuple(colour), FAINT)
        draw.text((x + 24, y + 2), name, INK, font)
    return legend


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
