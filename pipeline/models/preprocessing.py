"""Turn a picture into what a network takes: its order of channels, the scale of its weights, sides of a valid size."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline import logits
from pipeline.errors import ConfigError, ModelError
from pipeline.geometry import LONGEST, Resize
from pipeline.numbers import is_number

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
        finite = all(map(is_number, (*self.mean, *self.std)))
        if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
            raise ConfigError(f"mean {self.mean} and std {self.std} must be three finite numbers each, std above 0")


CAFFE_PREPROCESSING = Preprocessing(channels="BGR", mean=(104.008, 116.669, 122.675))
IMAGENET_PREPROCESSING = Preprocessing(channels="RGB", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
LITE_PREPROCESSING = Preprocessing(channels="RGB", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))


def check_image(image: Image) -> None:
    """Raise ModelError for what is no image (H, W, 3) uint8 of at least a pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ModelError(f"an image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")


class Normaliser:
    """Compute (pixel - mean) / std in the order of `how.channels`, on the device where the pixels are."""

    def __init__(self, how: Preprocessing, device: torch.device) -> None:
        self._flipped = how.channels == "BGR"
        self._mean, self._std = (torch.tensor(values, device=device) for values in (how.mean, how.std))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise (H, W, 3) uint8 RGB: gives (3, H, W) float32, a view with the channels last in memory."""
        height, width, _ = pixels.shape
        ordered = pixels.flip(-1) if self._flipped else pixels
        # a row of the picture as one long vector: a CPU is slow at vectors of three
        rows = ordered.reshape(height, 3 * width).float().sub_(self._mean.repeat(width)).div_(self._std.repeat(width))
        return rows.view(height, width, 3).permute(2, 0, 1)


def preprocess(image: Image, how: Preprocessing) -> Tensor:
    """Compute (pixel - mean) / std in the order of `how.channels`: (H, W, 3) uint8 RGB -> (3, H, W) float32.

    Raises:
        ModelError: `image` is of another shape or dtype.
    """
    check_image(image)
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))
    return Normaliser(how, torch.device("cpu"))(pixels).contiguous()


def resized(image: Image, rule: Resize | None) -> Image:
    """Bring a picture (H, W, 3) uint8 to the sides that `rule` says, with its filter; without a rule leave it.

    Raises:
        ModelError: a side would be longer than LONGEST.
    """
    if rule is None or image.ndim != 3:
        return image
    height, width = rule.of(*image.shape[:2])
    if max(height, width) > LONGEST:
        raise ModelError(
            f"an image of {image.shape[1]}x{image.shape[0]} pixels would be {width}x{height} for the network, whose "
            f"sides may have {LONGEST}; cut the image"
        )
    return np.asarray(PIL.Image.fromarray(image).resize((width, height), rule.resample))


def pad(planes: Tensor, step: int) -> Tensor:
    """Add zeros at the bottom and right up to sides k * step + 1: (..., H, W) -> (..., H', W').

    Zeros are the mean colour once preprocessed.
    """
    height, width = planes.shape[-2:]
    bottom = logits.valid_size(height, step) - height
    right = logits.valid_size(width, step) - width
    return functional.pad(planes, (0, right, 0, bottom)) if bottom or right else planes
