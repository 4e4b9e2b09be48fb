"""Join backbone, head and card to a DeepLab network, with everything needed to run it on a picture."""

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import logits
from pipeline.errors import ModelError
from pipeline.geometry import Geometry, aligned
from pipeline.models.card import ModelCard
from pipeline.models.multiscale import fused_logits
from pipeline.models.network import Network
from pipeline.models.preprocessing import Image, pad
from pipeline.models.scales import valid_step
from pipeline.models.stored_names import stored_state


class SegmentationModel(Network):
    """Hold a backbone and a head, with the card that travels with their weights.

    `forward` is the bare network at one scale, which is what training needs; `probabilities` adds the card's scales.
    """

    card: ModelCard

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.backbone = card.architecture.build_backbone()
        self.head = card.architecture.build_head(len(card.classes))

    @property
    def network(self) -> str:
        """Name what computes the logits: the backbone and the head."""
        return f"{self.card.architecture.backbone}, {self.card.architecture.head}"

    @property
    def stride(self) -> int:
        """Return the output stride, in pixels."""
        return self.card.architecture.stride

    @property
    def step(self) -> int:
        """Return the step of the sizes that `forward` takes, in pixels: step * m + 1."""
        return self.stride

    @property
    def geometry(self) -> Geometry:
        """Return where the logits lie in the picture."""
        return aligned(self.stride)

    @property
    def digest(self) -> str:
        """Compute the sha256 of the weights as they are now and of the part of the card that decides what they do.

        Returns:
            the hex digest; outputs are matched by it, so it is taken under the names that are stored.
        """
        digest = hashlib.sha256(json.dumps(self.card.behaviour(), sort_keys=True).encode())
        for name, value in sorted(stored_state(self.state_dict()).items()):
            if not name.endswith("num_batches_tracked"):
                digest.update(name.encode())
                digest.update(value.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the logits, before softmax, of preprocessed pictures at one scale.

        Args:
            batch: (N, 3, H, W), sides s m + 1 with s the output stride.

        Returns:
            (N, C, (H-1)/s + 1, (W-1)/s + 1).

        Raises:
            ModelError: a side is not s m + 1; pad at the bottom and right with zeros, the mean colour.
        """
        height, width = batch.shape[-2:]
        if (height - 1) % self.stride or (width - 1) % self.stride:
            raise ModelError(
                f"{height}x{width} pixels are not a valid size at output stride {self.stride}: "
                f"pad to {logits.valid_size(height, self.stride)}x{logits.valid_size(width, self.stride)}"
            )
        grid = self.grid(pad(batch, self.card.architecture.step))  # (N, C, h, w)
        return grid[..., : (height - 1) // self.stride + 1, : (width - 1) // self.stride + 1]

    def grid(self, batch: Tensor) -> Tensor:
        """Compute the logits as `forward` does, of sides that the backbone takes as they are."""
        logits: Tensor = self.head(self.backbone(batch))
        return logits

    @torch.inference_mode()
    def probabilities(self, image: Image) -> NDArray[np.float32]:
        """Compute class probabilities at the card's scales, without tiles: (H, W, 3) uint8 RGB -> (C, H, W) float32.

        Raises:
            ModelError: `image` is of another shape or dtype.
        """
        height, width = image.shape[:2]
        batch = pad(self.preprocess(image), valid_step(self.stride, self.card.scales))[None]  # (1, 3, H', W')
        device = next(self.parameters()).device
        [grid] = fused_logits(self, batch.to(device), self.card.scales, False, self.card.fusion)  # (C, h, w)
        full = logits.upsample(grid.float().cpu().numpy(), height, width, self.geometry)  # (C, H, W)
        return logits.softmax(full, out=full)
