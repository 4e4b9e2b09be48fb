"""A DeepLab network: trunk, head and card as one module, with everything needed to run it on a picture."""

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline import logits
from pipeline.errors import ModelError
from pipeline.models.architecture import Architecture
from pipeline.models.backbones.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Pyramid
from pipeline.models.backbones.resnet import BLOCKS, ResNet
from pipeline.models.backbones.vgg import VGG16
from pipeline.models.card import ModelCard, Preprocessing
from pipeline.models.heads import ASPP, Decoder, DeepLabV3Head, FullyConvolutionalASPP, Pointwise
from pipeline.models.multiscale import fused_logits, valid_step

Image = NDArray[np.uint8]


class SegmentationModel(nn.Module):
    """Trunk and head, with the card that travels with the weights.

    `forward` is the bare network at one scale, which is what training needs; `probabilities` adds the card's scales.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        trunk = build_trunk(card.architecture)
        self.trunk = trunk
        self.head = build_head(card.architecture, trunk.channels, len(card.classes))

    @property
    def stride(self) -> int:
        """Output stride, in pixels."""
        return self.card.architecture.stride

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by class index."""
        return self.card.classes

    @property
    def palette(self) -> NDArray[np.uint8]:
        """(classes, 3) uint8 RGB."""
        return np.array(self.card.palette, np.uint8)

    @property
    def digest(self) -> str:
        """Sha256 hex digest of the weights as they are now and of the part of the card that decides what they do."""
        digest = hashlib.sha256(json.dumps(self.card.behaviour(), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            if not name.endswith("num_batches_tracked"):
                digest.update(name.encode())
                digest.update(value.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()

    def preprocess(self, image: Image) -> Tensor:
        """(H, W, 3) uint8 RGB -> (3, H, W) float32 in the network's channel order, scaled as its weights expect.

        Raises:
            ModelError: `image` is of another shape or dtype.
        """
        return preprocess(image, self.card.preprocessing)

    def forward(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) of sizes s m + 1 -> class scores (N, C, (H-1)/s + 1, (W-1)/s + 1), s the stride; no softmax.

        Raises:
            ModelError: a side is not s m + 1; pad at the bottom and right with zeros, the mean colour.
        """
        height, width = batch.shape[-2:]
        if (height - 1) % self.stride or (width - 1) % self.stride:
            raise ModelError(
                f"{height}x{width} pixels are not a valid size at output stride {self.stride}: "
                f"pad to {logits.valid_size(height, self.stride)}x{logits.valid_size(width, self.stride)}"
            )
        grid: Tensor = self.head(self.trunk(pad(batch, self.card.architecture.step)))  # (N, C, h, w)
        return grid[..., : (height - 1) // self.stride + 1, : (width - 1) // self.stride + 1]

    @torch.inference_mode()
    def probabilities(self, image: Image) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> class probabilities (C, H, W) float32 by the card's scales, the picture whole."""
        height, width = image.shape[:2]
        batch = pad(self.preprocess(image), valid_step(self.stride, self.card.scales))[None]
        device = next(self.parameters()).device
        grid = fused_logits(self, batch.to(device), self.card.scales, flip=False)[0]  # (C, h, w)
        full = logits.upsample(grid.float().cpu().numpy(), height, width, self.stride)
        return logits.softmax(full, out=full)


def preprocess(image: Image, how: Preprocessing) -> Tensor:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32, (pixel - mean) / std in the order of `how.channels`."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ModelError(f"an image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for plane, name, mean, std in zip(planes, how.channels, how.mean, how.std, strict=True):
        np.subtract(image[:, :, "RGB".index(name)], np.float32(mean), out=plane)
        plane /= np.float32(std)
    return torch.from_numpy(planes)


def pad(planes: Tensor, step: int) -> Tensor:
    """Zeros, which are the mean colour once preprocessed, at the bottom and right up to sizes k * step + 1."""
    height, width = planes.shape[-2:]
    bottom = logits.valid_size(height, step) - height
    right = logits.valid_size(width, step) - width
    return functional.pad(planes, (0, right, 0, bottom)) if bottom or right else planes


def build_trunk(architecture: Architecture) -> EfficientNetLite0 | VGG16 | ResNet:
    """The trunk with random weights."""
    if architecture.head == "decoder":
        return EfficientNetLite0Pyramid()
    if architecture.trunk == "efficientnet_lite0":
        return EfficientNetLite0()
    if architecture.resnet is None:
        return VGG16(average_pool=architecture.head == "largefov")
    return ResNet(BLOCKS[architecture.trunk], architecture.resnet)


def build_head(architecture: Architecture, in_channels: int, classes: int) -> nn.Module:
    """The head with the authors' initialisation, N(0, 0.01)."""
    if architecture.head == "decoder":
        return Decoder(EfficientNetLite0Pyramid.levels, classes, architecture.rates)
    if architecture.head == "pointwise":
        return Pointwise(in_channels, classes)
    if architecture.head == "deeplabv3":
        return DeepLabV3Head(in_channels, classes, architecture.rates)
    if architecture.trunk == "vgg16":
        return FullyConvolutionalASPP(in_channels, classes, architecture.rates)
    return ASPP(in_channels, classes, architecture.rates)
