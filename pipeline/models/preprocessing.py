"""Turn a picture into what a network takes: its order of channels, the scale of its weights, sides of a valid size."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline import logits
from pipeline.errors import ConfigError, ModelError

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Describe (pixel - mean) / std, both in units of 0-255 and in the network's own channel order."""

    channels: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.channels not in ("RGB", "BGR"):
            raise ConfigError(f"channels is {self.channels!r}; it must be 'RGB' or 'BGR'")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean} and std {self.std} must be three numbers each, std above 0")


CAFFE_PREPROCESSING = Preprocessing(channels="BGR", mean=(104.008, 116.669, 122.675))
IMAGENET_PREPROCESSING = Preprocessing(channels="RGB", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
LITE_PREPROCESSING = Preprocessing(channels="RGB", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))


def preprocess(image: Image, how: Preprocessing) -> Tensor:
    """Compute (pixel - mean) / std in the order of `how.channels`: (H, W, 3) uint8 RGB -> (3, H, W) float32.

    Raises:
        ModelError: `image` is of another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ModelError(f"an image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
    planes = np.empty((3, *image.shape[:2]), np.float32)  # (3, H, W)
    for plane, name, mean, std in zip(planes, how.channels, how.mean, how.std, strict=True):
        np.subtract(image[:, :, "RGB".index(name)], np.float32(mean), out=plane)
        plane /= np.float32(std)
    return torch.from_numpy(planes)


def pad(planes: Tensor, step: int) -> Tensor:
    """Add zeros at the bottom and right up to sides k * step + 1: (..., H, W) -> (..., H', W').

    Zeros are the mean colour once preprocessed.
    """
    height, width = planes.shape[-2:]
    bottom = logits.valid_size(height, step) - height
    right = logits.valid_size(width, step) - width
    return functional.pad(planes, (0, right, 0, bottom)) if bottom or right else planes
