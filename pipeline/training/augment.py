"""Augment a picture and its mask by random scale, crop and mirror, as the authors do, and by colour and CutMix."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from pipeline.labels import IGNORE
from pipeline.training.recipe import Recipe

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]


def augment(
    image: Pixels, mask: Pixels, recipe: Recipe, fill: Colour, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """Cut one training example out of a picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 labels.
        recipe: scale range, crop, probability of mirroring and change of colours.
        fill: the model's mean colour, RGB.
        rng: decides scale, place, mirroring and colours.

    Returns:
        Picture (crop, crop, 3) and mask (crop, crop).
    """
    image, mask = rescale(image, mask, rng.uniform(recipe.scale_min, recipe.scale_max))
    top, left = (int(rng.integers(max(side - recipe.crop, 0) + 1)) for side in mask.shape)
    image, mask = (plane[top : top + recipe.crop, left : left + recipe.crop] for plane in (image, mask))
    mirrored = rng.uniform() < recipe.mirror
    if recipe.colour_jitter:
        image = recolour(image, rng.uniform(1 - recipe.colour_jitter, 1 + recipe.colour_jitter, 3))
    image, mask = pad(image, mask, recipe.crop, fill)  # last, so that it stays the mean colour, which becomes zero
    if mirrored:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)


def cut_mix(
    example: tuple[Pixels, Pixels], other: tuple[Pixels, Pixels], rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """Show in a window of an example what another has there (CutMix, arXiv 1905.04899, with labels for each pixel).

    Args:
        example: picture (crop, crop, 3) and mask (crop, crop).
        other: likewise.
        rng: decides the window: each side by itself from 0.3 to 0.8 of the crop's, and its place.

    Returns:
        Picture and mask, both new.
    """
    crop = len(example[1])
    height, width = (int(crop * share) for share in rng.uniform(0.3, 0.8, 2))
    top, left = (int(rng.integers(crop - side + 1)) for side in (height, width))
    window = slice(top, top + height), slice(left, left + width)
    image, mask = (plane.copy() for plane in example)
    image[window], mask[window] = other[0][window], other[1][window]
    return image, mask


def rescale(image: Pixels, mask: Pixels, scale: float) -> tuple[Pixels, Pixels]:
    """Resize both by `scale`: the picture bilinearly, the mask by the nearest label."""
    height, width = mask.shape
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized), np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def pad(image: Pixels, mask: Pixels, side: int, fill: Colour) -> tuple[Pixels, Pixels]:
    """Fill up to `side` x `side` at the bottom and right, with the mean colour and the label that nothing counts."""
    height, width = mask.shape
    shape = max(height, side), max(width, side)
    wide_image, wide_mask = np.full((*shape, 3), fill, np.uint8), np.full(shape, IGNORE, np.uint8)
    wide_image[:height, :width], wide_mask[:height, :width] = image, mask
    return wide_image, wide_mask


def recolour(image: Pixels, factors: Iterable[float]) -> Pixels:
    """Multiply the picture's brightness, then its contrast, then its saturation; 1 leaves each as it is."""
    picture = Image.fromarray(image)
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        picture = enhance(picture).enhance(factor)
    return np.asarray(picture)
