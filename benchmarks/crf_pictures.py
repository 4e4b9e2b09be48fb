"""Photographs at the size of PASCAL VOC's pictures, a network's logits of them, and the CRF settings to measure."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images  # type: ignore[import-untyped]

from pipeline.models import Predictor
from pipeline.refine.crf import CRFParams

SETTINGS = {
    "67/3/4": CRFParams(),
    "80/13/10": CRFParams(gaussian_xy=3, bilateral_xy=80, bilateral_rgb=13, bilateral_weight=10),
}
HEIGHT, WIDTH, STRIDE = 375, 500, 8


@cache
def photographs() -> dict[str, NDArray[np.uint8]]:
    """Load six photographs of scikit-image and scikit-learn, (HEIGHT, WIDTH, 3) uint8."""
    images = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    china, flower = load_sample_images().images
    images |= {"china": china, "flower": flower}
    return {name: resized(image, HEIGHT, WIDTH) for name, image in images.items()}


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image (H, W, 3)."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def network_logits(predictor: Predictor, image: NDArray[np.uint8], labels: int) -> NDArray[np.float16]:
    """Make logits (labels, h, w) with a network of fewer labels: those of the picture, then those of altered ones.

    The altered pictures are its negative, and it with its colours exchanged and turned around: their logits have the
    smoothness, the range and the doubts of a network's. Each is a point lower than the one before.
    """
    views: list[NDArray[np.uint8]] = []
    while len(views) * len(predictor.model.classes) < labels:
        turned = np.roll(image, len(views) // 2, axis=2)
        views.append(np.ascontiguousarray(255 - turned if len(views) % 2 else turned))
    grids = [grid - np.float16(index) for index, grid in enumerate(predictor.logits(views))]
    return np.concatenate(grids)[:labels]
