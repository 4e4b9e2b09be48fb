"""Photographs, and probabilities and logits that follow them, for tests of the dense CRF."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from pipeline.logits import grid_size
from pipeline.refine.crf import CRFParams

RELEASED = CRFParams()
SMOOTHER = CRFParams(bilateral_xy=80, bilateral_rgb=13, bilateral_weight=10, gaussian_xy=3)
PHOTOGRAPHS = ("coffee", "rocket", "astronaut", "chelsea")


def picture(name: str = "coffee", height: int = 40, width: int = 50) -> NDArray[np.uint8]:
    photograph = getattr(data, name)()
    return np.asarray(Image.fromarray(photograph).resize((width, height), Image.Resampling.BILINEAR))


def crop(name: str, top: int = 100, left: int = 100, height: int = 72, width: int = 97) -> NDArray[np.uint8]:
    part: NDArray[np.uint8] = getattr(data, name)()[top : top + height, left : left + width]
    return part


def probabilities_for(image: NDArray[np.uint8], labels: int = 5, seed: int = 0) -> NDArray[np.float32]:
    """Probabilities that follow brightness, under smooth noise."""
    height, width = image.shape[:2]
    coarse = np.random.default_rng(seed).normal(size=(labels, height // 3 + 1, width // 3 + 1)) * 1.5
    energy = np.stack([np.asarray(Image.fromarray(layer).resize((width, height))) for layer in coarse])
    energy = energy + 4 * (image.mean(axis=-1) / 255 - 0.5) * np.linspace(-1, 1, labels)[:, None, None]
    p = np.exp(energy)
    normalized: NDArray[np.float32] = (p / p.sum(axis=0)).astype(np.float32)
    return normalized


def logits_for(
    image: NDArray[np.uint8], labels: int = 5, stride: int = 8, seed: int = 0, noise: float = 1.0
) -> NDArray[np.float16]:
    """Logits as a network gives them: brightness of the picture at the stride, and noise."""
    shape = (grid_size(image.shape[0], stride), grid_size(image.shape[1], stride))
    small = np.asarray(Image.fromarray(image).convert("L").resize(shape[::-1], Image.Resampling.BOX)) / 255
    steps = np.linspace(small.min(), small.max(), labels)[:, None, None]
    random = np.random.default_rng(seed).normal(size=(labels, *shape)) * noise
    return (-40 * (small - steps) ** 2 + random).astype(np.float16)
