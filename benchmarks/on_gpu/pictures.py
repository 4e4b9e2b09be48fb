"""Pictures and logits to measure with: generated ones, or photographs from a folder."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.logits import grid_size
from pipeline.scenes import scene

HEIGHT, WIDTH = 375, 500
JPEG_QUALITY = 95


def pictures(folder: Path | None, count: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> list[NDArray[np.uint8]]:
    """Load the JPEG files of a folder, in turn, or generate scenes where there is none.

    Returns:
        `count` pictures (H, W, 3) uint8 RGB of `size` = (H, W).

    Raises:
        ValueError: the folder holds no JPEG file.
    """
    if folder is None:
        return [scene(seed, size[::-1])[0] for seed in range(count)]
    files = sorted(folder.glob("*.jpg"))
    if not files:
        raise ValueError(f"{folder} holds no file *.jpg")
    loaded = [
        np.asarray(Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.LANCZOS)) for file in files
    ]
    return [loaded[number % len(loaded)] for number in range(count)]


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture as a camera would."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def made_up_logits(picture: NDArray[np.uint8], labels: int, stride: int, seed: int) -> Tensor:
    """Make logits (labels, h, w) float16: a label for each level of brightness, and noise; all labels are alive."""
    shape = (grid_size(picture.shape[0], stride), grid_size(picture.shape[1], stride))
    grey = np.asarray(Image.fromarray(picture).convert("L").resize(shape[::-1], Image.Resampling.BOX)) / 255
    levels = np.linspace(grey.min(), grey.max(), labels)[:, None, None]
    noise = np.random.default_rng(seed).normal(size=(labels, *shape))
    return torch.from_numpy((noise - 40 * (grey - levels) ** 2).astype(np.float16))
